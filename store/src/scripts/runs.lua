-- runs: what a script knows of the runs it touches: records, heads, shared parts, windows.
--
-- Everything is read once a call, many at a time, and written back by `flush` at its end.

local EDGE_BUDGET = 512
local READY_WINDOW = 256
local RELEASE_BUDGET = 256
local EDGES_ASKED_AFTER = 4
local FAIRNESS_K = 1000
local PRIORITY_MS = 60000
local DEADLINE_GRACE_MS = 60000

-- What scripts change of a run, in the order of `was`.
local RUN_MUTABLE = { 'status', 'open', 'C', 'F', 'K', 'N', 'bad', 'inflight', 'stop', 'pin', 'reason', 'marks' }

local runs, run_order = {}, {}
local ended, ended_at = {}, 1
local edge_budget, release_budget = EDGE_BUDGET, RELEASE_BUDGET
local todo = {}
local queue_adds, queue_tags = {}, {}
local heads, ranks, completed = {}, {}, {}

local function run_of(id)
  local r = runs[id]
  if r ~= nil then return r end
  local key = prefix .. 'r:' .. id
  local v = call('HMGET', key, 'status', 'open', 'C', 'F', 'K', 'N', 'bad', 'inflight', 'stop', 'pin', 'reason', 'marks', 'conc', 'ff', 'lostmax', 'n')
  if not v[1] then
    runs[id] = false
    return false
  end
  local status, open_, good, failed, skipped, cancelled = v[1], tonumber(v[2] or 0), tonumber(v[3] or 0), tonumber(v[4] or 0), tonumber(v[5] or 0), tonumber(v[6] or 0)
  local bad, inflight, stop, pin, reason, marks = tonumber(v[7] or 0), tonumber(v[8] or 0), v[9] or '', v[10] or '', v[11] or '', v[12] or ''
  -- One table with a place for everything: one that grows is made again and again.
  r = {
    id = id, key = key, was = { status, open_, good, failed, skipped, cancelled, bad, inflight, stop, pin, reason, marks },
    status = status, open = open_, C = good, F = failed, K = skipped, N = cancelled, bad = bad, inflight = inflight, stop = stop, pin = pin, reason = reason, marks = marks,
    conc = tonumber(v[13] or 0), ff = v[14] or '', lostmax = tonumber(v[15] or 0), n = tonumber(v[16] or 0),
    rec = {}, raw = {}, like = {}, ends = 0, edges = true, changed = {}, head = {}, spec = {}, edge = {}, shared = {}, left = {}, left_changed = {}, win = {}, win_changed = {}, ready = {}, freed = 0, tags = {},
  }
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

