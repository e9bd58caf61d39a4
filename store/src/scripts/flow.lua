-- flow: how a run moves on: tasks end, and their edges are walked.
--
-- Shared by every script that ends or starts a task. The order is always: `conclude`
-- what ended, `settle` its edges, `admit` what became ready, `flush` what changed.
-- Work per call is bounded; what is left over stands in `todo` and is done by the next call.

local conclude
-- Tasks of other runs that wait: a portion, and what has ended and must be told to them.
local WAITERS_PORTION = 64
local others, others_at = {}, 1

-- An item ended: its group may end with it.
local function item_ended(r, group, idx, st, reason)
  local w = window_of(r, 'g' .. group)
  w.open = w.open - 1
  if w.limit > 0 and tonumber(idx) < w.next then w.here = w.here - 1 end
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

local function set_end(rec, st, reason, exit)
  rec[ST], rec[REASON], rec[EXIT], rec[FINISHED] = st, reason, exit, now
  rec[RANK], rec[PLACE] = '', ''
end

local ENDS = { C = 'completed', F = 'failed', K = 'skipped', N = 'cancelled' }

local function count_end(r, idx, rec, st, reason, exit)
  touch(r, idx)
  r.open = r.open - 1
  r[st] = r[st] + 1
  tell(ENDS[st], r.id .. '.' .. idx, rec[ATT], rec[OWNER], reason .. (exit ~= '' and (':' .. exit) or ''))
  if marked(r, 'w') then others[#others + 1] = { r = r, idx = idx } end
  local group = group_of(rec[WINDOW])
  if group then
    item_ended(r, group, idx, st, reason)
    return
  end
  -- A run without edges is common, and its tasks end by the dozen: that is worth one question.
  r.ends = r.ends + 1
  if r.ends == EDGES_ASKED_AFTER then r.edges = call('EXISTS', r.key .. ':edge') == 1 end
  if r.edges then ended[#ended + 1] = { r = r, idx = idx, st = st, flags = rec[FLAGS], chunk = 0 } end
  if st == 'F' and not has(rec[FLAGS], 'h') then
    r.bad = r.bad + 1
    if r.ff == '1' then stop_run(r, 'fail_fast') end
  end
end

-- Ends a task for good. Its edges are walked by `settle`.
conclude = function(r, idx, rec, st, reason, exit)
  set_end(rec, st, reason, exit)
  count_end(r, idx, rec, st, reason, exit)
end

-- The usual end. Tasks of one batch look alike before it, and so they do after it.
local function complete(r, idx, exit)
  local text = r.rec[idx] == nil and r.raw[idx]
  if not text then
    conclude(r, idx, r.rec[idx], 'C', '', exit)
    return
  end
  local known = completed[exit]
  if not known then
    known = {}
    completed[exit] = known
  end
  local after = known[text]
  if not after then
    local rec = read_record(text)
    set_end(rec, 'C', '', exit)
    after = join_record(rec)
    known[text], parsed[after] = after, rec
  end
  r.raw[idx] = after
  count_end(r, idx, known_record(after), 'C', '', exit)
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
    local needs, triggers, fired = match(text, '^(%d+);(%d+);(%d)$')
    if needs then
      r.left[idx] = { needs = tonumber(needs), triggers = tonumber(triggers), fired = fired == '1' }
    else
      r.left[idx] = { needs = tonumber(text) }
    end
  end)
end

local function skip(r, idx)
  load_heads(r, { idx })
  if marked(r, 'a') then load_records(r, { idx }) end
  local rec = r.rec[idx] or new_record(r.head[idx])
  r.rec[idx] = rec
  conclude(r, idx, rec, 'K', '', '')
end

local function edge_field(e)
  return e.chunk == 0 and e.idx or (e.idx .. '.' .. e.chunk)
end

-- Reads the edges of all that ended and has not been settled, a request for each run.
local function load_edges(last)
  local wanted, order = {}, {}
  for at = ended_at, last do
    local e = ended[at]
    local fields = wanted[e.r]
    if not fields then
      fields = {}
      wanted[e.r] = fields
      order[#order + 1] = e.r
    end
    fields[#fields + 1] = edge_field(e)
  end
  for _, r in ipairs(order) do
    read_many(r.key .. ':edge', wanted[r], function(field, text) r.edge[field] = text end)
  end
end

-- Whether an end satisfies who needs it.
local function is_good(st, flags)
  return st == 'C' or (st == 'F' and has(flags, 'f')) or (st == 'K' and has(flags, 's'))
end

local function is_over(r)
  return r.status ~= 'running' and r.status ~= 'cancelling' and r.status ~= 'loading'
end

-- What a run comes to, or has come to.
local function outcome_of(r)
  if is_over(r) then return r.status end
  if r.stop == 'timeout' or r.stop == 'lost' then return 'failed' end
  if r.stop == 'cancel' then return 'cancelled' end
  if r.bad > 0 then return 'failed' end
  return r.N > 0 and 'cancelled' or 'completed'
end

-- Tells a task that what it needs in another run has ended.
local function meet(r, idx, good)
  left_of(r, { idx })
  local l = r.left[idx]
  if not l then return end
  r.left_changed[idx] = true
  if not good then
    r.left[idx] = false
    skip(r, idx)
    return
  end
  l.needs = l.needs - 1
  if l.needs == 0 and (not l.triggers or l.fired) then
    r.left[idx] = false
    r.ready[#r.ready + 1] = idx
  end
end

-- Tells one portion of those in other runs who wait for a task that ended, or for anything of a run that
-- ended: an item that never began satisfies nobody.
local function tell_others(e)
  local key = e.r.key .. ':waits'
  local members
  if e.idx == 'run' then
    members = call('ZRANGE', key, 0, WAITERS_PORTION - 1)
  else
    members = call('ZRANGEBYSCORE', key, e.idx, e.idx, 'LIMIT', 0, WAITERS_PORTION)
  end
  if #members == 0 then return 0 end
  call('ZREM', key, unpack(members))
  for _, member in ipairs(members) do
    local on, id, idx = match(member, '^(%S+) (%w+)%.(%d+)$')
    local good
    if on == 'run' then
      good = outcome_of(e.r) == 'completed'
    else
      load_texts(e.r, { on })
      local rec = view(e.r, on)
      good = rec and is_good(rec[ST], rec[FLAGS])
    end
    local r = run_of(id)
    if r then meet(r, idx, good) end
  end
  if #members == WAITERS_PORTION then others[#others + 1] = e end
  return #members
end

-- Tells one portion of a task's dependents that it ended.
local function walk(e)
  local r = e.r
  local text = r.edge[edge_field(e)]
  if not text then return 0 end
  local targets, kinds = {}, {}
  for kind, target in string.gmatch(text, '(%a)(%d+)') do
    targets[#targets + 1] = target
    kinds[#kinds + 1] = kind
  end
  left_of(r, targets)
  local good = is_good(e.st, e.flags)
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
  while ended_at <= #ended or others_at <= #others do
    local last = #ended
    if edge_budget > 0 then load_edges(last) end
    while ended_at <= last do
      local e = ended[ended_at]
      ended[ended_at] = false
      ended_at = ended_at + 1
      if edge_budget > 0 then
        edge_budget = edge_budget - walk(e)
      else
        todo[#todo + 1] = 'E ' .. e.r.id .. ' ' .. e.idx .. ' ' .. e.chunk
      end
    end
    if others_at <= #others then
      local e = others[others_at]
      others_at = others_at + 1
      if edge_budget > 0 then
        edge_budget = edge_budget - tell_others(e)
      else
        todo[#todo + 1] = 'O ' .. e.r.id .. ' ' .. e.idx
      end
    end
  end
end
