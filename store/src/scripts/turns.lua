-- turns: what else can happen to a task: parked, given back, lost, cancelled; and work left over.

-- An attempt of a type that is limited, or of an assigned agent, has ended: another one may start.
local function free_slots(r, id, rec)
  local shared = shared_of(r, rec[SHARED])
  local slug = shared.slug
  if call('SREM', prefix .. 'slots:' .. slug, id) == 1 then
    ring('a:' .. slug, 1)
    local waits = prefix .. 'short:' .. slug
    for _, queue in ipairs(call('SMEMBERS', waits)) do
      ring(queue, 1)
      call('SREM', waits, queue)
    end
  end
  if is_assigned(shared.queue) and call('SREM', prefix .. 'slots:' .. shared.queue, id) == 1 then ring(shared.queue, 1) end
end

-- An attempt gets its limit with the first beat of its worker, and not when it starts: most are over by
-- then. The flag says that it has one.
local function forget_deadline(id, rec)
  if not has(rec[FLAGS], 'd') then return end
  call('ZREM', prefix .. 'deadlines', 'a' .. id .. '.' .. rec[ATT])
  rec[FLAGS] = string.gsub(rec[FLAGS], 'd', '')
end

-- Takes an attempt out of what its worker holds.
local function disown(r, idx, rec)
  local id = r.id .. '.' .. idx
  if rec[OWNER] ~= '' then call('SREM', prefix .. 'own:' .. rec[OWNER], id) end
  forget_deadline(id, rec)
  free_slots(r, id, rec)
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

-- Why an attempt was told to end, in the place of its reason; '' = its task is cancelled, with grace.
local END_WORDS = { ['false,false'] = '', ['true,false'] = 'restart', ['false,true'] = 'kill', ['true,true'] = 'restart-kill' }

local function restarts(rec)
  return rec[ST] == 'X' and (rec[REASON] == 'restart' or rec[REASON] == 'restart-kill')
end

local function is_killed(rec)
  return rec[ST] == 'X' and (rec[REASON] == 'kill' or rec[REASON] == 'restart-kill')
end

-- Tells an attempt to end. A task that is cancelled stays so when its agent starts again, and what is to
-- be killed is not spared by a later word.
local function order_end(r, idx, rec, restart, kill)
  if rec[ST] == 'X' then
    if restarts(rec) and not restart then tell('cancelling', r.id .. '.' .. idx, rec[ATT], rec[OWNER], '') end
    restart, kill = restart and restarts(rec), kill or is_killed(rec)
  elseif rec[ST] == 'R' then
    tell(restart and 'restarting' or 'cancelling', r.id .. '.' .. idx, rec[ATT], rec[OWNER], '')
  else
    return
  end
  rec[ST], rec[REASON] = 'X', END_WORDS[tostring(restart) .. ',' .. tostring(kill)]
  touch(r, idx)
  if rec[OWNER] ~= '' then ring('w:' .. rec[OWNER], 1) end
end

-- An attempt that was told to end is over: its task is cancelled, unless only its agent starts again.
local function end_ordered(r, idx, rec)
  if restarts(rec) then
    rec[REASON] = ''
    give_back(r, idx, rec, 'returned')
    return
  end
  leave(r)
  conclude(r, idx, rec, 'N', '', '')
end

-- A worker is gone with this attempt.
local function lose(r, idx, rec)
  if rec[ST] == 'X' then
    end_ordered(r, idx, rec)
    return
  end
  if not spared(r, rec[FLAGS]) then
    leave(r)
    conclude(r, idx, rec, 'N', '', '')
    return
  end
  rec[LOST] = rec[LOST] + 1
  call('HINCRBY', KEYS[1], 'losses', 1)
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
  if not rec or rec[ST] == 'B' then
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
    rec = rec or new_record(head)
    r.rec[idx] = rec
    r.left[idx] = false
    r.left_changed[idx] = true
    conclude(r, idx, rec, 'N', '', '')
    return 'OK'
  end
  if is_final(rec[ST]) then return 'FINAL' end
  if rec[ST] == 'X' then
    if not restarts(rec) then return 'DUP' end
    order_end(r, idx, rec, false, false)
    return 'CANCELLING'
  end
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
  order_end(r, idx, rec, false, false)
  if rec[OWNER] == '' then
    local w = window_of(r, 'g' .. idx)
    todo[#todo + 1] = 'I ' .. r.id .. ' ' .. w.first .. ' ' .. w.end_
  end
  return 'CANCELLING'
end

-- Carries on with work that earlier calls left: edges, releases, cancelling of many.
local TODO_ENTRIES = 4
local CANCEL_PORTION = 64

-- Walks the edges of tasks that another run has carried out, a portion at a time.
local SEEDS_PORTION = 256

local function settle_seeds(r, from, to)
  local last = math.min(from + SEEDS_PORTION, to)
  local indexes = {}
  for idx = from, last - 1 do indexes[#indexes + 1] = format('%d', idx) end
  load_texts(r, indexes)
  for _, idx in ipairs(indexes) do
    local rec = view(r, idx)
    if rec and has(rec[FLAGS], 'o') then
      ended[#ended + 1] = { r = r, idx = idx, st = rec[ST], flags = rec[FLAGS], chunk = 0 }
    end
  end
  if last < to then todo[#todo + 1] = 'S ' .. r.id .. ' ' .. format('%d', last) .. ' ' .. format('%d', to) end
end

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
      elseif kind == 'O' then
        others[#others + 1] = { r = r, idx = a }
      elseif kind == 'S' then
        settle_seeds(r, tonumber(a), tonumber(b))
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
