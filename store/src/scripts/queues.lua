-- queues: how a ready task comes into its queue: through windows and gates, in a fair order.

-- Whether a queue is that of an assigned agent: `i:<id>`. Everything that costs a request for such
-- agents is behind this question, so that whoever has none pays nothing.
local function is_assigned(queue)
  return string.sub(queue, 1, 2) == 'i:'
end

local function type_list(queue)
  local types = {}
  for slug in string.gmatch(string.sub(queue, 3), '[^+]+') do types[#types + 1] = slug end
  return types
end

-- Wakes every worker that serves all types of a combined queue.
local function ring_combined(queue)
  local types = type_list(queue)
  for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, 49)) do
    local served = call('HGET', prefix .. 'w:' .. inc, 'types') or ''
    local all = true
    for _, slug in ipairs(types) do
      if not find(served, '+' .. slug .. '+', 1, true) then all = false end
    end
    if all then ring('w:' .. inc, 1) end
  end
end

local function queue_for(r, flags, shared)
  if has(flags, 'x') then return 'c:expand' end
  if has(flags, 'b') and r.pin ~= '' then return 'w:' .. r.pin end
  return shared.queue
end

-- Where a task that becomes ready now stands among those of all queues.
local function rank_of(priority)
  local rank = ranks[priority]
  if not rank then
    rank = format('%d', clk + (priority - 1) * PRIORITY_MS)
    ranks[priority] = rank
  end
  return rank
end

