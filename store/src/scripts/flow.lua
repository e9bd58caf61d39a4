-- flow: how work moves through a run: ends, edges, windows, gates and queues.
--
-- Shared by every script that ends or starts a task. The order is always: `conclude`
-- what ended, `settle` its edges, `admit` what became ready, `flush` what changed.
-- Work per call is bounded; what is left over stands in `todo` and is done by the next call.

local EDGE_BUDGET = 512
local READY_WINDOW = 256
local RELEASE_BUDGET = 256
local FAIRNESS_K = 1000
local PRIORITY_MS = 60000
local DEADLINE_GRACE_MS = 60000

local RUN_FIELDS = { 'status', 'open', 'C', 'F', 'K', 'N', 'bad', 'stop', 'inflight', 'pin', 'conc', 'ff', 'lostmax', 'bound', 'n', 'reason' }
local RUN_MUTABLE = { 'status', 'open', 'C', 'F', 'K', 'N', 'bad', 'stop', 'inflight', 'pin', 'reason' }

local runs, run_order = {}, {}
local ended, ended_at = {}, 1
local edge_budget, release_budget = EDGE_BUDGET, RELEASE_BUDGET
local todo = {}
local queue_adds, queue_tags = {}, {}

local function run_of(id)
  local r = runs[id]
  if r ~= nil then return r end
  local key = prefix .. 'r:' .. id
  local v = call('HMGET', key, unpack(RUN_FIELDS))
  if not v[1] then
    runs[id] = false
    return false
  end
  r = { id = id, key = key, was = {}, rec = {}, changed = {}, head = {}, body = {}, shared = {}, left = {}, left_changed = {}, win = {}, win_changed = {}, ready = {}, freed = 0, tags = {} }
  for i, name in ipairs(RUN_FIELDS) do
    local value = v[i] or ''
    if i > 1 and name ~= 'stop' and name ~= 'pin' and name ~= 'bound' and name ~= 'ff' and name ~= 'reason' then value = tonumber(value) or 0 end
    r[name] = value
    r.was[name] = value
  end
  runs[id] = r
  run_order[#run_order + 1] = r
  return r
end

-- Reads many fields of one hash at once, in portions that `unpack` can carry.
local function read_many(key, fields, each)
  local i = 1
  while i <= #fields do
    local last = math.min(i + 999, #fields)
    local values = call('HMGET', key, unpack(fields, i, last))
    for j = i, last do each(fields[j], values[j - i + 1]) end
    i = last + 1
  end
end

local function load_records(r, indexes)
  local missing = {}
  for _, idx in ipairs(indexes) do
    if r.rec[idx] == nil then missing[#missing + 1] = idx end
  end
  if #missing == 0 then return end
  read_many(r.key .. ':task', missing, function(idx, text) r.rec[idx] = text and read_record(text) or false end)
end

-- A task's head: kind, shared part, window, flags and what its templates read.
local function load_heads(r, indexes)
  local missing = {}
  for _, idx in ipairs(indexes) do
    if r.head[idx] == nil then missing[#missing + 1] = idx end
  end
  if #missing == 0 then return end
  read_many(r.key .. ':spec', missing, function(idx, text)
    if not text then
      r.head[idx] = false
      return
    end
    local kind, shared, window, flags, needs, body = string.match(text, '^(%a) (%d+) (%S-) (%a-) ([^\n]-)\n(.*)$')
    r.head[idx] = { kind = kind, shared = shared, window = window, flags = flags, needs = needs }
    r.body[idx] = body
  end)
end

-- What tasks have in common, as far as scripts need it.
local function shared_of(r, number)
  local s = r.shared[number]
  if s then return s end
  local text = call('HGET', r.key .. ':spec', 's' .. number)
  local slug, queue, priority, timeout, queue_timeout, attempts, delay, needs = string.match(text, '^(%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d+) ([^\n]-)\n')
  s = { slug = slug, queue = queue, priority = tonumber(priority), timeout = tonumber(timeout), queue_timeout = tonumber(queue_timeout), attempts = tonumber(attempts), delay = tonumber(delay), needs = needs }
  r.shared[number] = s
  return s
end

local function touch(r, idx)
  r.changed[idx] = true
end

local function has(flags, letter)
  return string.find(flags, letter, 1, true) ~= nil
end

-- Windows: ranges of tasks released little by little. Name `q<n>`: roots of one queue;
-- `g<idx>`: items of a `foreach`. Without a limit `here` counts those still queued, with
-- one it counts those not ended.
local function window_of(r, name)
  local w = r.win[name]
  if w ~= nil then return w end
  local text = call('HGET', r.key .. ':win', name)
  if not text then
    r.win[name] = false
    return false
  end
  local first, next_, end_, here, limit, open_, failed, cancelled, reason = string.match(text, '^(%d+),(%d+),(%d+),(%-?%d+),(%d+),(%d+),(%d+),(%d+),(.*)$')
  w = { name = name, first = tonumber(first), next = tonumber(next_), end_ = tonumber(end_), here = tonumber(here), limit = tonumber(limit), open = tonumber(open_), failed = tonumber(failed), cancelled = tonumber(cancelled), reason = reason }
  r.win[name] = w
  return w
end

local function group_of(window)
  return string.sub(window, 1, 1) == 'g' and string.sub(window, 2) or nil
end

-- Whether a run that is being stopped still lets this task start.
local function spared(r, flags)
  return r.stop == '' or (r.stop == 'fail_fast' and has(flags, 'H'))
end

local function stop_run(r, why)
  local stronger = r.stop == '' or (r.stop == 'fail_fast' and why ~= 'fail_fast')
  if not stronger or is_final(r.status) then return end
  r.stop = why
  if why ~= 'fail_fast' then r.status = 'cancelling' end
  todo[#todo + 1] = 'X ' .. r.id .. ' 0 ' .. r.n
  tell('run-stopping', r.id, '', '', why)
end

local conclude

-- An item ended: its group may end with it.
local function item_ended(r, group, st, reason)
  local w = window_of(r, 'g' .. group)
  w.open = w.open - 1
  if w.limit > 0 then w.here = w.here - 1 end
  if st == 'N' then
    w.cancelled = w.cancelled + 1
  elseif st ~= 'C' then
    w.failed = w.failed + 1
    if w.reason == '' then w.reason = reason end
  end
  r.win_changed[w.name] = true
  load_records(r, { group })
  local rec = r.rec[group]
  if w.open > 0 or rec[ST] == 'Q' or is_final(rec[ST]) then return end
  if rec[ST] == 'X' then
    conclude(r, group, rec, 'N', '', '')
  elseif w.failed > 0 then
    conclude(r, group, rec, 'F', w.reason, '')
  elseif w.cancelled > 0 then
    conclude(r, group, rec, 'N', '', '')
  else
    conclude(r, group, rec, 'C', '', '')
  end
end

-- Ends a task for good. Its edges are walked by `settle`.
conclude = function(r, idx, rec, st, reason, exit)
  rec[ST], rec[REASON], rec[EXIT], rec[FINISHED] = st, reason, exit, wall
  rec[RANK], rec[PLACE] = '', ''
  touch(r, idx)
  r.open = r.open - 1
  r[st] = r[st] + 1
  local kind = st == 'C' and 'completed' or st == 'F' and 'failed' or st == 'K' and 'skipped' or 'cancelled'
  tell(kind, r.id .. '.' .. idx, rec[ATT], rec[OWNER], reason .. (exit ~= '' and (':' .. exit) or ''))
  local group = group_of(rec[WINDOW])
  if group then
    item_ended(r, group, st, reason)
    return
  end
  ended[#ended + 1] = { r = r, idx = idx, st = st, flags = rec[FLAGS], chunk = 0 }
  if st == 'F' and not has(rec[FLAGS], 'h') then
    r.bad = r.bad + 1
    if r.ff == '1' then stop_run(r, 'fail_fast') end
  end
end

local function left_of(r, indexes)
  local missing = {}
  for _, idx in ipairs(indexes) do
    if r.left[idx] == nil then missing[#missing + 1] = idx end
  end
  if #missing == 0 then return end
  read_many(r.key .. ':left', missing, function(idx, text)
    if not text then
      r.left[idx] = false
      return
    end
    local needs, triggers, fired = string.match(text, '^(%d+);(%d+);(%d)$')
    if needs then
      r.left[idx] = { needs = tonumber(needs), triggers = tonumber(triggers), fired = fired == '1' }
    else
      r.left[idx] = { needs = tonumber(text) }
    end
  end)
end

local function skip(r, idx)
  load_heads(r, { idx })
  local rec = new_record(r.head[idx])
  r.rec[idx] = rec
  conclude(r, idx, rec, 'K', '', '')
end

-- Tells one portion of a task's dependents that it ended.
local function walk(e)
  local r = e.r
  local field = e.chunk == 0 and e.idx or (e.idx .. '.' .. e.chunk)
  local text = call('HGET', r.key .. ':edge', field)
  if not text then return 0 end
  local targets, kinds = {}, {}
  for kind, target in string.gmatch(text, '(%a)(%d+)') do
    targets[#targets + 1] = target
    kinds[#kinds + 1] = kind
  end
  left_of(r, targets)
  local good = e.st == 'C' or (e.st == 'F' and has(e.flags, 'f')) or (e.st == 'K' and has(e.flags, 's'))
  for i, target in ipairs(targets) do
    local l = r.left[target]
    if l then
      local doomed = false
      if kinds[i] == 'd' then
        if good then l.needs = l.needs - 1 else doomed = true end
      else
        l.triggers = l.triggers - 1
        if (kinds[i] == 's' and e.st == 'C') or (kinds[i] == 'f' and e.st == 'F') then l.fired = true end
      end
      r.left_changed[target] = true
      local waits_for_trigger = l.triggers and not l.fired
      if doomed or (waits_for_trigger and l.triggers == 0) then
        r.left[target] = false
        skip(r, target)
      elseif l.needs == 0 and not waits_for_trigger then
        r.left[target] = false
        r.ready[#r.ready + 1] = target
      end
    end
  end
  if string.sub(text, -1) == '>' then ended[#ended + 1] = { r = r, idx = e.idx, st = e.st, flags = e.flags, chunk = e.chunk + 1 } end
  return #targets
end

-- Walks the edges of all that ended; what goes beyond the budget is left for later.
local function settle()
  while ended_at <= #ended do
    local e = ended[ended_at]
    ended[ended_at] = false
    ended_at = ended_at + 1
    if edge_budget > 0 then
      edge_budget = edge_budget - walk(e)
    else
      todo[#todo + 1] = 'E ' .. e.r.id .. ' ' .. e.idx .. ' ' .. e.chunk
    end
  end
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
      if not string.find(served, '+' .. slug .. '+', 1, true) then all = false end
    end
    if all then ring('w:' .. inc, 1) end
  end
end

local function queue_for(r, rec, shared)
  if has(rec[FLAGS], 'x') then return 'c:expand' end
  if has(rec[FLAGS], 'b') and r.pin ~= '' then return 'w:' .. r.pin end
  return shared.queue
end

-- Puts a task into its queue. `front`: it has waited before and stands first in its level.
local function push(r, idx, rec, shared, front)
  local queue = queue_for(r, rec, shared)
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
  if rec[RANK] == '' then rec[RANK] = clk + (shared.priority - 1) * PRIORITY_MS end
  rec[ST], rec[PLACE] = 'Q', queue
  if rec[QUEUED] == '' then rec[QUEUED] = wall end
  touch(r, idx)
  local adds = queue_adds[queue]
  adds[#adds + 1] = tag + (shared.priority - 1) * FAIRNESS_K
  adds[#adds + 1] = rec[RANK] .. ':' .. r.id .. '.' .. idx
  tell('queued', r.id .. '.' .. idx, rec[ATT], '', queue)
end

-- Lets a ready task through the run's gate, or holds it in front.
local function enter(r, idx, rec, front)
  local shared = shared_of(r, rec[SHARED])
  if r.conc > 0 and r.inflight >= r.conc then
    if rec[RANK] == '' then rec[RANK] = clk + (shared.priority - 1) * PRIORITY_MS end
    rec[ST], rec[PLACE] = 'Q', 'held'
    if rec[QUEUED] == '' then rec[QUEUED] = wall end
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

-- A task left the run's gate: the next one held in front may pass.
local function leave(r)
  r.inflight = r.inflight - 1
  if r.conc > 0 then r.freed = r.freed + 1 end
end

local function forget_queue_timeout(r, idx, rec)
  local shared = shared_of(r, rec[SHARED])
  if shared.queue_timeout > 0 then call('ZREM', prefix .. 'deadlines', 'q' .. r.id .. '.' .. idx) end
end

local start_group

-- Releases tasks of a window as far as it has room.
local function refill(r, w)
  if w.next >= w.end_ then return end
  local group = group_of(w.name)
  local flags = ''
  if group then
    load_heads(r, { group })
    flags = r.head[group].flags
  end
  if not spared(r, flags) then return end
  local room
  if w.limit > 0 then
    room = w.limit - w.here
  elseif w.here < READY_WINDOW / 2 then
    room = READY_WINDOW - w.here
  else
    return
  end
  room = math.min(room, w.end_ - w.next)
  local now = math.min(room, release_budget)
  if now < room then todo[#todo + 1] = 'W ' .. r.id .. ' ' .. w.name end
  if now <= 0 then return end
  release_budget = release_budget - now
  local indexes = {}
  for idx = w.next, w.next + now - 1 do indexes[#indexes + 1] = tostring(idx) end
  w.next = w.next + now
  w.here = w.here + now
  r.win_changed[w.name] = true
  load_heads(r, indexes)
  for _, idx in ipairs(indexes) do
    local rec = new_record(r.head[idx])
    r.rec[idx] = rec
    if r.head[idx].kind == 'g' then
      w.here = w.here - 1
      start_group(r, idx, rec)
    else
      enter(r, idx, rec, false)
    end
  end
end

-- Starts a `foreach` whose items are known.
start_group = function(r, idx, rec)
  local w = window_of(r, 'g' .. idx)
  rec[ST], rec[ATT], rec[STARTED], rec[PLACE] = 'R', 1, wall, ''
  if rec[QUEUED] == '' then rec[QUEUED] = wall end
  touch(r, idx)
  tell('started', r.id .. '.' .. idx, 1, '', '')
  w.open = w.end_ - w.first
  r.win_changed[w.name] = true
  r.open = r.open + w.open
  if w.open == 0 then
    conclude(r, idx, rec, 'C', '', '')
  else
    refill(r, w)
  end
end

-- Takes in all that became ready, and what the gate now lets through.
local function admit()
  local again = true
  while again do
    again = false
    settle()
    for _, r in ipairs(run_order) do
      local ready = r.ready
      if #ready > 0 then
        again = true
        r.ready = {}
        load_heads(r, ready)
        for _, idx in ipairs(ready) do
          local head = r.head[idx]
          local rec = new_record(head)
          r.rec[idx] = rec
          if not spared(r, head.flags) then
            conclude(r, idx, rec, 'N', '', '')
          elseif head.kind == 'g' then
            start_group(r, idx, rec)
          else
            enter(r, idx, rec, false)
          end
        end
      end
      while r.freed > 0 do
        local held = call('ZPOPMIN', r.key .. ':held', 1)
        if #held == 0 then
          r.freed = 0
        else
          r.freed = r.freed - 1
          load_records(r, { held[1] })
          local rec = r.rec[held[1]]
          r.inflight = r.inflight + 1
          push(r, held[1], rec, shared_of(r, rec[SHARED]), false)
        end
      end
      local names = {}
      for name in pairs(r.win_changed) do names[#names + 1] = name end
      for _, name in ipairs(names) do
        local w = r.win[name]
        if w.next < w.end_ and (string.sub(name, 1, 1) == 'q' or w.open > 0) then refill(r, w) end
      end
    end
    if ended_at <= #ended then again = true end
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

local function end_run(r)
  if r.stop == 'timeout' or r.stop == 'lost' then
    r.status, r.reason = 'failed', r.stop
  elseif r.stop == 'cancel' then
    r.status = 'cancelled'
  elseif r.bad > 0 then
    r.status = 'failed'
  elseif r.N > 0 then
    r.status = 'cancelled'
  else
    r.status = 'completed'
  end
  call('HSET', r.key, 'finished', wall)
  call('ZADD', prefix .. 'done', clk, r.id)
  call('ZREM', prefix .. 'deadlines', 'r' .. r.id)
  if r.pin ~= '' then call('SREM', prefix .. 'pins:' .. r.pin, r.id) end
  tell('run-' .. r.status, r.id, '', '', r.reason)
end

local function join_record(rec)
  return table.concat(rec, ',')
end

-- Writes all that changed.
local function flush()
  send_queues()
  for _, r in ipairs(run_order) do
    local out = {}
    for idx in pairs(r.changed) do
      out[#out + 1] = idx
      out[#out + 1] = join_record(r.rec[idx])
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
    for _, name in ipairs(RUN_MUTABLE) do
      if r[name] ~= r.was[name] then
        fields[#fields + 1] = name
        fields[#fields + 1] = r[name]
        r.was[name] = r[name]
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

-- Takes an attempt out of what its worker holds.
local function disown(r, idx, rec)
  local id = r.id .. '.' .. idx
  if rec[OWNER] ~= '' then call('SREM', prefix .. 'own:' .. rec[OWNER], id) end
  call('ZREM', prefix .. 'deadlines', 'a' .. id .. '.' .. rec[ATT])
  local slug = shared_of(r, rec[SHARED]).slug
  if call('SREM', prefix .. 'slots:' .. slug, id) == 1 then ring('a:' .. slug, 1) end
end

-- Parks a task until its time comes; it leaves the gate meanwhile.
local function park(r, idx, rec, reason, exit, delay)
  rec[ST], rec[REASON], rec[EXIT], rec[FINISHED], rec[RANK], rec[PLACE] = 'P', reason, exit, wall, '', ''
  touch(r, idx)
  leave(r)
  call('ZADD', prefix .. 'delayed', clk + delay, r.id .. '.' .. idx)
  tell('parked', r.id .. '.' .. idx, rec[ATT], rec[OWNER], reason .. ':' .. string.format('%.0f', wall + delay))
end

-- Puts a task back that was claimed but not worked on to an end.
local function give_back(r, idx, rec, why)
  if not spared(r, rec[FLAGS]) then
    leave(r)
    conclude(r, idx, rec, 'N', '', '')
    return
  end
  tell(why, r.id .. '.' .. idx, rec[ATT], rec[OWNER], '')
  push(r, idx, rec, shared_of(r, rec[SHARED]), true)
end

-- A worker is gone with this attempt.
local function lose(r, idx, rec)
  if rec[ST] == 'X' then
    leave(r)
    conclude(r, idx, rec, 'N', '', '')
    return
  end
  rec[LOST] = rec[LOST] + 1
  if rec[LOST] >= r.lostmax then
    tell('lost', r.id .. '.' .. idx, rec[ATT], rec[OWNER], '')
    leave(r)
    conclude(r, idx, rec, 'F', 'lost', '')
  else
    give_back(r, idx, rec, 'lost')
  end
end

-- Cancels one task, in whatever state; an attempt that runs is told so and ends by its report.
local function cancel_task(r, idx)
  load_records(r, { idx })
  local rec = r.rec[idx]
  if not rec then
    load_heads(r, { idx })
    local head = r.head[idx]
    if not head then return 'NONE' end
    local group = group_of(head.window)
    if group then
      load_records(r, { group })
      local g = r.rec[group]
      if not g or is_final(g[ST]) or g[ST] == 'Q' then return 'NONE' end
    end
    rec = new_record(head)
    r.rec[idx] = rec
    r.left[idx] = false
    r.left_changed[idx] = true
    conclude(r, idx, rec, 'N', '', '')
    return 'OK'
  end
  if is_final(rec[ST]) then return 'FINAL' end
  if rec[ST] == 'X' then return 'DUP' end
  if rec[ST] == 'Q' then
    if rec[PLACE] == 'held' then
      call('ZREM', r.key .. ':held', idx)
    else
      call('ZREM', prefix .. 'q:' .. rec[PLACE], rec[RANK] .. ':' .. r.id .. '.' .. idx)
      leave(r)
      local w = tonumber(rec[ATT]) == 0 and rec[WINDOW] ~= '' and window_of(r, rec[WINDOW])
      if w and w.limit == 0 then
        w.here = w.here - 1
        r.win_changed[w.name] = true
      end
    end
    forget_queue_timeout(r, idx, rec)
    conclude(r, idx, rec, 'N', '', '')
    return 'OK'
  end
  if rec[ST] == 'P' then
    call('ZREM', prefix .. 'delayed', r.id .. '.' .. idx)
    conclude(r, idx, rec, 'N', '', '')
    return 'OK'
  end
  rec[ST] = 'X'
  touch(r, idx)
  tell('cancelling', r.id .. '.' .. idx, rec[ATT], rec[OWNER], '')
  if rec[OWNER] == '' then
    local w = window_of(r, 'g' .. idx)
    todo[#todo + 1] = 'X ' .. r.id .. ' ' .. w.first .. ' ' .. w.end_
  else
    ring('w:' .. rec[OWNER], 1)
  end
  return 'CANCELLING'
end

-- Carries on with work that earlier calls left: edges, releases, cancelling of many.
local TODO_ENTRIES = 4
local CANCEL_PORTION = 64

local function do_todo()
  local done = 0
  local entries = call('LRANGE', prefix .. 'todo', 0, TODO_ENTRIES - 1)
  if #entries == 0 then return 0 end
  call('LTRIM', prefix .. 'todo', #entries, -1)
  for _, entry in ipairs(entries) do
    local kind, id, a, b = string.match(entry, '^(%a) (%S+) ?(%S*) ?(%S*)$')
    local r = run_of(id)
    if r then
      if kind == 'E' then
        load_records(r, { a })
        local rec = r.rec[a]
        ended[#ended + 1] = { r = r, idx = a, st = rec[ST], flags = rec[FLAGS], chunk = tonumber(b) }
      elseif kind == 'W' then
        local w = window_of(r, a)
        if w then r.win_changed[w.name] = true end
      elseif kind == 'X' then
        local from, to = tonumber(a), tonumber(b)
        local last = math.min(from + CANCEL_PORTION, to)
        local indexes = {}
        for idx = from, last - 1 do indexes[#indexes + 1] = tostring(idx) end
        load_records(r, indexes)
        load_heads(r, indexes)
        for _, idx in ipairs(indexes) do
          local head = r.head[idx]
          local whole_run = r.stop ~= ''
          if head and (not whole_run or not spared(r, head.flags)) then cancel_task(r, idx) end
        end
        if last < to then todo[#todo + 1] = 'X ' .. id .. ' ' .. last .. ' ' .. to end
      end
    end
    done = done + 1
  end
  return done
end
