-- grant: handing ready tasks to a worker.

local started = {}

local function add_value(reply, kind, name, a, b, c)
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4], reply[at + 5] = kind, name, a, b, c
end

-- What the templates of a task read: outputs of steps, their records, shared state.
local function gather(r, needs, reply)
  local count = 0
  for kind, name in string.gmatch(needs, '(%a)(%S+)') do
    if kind == 's' then
      local key = string.gsub(name, '%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end)
      local v = call('HMGET', prefix .. 'state:' .. key, 'v', 't')
      add_value(reply, 's', key, v[1], v[2], false)
    else
      local record = call('HGET', r.key .. ':task', name)
      if kind == 'g' then
        local w = window_of(r, 'g' .. name)
        add_value(reply, 'g', name, w and w.first or 0, w and (w.end_ - w.first) or 0, record)
      else
        add_value(reply, 'o', name, call('HGET', r.key .. ':out', name), record, false)
      end
    end
    count = count + 1
  end
  return count
end

-- Adds a grant to a flat list: task, record, spec, where its agent is, number of values, and five words for
-- each value. A list within the list would cost Redis more than all the words do.
local function grant_reply(reply, r, idx)
  if not r.spec[idx] then load_heads(r, { idx }) end
  local rec = r.rec[idx]
  local text = rec and join_record(rec) or r.raw[idx]
  local shared = shared_of(r, view(r, idx)[SHARED])
  -- Where its agent is now: a move since the submission counts.
  local agent = is_assigned(shared.queue) and call('HGET', prefix .. 'assignments', string.sub(shared.queue, 3)) or ''
  local at = #reply
  reply[at + 1], reply[at + 2], reply[at + 3], reply[at + 4], reply[at + 5] = r.id .. '.' .. idx, text, r.spec[idx], agent, 0
  local own = r.head[idx].needs
  if own ~= '' then reply[at + 5] = gather(r, own, reply) end
  if shared.needs ~= '' then reply[at + 5] = reply[at + 5] + gather(r, shared.needs, reply) end
end

-- Whether an assigned agent can start a task here: it has its folder on this worker, is not stopped and
-- works on nothing.
local function is_free_here(queue, name)
  local text = call('HGET', prefix .. 'assignments', string.sub(queue, 3))
  if not text then return false end
  local agent = cjson.decode(text)
  return agent.worker == name and not agent.held and call('EXISTS', prefix .. 'slots:' .. queue) == 0
end

-- The first tasks of several queues, the one that waited longest (by rank) before the others.
local function heads_of(queues, want, name)
  local lists = {}
  for _, queue in ipairs(queues) do
    local members = call('ZRANGE', prefix .. 'q:' .. queue, 0, want, 'WITHSCORES')
    local assigned = is_assigned(queue)
    if #members > 0 and (not assigned or is_free_here(queue, name)) then lists[#lists + 1] = { queue = queue, members = members, at = 1, assigned = assigned, full = false } end
  end
  return lists
end

local function next_pick(lists)
  local best, member
  for i = 1, #lists do
    local list = lists[i]
    local first = list.members[list.at]
    if first and (not best or first < member) then best, member = list, first end
  end
  if not best then return nil end
  local score = best.members[best.at + 1]
  best.at = best.at + 2
  local task, run, idx = match(member, '^%d+:((%w+)%.(%d+))$')
  return { queue = best.queue, list = best, member = member, score = score, run = run, idx = idx, task = task, id = '' }
end

-- Whether a type that is limited across the cluster has room for one more.
local function has_room(limits, used, slug)
  local limit = limits[slug]
  if not limit then return true end
  if not used[slug] then used[slug] = call('SCARD', prefix .. 'slots:' .. slug) end
  return used[slug] < limit
end

-- Limits of agent types across the cluster, read once a call.
local known_limits

local function read_limits()
  if known_limits then return known_limits end
  local flat = call('HGETALL', prefix .. 'limits')
  known_limits = {}
  for i = 1, #flat, 2 do known_limits[flat[i]] = tonumber(flat[i + 1]) end
  return known_limits
end

-- Loads what a batch of picks needs, run by run.
local function load_picks(picks)
  local by_run, order = {}, {}
  for _, pick in ipairs(picks) do
    if not by_run[pick.run] then
      by_run[pick.run] = {}
      order[#order + 1] = pick.run
    end
    local indexes = by_run[pick.run]
    indexes[#indexes + 1] = pick.idx
  end
  for _, id in ipairs(order) do
    local r = run_of(id)
    if r then
      load_texts(r, by_run[id])
      load_heads(r, by_run[id])
    end
  end
end

-- Decides what becomes of one pick: 'grant', 'drop', 'cancel', 'move' or 'full'.
local function judge(pick, name, types, limits, used)
  local r = run_of(pick.run)
  local rec = r and view(r, pick.idx)
  if not rec or rec[ST] ~= 'Q' or rec[PLACE] ~= pick.queue then return 'drop' end
  if not spared(r, rec[FLAGS]) then return 'cancel' end
  -- What a coordinator carries out needs neither the run's worker nor a slot of the agent type.
  if pick.queue == 'c:expand' then return 'grant' end
  local slug = shared_of(r, rec[SHARED]).slug
  if has(rec[FLAGS], 'b') and r.pin ~= '' then
    if r.pin ~= name then return 'move' end
    -- The worker's successor under its name no longer serves what the run needs.
    if not find(types, '+' .. slug .. '+', 1, true) then
      stop_run(r, 'lost')
      return 'cancel'
    end
  end
  if not has_room(limits, used, slug) then
    -- The bell of the type calls whoever serves it; the one worker of an agent is to be called as well.
    if is_assigned(pick.queue) then call('SADD', prefix .. 'short:' .. slug, pick.queue) end
    return 'full'
  end
  return 'grant'
end

local function set_start(rec, inc)
  local attempt = format('%d', rec[ATT] + 1)
  rec[ST], rec[ATT], rec[OWNER], rec[STARTED], rec[FINISHED], rec[PLACE] = 'R', attempt, inc, now, '', ''
end

-- The record of an attempt that begins. Tasks of one batch look alike before it, and so they do after it.
local function started_record(r, idx, inc)
  touch(r, idx)
  local text = r.rec[idx] == nil and r.raw[idx]
  if not text then
    set_start(r.rec[idx], inc)
    return r.rec[idx]
  end
  local after = started[text]
  if not after then
    local rec = read_record(text)
    set_start(rec, inc)
    after = join_record(rec)
    started[text], parsed[after] = after, rec
  end
  r.raw[idx] = after
  return known_record(after)
end

-- Gives the task to the worker: from here on its attempt has a number and an owner.
local function take(pick, inc, name, limits, used, held)
  local r, idx = run_of(pick.run), pick.idx
  local first_time = view(r, idx)[ATT] == '0'
  local rec = started_record(r, idx, inc)
  local shared = shared_of(r, rec[SHARED])
  local launches = pick.queue ~= 'c:expand'
  if launches and has(rec[FLAGS], 'b') and r.pin == '' then
    r.pin = name
    call('SADD', prefix .. 'pins:' .. name, r.id)
  end
  local id = pick.task
  pick.id = id .. '.' .. rec[ATT]
  held.own[#held.own + 1] = id
  if launches and limits[shared.slug] then
    call('SADD', prefix .. 'slots:' .. shared.slug, id)
    used[shared.slug] = used[shared.slug] + 1
  end
  if pick.list.assigned then
    call('SADD', prefix .. 'slots:' .. pick.queue, id)
    pick.list.full = true
  end
  if first_time then
    forget_queue_timeout(r, idx, rec)
    local w = rec[WINDOW] ~= '' and window_of(r, rec[WINDOW])
    if w and w.limit == 0 then
      w.here = w.here - 1
      r.win_changed[w.name] = true
    end
  end
  local tag = pick.score - (shared.priority - 1) * FAIRNESS_K
  if tag > (held.virtual[pick.queue] or -1) then held.virtual[pick.queue] = tag end
  if (bells[pick.queue] or 0) > 0 then bells[pick.queue] = bells[pick.queue] - 1 end
  tell('started', id, rec[ATT], inc, name)
end

local function keep_virtual(queue, tag)
  local known = queue_tags[queue] or tonumber(call('HGET', prefix .. 'vt', queue) or '0')
  if tag > known then
    call('HSET', prefix .. 'vt', queue, tag)
    known = tag
  end
  queue_tags[queue] = known
  queue_adds[queue] = queue_adds[queue] or {}
end

-- Queues of several types at once, as far as this worker serves them all.
local function add_combined(queues, types)
  for _, queue in ipairs(call('SMEMBERS', prefix .. 'combined')) do
    if call('EXISTS', prefix .. 'q:' .. queue) == 0 then
      call('SREM', prefix .. 'combined', queue)
    else
      local all = true
      for _, slug in ipairs(type_list(queue)) do
        if not find(types, '+' .. slug .. '+', 1, true) then all = false end
      end
      if all then queues[#queues + 1] = queue end
    end
  end
end

-- Claims up to `want` tasks. Returns them and whether work was left behind.
local function claim(inc, name, types, want, queues)
  -- A worker that drains asks for its own queue alone: it goes on with runs bound to it and takes no other.
  if #queues ~= 1 or queues[1] ~= 'w:' .. name then add_combined(queues, types) end
  local lists = heads_of(queues, want, name)
  local limits, used = read_limits(), {}
  local held = { own = {}, virtual = {} }
  local granted, removed = {}, {}
  local rounds = 0
  while #granted < want and rounds < 4 do
    rounds = rounds + 1
    local picks = {}
    while #granted + #picks < want do
      local pick = next_pick(lists)
      if not pick then break end
      picks[#picks + 1] = pick
    end
    if #picks == 0 then break end
    load_picks(picks)
    for _, pick in ipairs(picks) do
      local verdict = pick.list.full and 'full' or judge(pick, name, types, limits, used)
      if verdict == 'full' then
        pick.list.full = true
      else
        local list = removed[pick.queue] or {}
        removed[pick.queue] = list
        list[#list + 1] = pick.member
        local r = run_of(pick.run)
        if verdict == 'grant' then
          take(pick, inc, name, limits, used, held)
          granted[#granted + 1] = pick
        elseif verdict == 'cancel' then
          local rec = own_record(r, pick.idx)
          withdraw(r, pick.idx, rec)
          conclude(r, pick.idx, rec, 'N', '', '')
        elseif verdict == 'move' then
          local rec = own_record(r, pick.idx)
          push(r, pick.idx, rec, shared_of(r, rec[SHARED]), true)
        end
      end
    end
    for _, list in ipairs(lists) do
      if list.full then list.at = #list.members + 1 end
    end
  end
  for queue, members in pairs(removed) do call('ZREM', prefix .. 'q:' .. queue, unpack(members)) end
  for queue, tag in pairs(held.virtual) do keep_virtual(queue, tag) end
  if #held.own > 0 then call('SADD', prefix .. 'own:' .. inc, unpack(held.own)) end
  local more = false
  for _, list in ipairs(lists) do
    if list.members[list.at] then
      more = true
      -- Nobody waits for the bell of a combined queue: its workers were called one by one.
      local rings = string.sub(list.queue, 1, 2) ~= 's:'
      if rings and call('LLEN', prefix .. 'bell:' .. list.queue) == 0 then ring(list.queue, 1) end
    end
  end
  return granted, more
end