-- Adds a task to a queue. `front`: it has waited before and stands first in its level.
local function stand(r, idx, rank, attempt, queue, shared, front)
  local virtual = queue_tags[queue]
  if not virtual then
    virtual = tonumber(call('HGET', prefix .. 'vt', queue) or '0')
    queue_tags[queue] = virtual
    queue_adds[queue] = {}
  end
  local tag
  if front then
    tag = virtual
  else
    local last = r.tags[queue]
    if not last then last = tonumber(call('HGET', r.key, 'v:' .. queue) or '0') end
    tag = math.max(virtual, last) + 1
    r.tags[queue] = tag
  end
  touch(r, idx)
  local id = r.id .. '.' .. idx
  local adds = queue_adds[queue]
  adds[#adds + 1] = format('%d', tag + (shared.priority - 1) * FAIRNESS_K)
  adds[#adds + 1] = rank .. ':' .. id
  tell('queued', id, attempt, '', queue)
end

-- Puts a task into its queue.
local function push(r, idx, rec, shared, front)
  local queue = queue_for(r, rec[FLAGS], shared)
  if rec[RANK] == '' then rec[RANK] = rank_of(shared.priority) end
  rec[ST], rec[PLACE] = 'Q', queue
  if rec[QUEUED] == '' then rec[QUEUED] = now end
  stand(r, idx, rec[RANK], rec[ATT], queue, shared, front)
end

-- Lets a ready task through the run's gate, or holds it in front.
local function enter(r, idx, rec, front)
  local shared = shared_of(r, rec[SHARED])
  if r.conc > 0 and r.inflight >= r.conc then
    if rec[RANK] == '' then rec[RANK] = rank_of(shared.priority) end
    rec[ST], rec[PLACE] = 'Q', 'held'
    if rec[QUEUED] == '' then rec[QUEUED] = now end
    touch(r, idx)
    call('ZADD', r.key .. ':held', rec[RANK], idx)
    tell('queued', r.id .. '.' .. idx, rec[ATT], '', 'held')
  else
    r.inflight = r.inflight + 1
    push(r, idx, rec, shared, front)
  end
  if shared.queue_timeout > 0 and tonumber(rec[ATT]) == 0 then
    call('ZADD', prefix .. 'deadlines', clk + shared.queue_timeout, 'q' .. r.id .. '.' .. idx)
  end
end

-- Lets a task in that has become ready for the first time. Those that look alike get one record.
local function enter_fresh(r, idx, head)
  local shared = shared_of(r, head.shared)
  local like = r.like[head]
  local full = r.conc > 0 and r.inflight >= r.conc
  if full or not like or like.queue ~= queue_for(r, head.flags, shared) then
    local rec = new_record(head)
    r.rec[idx] = rec
    enter(r, idx, rec, false)
    if not full then r.like[head] = { queue = rec[PLACE], rank = rec[RANK], text = join_record(rec) } end
    return
  end
  r.inflight = r.inflight + 1
  r.rec[idx], r.raw[idx] = nil, like.text
  stand(r, idx, like.rank, '0', like.queue, shared, false)
  if shared.queue_timeout > 0 then
    call('ZADD', prefix .. 'deadlines', clk + shared.queue_timeout, 'q' .. r.id .. '.' .. idx)
  end
end

-- A task left the run's gate: the next one held in front may pass.
local function leave(r)
  r.inflight = r.inflight - 1
  if r.conc > 0 then r.freed = r.freed + 1 end
end

local function forget_queue_timeout(r, idx, rec)
  local shared = shared_of(r, rec[SHARED])
  if shared.queue_timeout > 0 then call('ZREM', prefix .. 'deadlines', 'q' .. r.id .. '.' .. idx) end
end

-- Takes a queued task out of the place where it stands.
local function withdraw(r, idx, rec)
  if rec[PLACE] == 'held' then
    call('ZREM', r.key .. ':held', idx)
  else
    call('ZREM', prefix .. 'q:' .. rec[PLACE], rec[RANK] .. ':' .. r.id .. '.' .. idx)
    leave(r)
  end
  if tonumber(rec[ATT]) == 0 then
    forget_queue_timeout(r, idx, rec)
    local w = rec[WINDOW] ~= '' and window_of(r, rec[WINDOW])
    if w and w.limit == 0 then
      w.here = w.here - 1
      r.win_changed[w.name] = true
    end
  end
end

local start_group

-- Starts what is tried anew: its record says which attempt was the last. A range without a limit counts
-- what was never claimed, one with a limit what is out.
local function start_again(r, idx)
  local rec = own_record(r, idx)
  local w = rec[WINDOW] ~= '' and window_of(r, rec[WINDOW])
  if r.head[idx].kind == 'g' then
    start_group(r, idx, rec)
    return
  end
  if w and (w.limit > 0 or rec[ATT] == '0') then
    w.here = w.here + 1
    r.win_changed[w.name] = true
  end
  enter(r, idx, rec, false)
end

-- Releases tasks of a window as far as it has room.
local function refill(r, w)
  if w.next >= w.end_ then return end
  local group = group_of(w.name)
  local flags = ''
  if group then
    load_records(r, { group })
    local rec = r.rec[group]
    if rec[ST] ~= 'R' then return end
    flags = rec[FLAGS]
  end
  if not spared(r, flags) then return end
  if w.limit == 0 and w.here >= READY_WINDOW / 2 then return end
  local most = w.limit > 0 and w.limit or READY_WINDOW
  while w.next < w.end_ and w.here < most do
    local now = math.min(most - w.here, w.end_ - w.next, release_budget)
    if now <= 0 then
      todo[#todo + 1] = 'W ' .. r.id .. ' ' .. w.name
      return
    end
    release_budget = release_budget - now
    local indexes = {}
    for idx = w.next, w.next + now - 1 do indexes[#indexes + 1] = format('%d', idx) end
    w.next = w.next + now
    r.win_changed[w.name] = true
    if w.head then
      for _, idx in ipairs(indexes) do r.head[idx] = w.head end
    else
      load_heads(r, indexes)
    end
    -- A task that was cancelled before its release has a record.
    if r.N > 0 or r.marks ~= '' then load_records(r, indexes) end
    for _, idx in ipairs(indexes) do
      local head = r.head[idx]
      local there = view(r, idx)
      if there and there[ST] == 'B' then
        start_again(r, idx)
      elseif not there and head.kind == 'g' then
        local rec = new_record(head)
        r.rec[idx] = rec
        start_group(r, idx, rec)
      elseif not there then
        w.here = w.here + 1
        enter_fresh(r, idx, head)
      end
    end
  end
end

-- Starts a `foreach` whose items are known.
start_group = function(r, idx, rec)
  local w = window_of(r, 'g' .. idx)
  rec[ST], rec[ATT], rec[STARTED], rec[PLACE] = 'R', format('%d', rec[ATT] + 1), now, ''
  if rec[QUEUED] == '' then rec[QUEUED] = now end
  touch(r, idx)
  tell('started', r.id .. '.' .. idx, rec[ATT], '', '')
  w.open = w.end_ - w.first
  r.win_changed[w.name] = true
  r.open = r.open + w.open
  if w.open == 0 then
    conclude(r, idx, rec, 'C', '', '')
  else
    refill(r, w)
  end
end

local end_run

-- Takes in all that became ready, and what the gate now lets through.
local function admit()
  local again = true
  while again do
    again = false
    settle()
    for _, r in ipairs(run_order) do
      if r.open == 0 and not r.told and marked(r, 'w') then
        r.told = true
        -- Its own end stands before what follows from it in other runs.
        if r.status == 'running' or r.status == 'cancelling' then end_run(r) end
        others[#others + 1] = { r = r, idx = 'run' }
      end
      -- Who was held before goes first.
      while r.freed > 0 do
        local held = r.inflight < r.conc and call('ZPOPMIN', r.key .. ':held', 1) or {}
        if #held == 0 then
          r.freed = 0
        else
          load_records(r, { held[1] })
          local rec = r.rec[held[1]]
          if spared(r, rec[FLAGS]) then
            r.freed = r.freed - 1
            r.inflight = r.inflight + 1
            push(r, held[1], rec, shared_of(r, rec[SHARED]), false)
          else
            withdraw(r, held[1], rec)
            conclude(r, held[1], rec, 'N', '', '')
          end
        end
      end
      local ready = r.ready
      if #ready > 0 then
        again = true
        r.ready = {}
        load_heads(r, ready)
        if marked(r, 'a') then load_records(r, ready) end
        for _, idx in ipairs(ready) do
          local head = r.head[idx]
          local known = r.rec[idx]
          if known and spared(r, head.flags) then
            start_again(r, idx)
          elseif spared(r, head.flags) and head.kind ~= 'g' then
            enter_fresh(r, idx, head)
          else
            local rec = known or new_record(head)
            r.rec[idx] = rec
            if head.kind == 'g' and spared(r, head.flags) then
              start_group(r, idx, rec)
            else
              conclude(r, idx, rec, 'N', '', '')
            end
          end
        end
      end
      local names = {}
      for name in pairs(r.win_changed) do names[#names + 1] = name end
      for _, name in ipairs(names) do
        local w = r.win[name]
        if w.next < w.end_ and (string.sub(name, 1, 1) == 'q' or w.open > 0) then refill(r, w) end
      end
    end
    if ended_at <= #ended or others_at <= #others then again = true end
  end
end

-- Sends what was put into queues, so that a claim in the same call can see it.
local function send_queues()
  for queue, adds in pairs(queue_adds) do
    if #adds > 0 then
      local key = prefix .. 'q:' .. queue
      for i = 1, #adds, 1000 do call('ZADD', key, unpack(adds, i, math.min(i + 999, #adds))) end
      if string.sub(queue, 1, 2) == 's:' then
        call('SADD', prefix .. 'combined', queue)
        ring_combined(queue)
      else
        ring(queue, #adds / 2)
      end
      queue_adds[queue] = {}
    end
  end
end

end_run = function(r)
  if r.stop == 'timeout' or r.stop == 'lost' then r.reason = r.stop end
  r.status = outcome_of(r)
  call('HSET', r.key, 'finished', wall)
  call('ZADD', prefix .. 'done', clk, r.id)
  call('ZREM', prefix .. 'deadlines', 'r' .. r.id)
  if r.pin ~= '' then call('SREM', prefix .. 'pins:' .. r.pin, r.id) end
  tell('run-' .. r.status, r.id, '', '', r.reason)
end

-- Writes all that changed.
local function flush()
  send_queues()
  for _, r in ipairs(run_order) do
    local out = {}
    for idx in pairs(r.changed) do
      out[#out + 1] = idx
      local rec = r.rec[idx]
      out[#out + 1] = rec and join_record(rec) or r.raw[idx]
    end
    for i = 1, #out, 1000 do call('HSET', r.key .. ':task', unpack(out, i, math.min(i + 999, #out))) end
    local keep, drop = {}, {}
    for idx in pairs(r.left_changed) do
      local l = r.left[idx]
      if not l then
        drop[#drop + 1] = idx
      else
        keep[#keep + 1] = idx
        keep[#keep + 1] = l.triggers and (l.needs .. ';' .. l.triggers .. ';' .. (l.fired and 1 or 0)) or l.needs
      end
    end
    for i = 1, #keep, 1000 do call('HSET', r.key .. ':left', unpack(keep, i, math.min(i + 999, #keep))) end
    for i = 1, #drop, 1000 do call('HDEL', r.key .. ':left', unpack(drop, i, math.min(i + 999, #drop))) end
    for name in pairs(r.win_changed) do
      local w = r.win[name]
      call('HSET', r.key .. ':win', name, table.concat({ w.first, w.next, w.end_, w.here, w.limit, w.open, w.failed, w.cancelled, w.reason }, ','))
    end
    if r.open == 0 and (r.status == 'running' or r.status == 'cancelling') then end_run(r) end
    local fields = {}
    for i, name in ipairs(RUN_MUTABLE) do
      local value = r[name]
      if value ~= r.was[i] then
        fields[#fields + 1] = name
        fields[#fields + 1] = value
        r.was[i] = value
      end
    end
    for queue, tag in pairs(r.tags) do
      fields[#fields + 1] = 'v:' .. queue
      fields[#fields + 1] = tag
    end
    if #fields > 0 then call('HSET', r.key, unpack(fields)) end
    r.changed, r.left_changed, r.win_changed, r.tags = {}, {}, {}, {}
  end
  for _, entry in ipairs(todo) do call('RPUSH', prefix .. 'todo', entry) end
  todo = {}
  write_events()
  ring_bells()
end