-- Reads records as text: `view` shows one, and `own_record` makes one that may be changed. Where a run
-- has both, the text is older.
local function load_texts(r, indexes)
  local missing, rec, raw = {}, r.rec, r.raw
  for _, idx in ipairs(indexes) do
    if rec[idx] == nil and raw[idx] == nil then missing[#missing + 1] = idx end
  end
  local key = r.key .. ':task'
  for from = 1, #missing, 1000 do
    local texts = call('HMGET', key, unpack(missing, from, math.min(from + 999, #missing)))
    for i, text in ipairs(texts) do raw[missing[from + i - 1]] = text end
  end
end

local function view(r, idx)
  local rec = r.rec[idx]
  if rec ~= nil then return rec end
  local text = r.raw[idx]
  return text and known_record(text)
end

local function own_record(r, idx)
  local rec = r.rec[idx]
  if rec == nil then
    local text = r.raw[idx]
    rec = text and read_record(text)
    r.rec[idx] = rec
  end
  return rec
end

local function load_records(r, indexes)
  load_texts(r, indexes)
  for _, idx in ipairs(indexes) do own_record(r, idx) end
end

local function known_head(line)
  local head = heads[line]
  if not head then
    local kind, shared, window, flags, needs = match(line, '^(%a) (%d+) (%S-) (%a-) (.-)$')
    head = { kind = kind, shared = shared, window = window, flags = flags, needs = needs }
    heads[line] = head
  end
  return head
end

-- A task's head, the first line of its spec: kind, shared part, window, flags and what its templates read.
local function load_heads(r, indexes)
  local missing, head, spec = {}, r.head, r.spec
  for _, idx in ipairs(indexes) do
    if spec[idx] == nil and head[idx] ~= false then missing[#missing + 1] = idx end
  end
  local key = r.key .. ':spec'
  for from = 1, #missing, 1000 do
    local texts = call('HMGET', key, unpack(missing, from, math.min(from + 999, #missing)))
    for i, text in ipairs(texts) do
      local idx = missing[from + i - 1]
      head[idx] = text and known_head(sub(text, 1, find(text, '\n', 1, true) - 1))
      if text then spec[idx] = text end
    end
  end
end

-- What tasks have in common, as far as scripts need it.
local function shared_of(r, number)
  local s = r.shared[number]
  if s then return s end
  local text = call('HGET', r.key .. ':spec', 's' .. number)
  local slug, queue, priority, timeout, queue_timeout, attempts, delay, needs = match(text, '^(%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%d+) ([^\n]-)\n')
  s = { slug = slug, queue = queue, priority = tonumber(priority), timeout = tonumber(timeout), queue_timeout = tonumber(queue_timeout), attempts = tonumber(attempts), delay = tonumber(delay), needs = needs }
  r.shared[number] = s
  return s
end

-- One expression, because it is the cheapest way to make one text of many.
local function join_record(c)
  return c[1] .. ',' .. c[2] .. ',' .. c[3] .. ',' .. c[4] .. ',' .. c[5] .. ',' .. c[6] .. ',' .. c[7] .. ',' .. c[8] .. ','
    .. c[9] .. ',' .. c[10] .. ',' .. c[11] .. ',' .. c[12] .. ',' .. c[13] .. ',' .. c[14] .. ',' .. c[15] .. ',' .. c[16] .. ',' .. c[17]
end

local function touch(r, idx)
  r.changed[idx] = true
end

local function has(flags, letter)
  return flags ~= '' and find(flags, letter, 1, true) ~= nil
end

-- Windows: ranges of tasks released little by little. Name `q<n>`: roots of one queue;
-- `g<idx>`: items of a `foreach`. Without a limit `here` counts those still queued, with
-- one it counts those not ended. `head`: that of each of its tasks, where all have the same.
local function window_of(r, name)
  local w = r.win[name]
  if w ~= nil then return w end
  local v = call('HMGET', r.key .. ':win', name, 'h:' .. name)
  local text = v[1]
  if not text then
    r.win[name] = false
    return false
  end
  local first, next_, end_, here, limit, open_, failed, cancelled, reason = match(text, '^(%d+),(%d+),(%d+),(%-?%d+),(%d+),(%d+),(%d+),(%d+),(.*)$')
  w = { name = name, first = tonumber(first), next = tonumber(next_), end_ = tonumber(end_), here = tonumber(here), limit = tonumber(limit), open = tonumber(open_), failed = tonumber(failed), cancelled = tonumber(cancelled), reason = reason, head = v[2] and known_head(v[2]) }
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

-- A run's marks: `a`: tasks may have records before they are ready (taken over, or tried anew); `w`: tasks
-- of other runs wait for it. Most runs have none, and pay no more than this question.
local function marked(r, letter)
  return r.marks ~= '' and has(r.marks, letter)
end

local function stop_run(r, why)
  local stronger = r.stop == '' or (r.stop == 'fail_fast' and why ~= 'fail_fast')
  if not stronger or is_final(r.status) then return end
  r.stop = why
  if why ~= 'fail_fast' then r.status = 'cancelling' end
  todo[#todo + 1] = 'X ' .. r.id .. ' 0 ' .. r.n
  tell('run-stopping', r.id, '', '', why)
end
