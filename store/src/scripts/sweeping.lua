-- sweeping: what time brings about: dead workers, parked tasks that are due, limits that passed.

local PINS_PORTION = 50

-- Takes what a dead incarnation held, a portion at a time; the last portion removes it.
local function bury(inc, limit)
  local own = prefix .. 'own:' .. inc
  local ids = call('SRANDMEMBER', own, limit)
  for _, id in ipairs(ids) do
    local run, idx = string.match(id, '^(%w+)%.(%d+)$')
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
  local worker = prefix .. 'w:' .. inc
  local name = call('HGET', worker, 'name')
  local holder = name and call('HGET', prefix .. 'names', name)
  if name and (not holder or holder == inc) then
    local bound = call('SRANDMEMBER', prefix .. 'pins:' .. name, PINS_PORTION)
    for _, run in ipairs(bound) do
      local r = run_of(run)
      if r then stop_run(r, 'lost') end
      call('SREM', prefix .. 'pins:' .. name, run)
    end
    if #bound >= PINS_PORTION then return #ids + #bound end
    call('HDEL', prefix .. 'names', name)
  end
  call('ZREM', prefix .. 'leases', inc)
  call('DEL', worker, prefix .. 'bell:w:' .. inc)
  tell('worker-gone', name or inc, '', inc, '')
  return #ids + 1
end

local function on_deadline(entry)
  local kind, run, idx, attempt = string.match(entry, '^(%a)(%w+)%.?(%d*)%.?(%d*)$')
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
  local id = run .. '.' .. idx
  if kind == 'q' then
    if rec[ST] ~= 'Q' or tonumber(rec[ATT]) > 0 then return end
    if rec[PLACE] == 'held' then
      call('ZREM', r.key .. ':held', idx)
    else
      call('ZREM', prefix .. 'q:' .. rec[PLACE], rec[RANK] .. ':' .. id)
      leave(r)
      local w = rec[WINDOW] ~= '' and window_of(r, rec[WINDOW])
      if w and w.limit == 0 then
        w.here = w.here - 1
        r.win_changed[w.name] = true
      end
    end
    conclude(r, idx, rec, 'F', 'timeout', '')
    return
  end
  if tostring(rec[ATT]) ~= attempt or (rec[ST] ~= 'R' and rec[ST] ~= 'X') then return end
  disown(r, idx, rec)
  ring('w:' .. rec[OWNER], 1)
  if rec[ST] == 'X' then
    leave(r)
    conclude(r, idx, rec, 'N', '', '')
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
  local run, idx = string.match(entry, '^(%w+)%.(%d+)$')
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
