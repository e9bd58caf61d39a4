-- sweeping: what time brings about: dead workers, parked tasks that are due, limits that passed.

local PINS_PORTION = 50
local LOST_NAMES = 100

-- Takes what a dead incarnation held, a portion at a time; the last portion removes it. Runs bound to
-- its name end first, unless a successor has the name: nothing of theirs is queued again.
local function bury(inc, limit)
  local worker = prefix .. 'w:' .. inc
  local name = call('HGET', worker, 'name')
  local holder = name and call('HGET', prefix .. 'names', name)
  local leaves = name and (not holder or holder == inc)
  if leaves then
    local pins = prefix .. 'pins:' .. name
    local bound = call('SRANDMEMBER', pins, PINS_PORTION)
    for _, run in ipairs(bound) do
      local r = run_of(run)
      if r then stop_run(r, 'lost') end
      call('SREM', pins, run)
    end
    if #bound >= PINS_PORTION then return #bound end
  end
  local own = prefix .. 'own:' .. inc
  local ids = call('SRANDMEMBER', own, limit)
  for _, id in ipairs(ids) do
    local run, idx = match(id, '^(%w+)%.(%d+)$')
    local r = run_of(run)
    if r then
      load_records(r, { idx })
      local rec = r.rec[idx]
      if rec and rec[OWNER] == inc and (rec[ST] == 'R' or rec[ST] == 'X') then
        disown(r, idx, rec)
        lose(r, idx, rec)
      end
    end
    call('SREM', own, id)
  end
  if #ids >= limit then return #ids end
  local bell = 'w:' .. inc
  call('ZREM', prefix .. 'leases', inc)
  call('SREM', prefix .. 'owing', inc)
  call('DEL', worker, prefix .. 'bell:' .. bell)
  bells[bell] = nil
  if leaves then
    local queue = 'w:' .. name
    call('HDEL', prefix .. 'names', name)
    call('DEL', prefix .. 'bell:' .. queue)
    bells[queue] = nil
    if call('EXISTS', prefix .. 'q:' .. queue) == 0 then call('HDEL', prefix .. 'vt', queue) end
    -- For those who watch; one that takes its leave takes its name off again. A coordinator's name has a slash.
    if not find(name, '/', 1, true) then
      call('ZADD', prefix .. 'lost', wall, name)
      call('ZREMRANGEBYRANK', prefix .. 'lost', 0, -1 - LOST_NAMES)
    end
  end
  tell('worker-gone', name or inc, '', inc, '')
  return #ids + 1
end

local function on_deadline(entry)
  local kind, run, idx, attempt = match(entry, '^(%a)(%w+)%.?(%d*)%.?(%d*)$')
  call('ZREM', prefix .. 'deadlines', entry)
  local r = run_of(run)
  if not r then return end
  if kind == 'r' then
    stop_run(r, 'timeout')
    return
  end
  load_records(r, { idx })
  local rec = r.rec[idx]
  if not rec then return end
  if kind == 'q' then
    if rec[ST] ~= 'Q' or tonumber(rec[ATT]) > 0 then return end
    withdraw(r, idx, rec)
    conclude(r, idx, rec, 'F', 'timeout', '')
    return
  end
  if tostring(rec[ATT]) ~= attempt or (rec[ST] ~= 'R' and rec[ST] ~= 'X') then return end
  disown(r, idx, rec)
  ring('w:' .. rec[OWNER], 1)
  if rec[ST] == 'X' then
    end_ordered(r, idx, rec)
    return
  end
  rec[FAILS] = rec[FAILS] + 1
  local shared = shared_of(r, rec[SHARED])
  if rec[FAILS] < shared.attempts and spared(r, rec[FLAGS]) then
    park(r, idx, rec, 'timeout', '', shared.delay)
  else
    leave(r)
    conclude(r, idx, rec, 'F', 'timeout', '')
  end
end

local function unpark(entry)
  call('ZREM', prefix .. 'delayed', entry)
  local run, idx = match(entry, '^(%w+)%.(%d+)$')
  local r = run_of(run)
  if not r then return end
  load_records(r, { idx })
  local rec = r.rec[idx]
  if not rec or rec[ST] ~= 'P' then return end
  if spared(r, rec[FLAGS]) then
    enter(r, idx, rec, false)
  else
    conclude(r, idx, rec, 'N', '', '')
  end
end

-- One portion of all that is due. Returns how many items were handled.
local function sweep(limit)
  local done = do_todo()
  -- While workers say what Redis has forgotten nobody is dead and nothing is due.
  if mode == 'recover' then
    admit()
    flush()
    return done
  end
  for _, inc in ipairs(call('ZRANGEBYSCORE', prefix .. 'leases', '-inf', '(' .. clk, 'LIMIT', 0, 2)) do
    done = done + bury(inc, limit)
  end
  for _, entry in ipairs(call('ZRANGEBYSCORE', prefix .. 'delayed', '-inf', clk, 'LIMIT', 0, limit)) do
    unpark(entry)
    done = done + 1
  end
  for _, entry in ipairs(call('ZRANGEBYSCORE', prefix .. 'deadlines', '-inf', '(' .. clk, 'LIMIT', 0, limit)) do
    on_deadline(entry)
    done = done + 1
  end
  admit()
  flush()
  return done
end
