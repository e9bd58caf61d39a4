-- turns: what else can happen to a task: parked, given back, lost, cancelled; and work left over.

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
  rec[ST], rec[REASON], rec[EXIT], rec[FINISHED], rec[RANK], rec[PLACE] = 'P', reason, exit, now, '', ''
  touch(r, idx)
  leave(r)
  call('ZADD', prefix .. 'delayed', clk + delay, r.id .. '.' .. idx)
  tell('parked', r.id .. '.' .. idx, rec[ATT], rec[OWNER], reason .. ':' .. format('%.0f', wall + delay))
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
  if rec[ST] == 'X' or not spared(r, rec[FLAGS]) then
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
      -- An item begins to exist when all of its `foreach` are stored.
      local goes_on = g and (g[ST] == 'R' or g[ST] == 'X') and g[OWNER] == ''
      if not goes_on then return 'NONE' end
      -- One of an expansion that was given up for another is no task.
      local w, number = window_of(r, head.window), tonumber(idx)
      if number < w.first or number >= w.end_ then return 'NONE' end
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
    withdraw(r, idx, rec)
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
    todo[#todo + 1] = 'I ' .. r.id .. ' ' .. w.first .. ' ' .. w.end_
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
    local kind, id, a, b = match(entry, '^(%a) (%S+) ?(%S*) ?(%S*)$')
    local r = run_of(id)
    if r then
      if kind == 'E' then
        load_records(r, { a })
        local rec = r.rec[a]
        ended[#ended + 1] = { r = r, idx = a, st = rec[ST], flags = rec[FLAGS], chunk = tonumber(b) }
      elseif kind == 'W' then
        local w = window_of(r, a)
        if w then r.win_changed[w.name] = true end
      elseif kind == 'X' or kind == 'I' then
        local from, to = tonumber(a), tonumber(b)
        local last = math.min(from + CANCEL_PORTION, to)
        local indexes = {}
        for idx = from, last - 1 do indexes[#indexes + 1] = tostring(idx) end
        load_records(r, indexes)
        load_heads(r, indexes)
        for _, idx in ipairs(indexes) do
          local head = r.head[idx]
          if head and (kind == 'I' or not spared(r, head.flags)) then cancel_task(r, idx) end
        end
        if last < to then todo[#todo + 1] = kind .. ' ' .. id .. ' ' .. last .. ' ' .. to end
      end
    end
    done = done + 1
  end
  return done
end
