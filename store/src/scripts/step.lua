#!lua flags=allow-oom
-- step: a worker reports attempts that ended and claims its next tasks, in one.
--
-- KEYS[1]  ctl               hash    the cell
-- ARGV[1]  epoch             refused unless it is the cell's
-- ARGV[2]  incarnation       who reports and claims
-- ARGV[3]  lane              each lane has one request under way at a time
-- ARGV[4]  request id        the same id again gets the stored answer
-- ARGV[5]  want              most tasks to claim, 0 to 64
-- ARGV[6]  state ttl         ms, of values published with a report
-- ARGV[7]  q                 number of queues, then their names
-- then     g                 number of groups of reports, then for each what its reports have in common: run,
--                            outcome (C K F A N Q), exit code, reason, delay ms or '', 1 if outputs follow,
--                            p, n; then n indexes, n attempts, n outputs (JSON or ''), p times key, value,
--                            kind (values are published by groups of one)
--
-- from     running, cancelling; queued
-- to       completed, failed, skipped, parked, cancelled, queued; running
-- reply    {"OK", answers, grants, more, mode, fenced} | {"PAUSED"} | {"RECOVER"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--          answers are words between spaces: OK, DUP, CANCELLED, STALE or GONE; grants are a flat list of
--          what `grant_reply` adds
--
-- An attempt that was told to end because its agent starts again (see `agent_hold`) goes from cancelling to
-- queued, or to completed if it was done before.

local refused = open(ARGV[1])
if refused then return refused end
if mode == 'frozen' or mode == 'retired' then return { 'PAUSED' } end
local inc, lane, req, want, state_ttl = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local worker_key = prefix .. 'w:' .. inc
local worker = call('HMGET', worker_key, 'a' .. lane, 'name', 'types', 'owes')
-- Redis has changed, and this worker knows more of its tasks than the records do: it recovers first.
if (worker[4] or (mode == 'recover' and not worker[2])) and lane ~= '255' then return { 'RECOVER' } end
local lease = tonumber(call('ZSCORE', prefix .. 'leases', inc) or '-1')
local fenced = not worker[2] or lease < clk

-- The stored answer of a request that came before: its grants count only if they still hold.
local function replay(stored)
  local codes, ids = match(stored, '^[^|]*|([^|]*)|(.*)$')
  local grants = {}
  for id, idx, attempt in string.gmatch(ids, '(%w+)%.(%d+)%.(%d+)') do
    local r = run_of(id)
    if r then
      load_records(r, { idx })
      local rec = r.rec[idx]
      local holds = rec and (rec[ST] == 'R' or rec[ST] == 'X') and rec[ATT] == attempt and rec[OWNER] == inc
      if holds then grant_reply(grants, r, idx) end
    end
  end
  return { 'OK', codes, grants, 1, mode, 0 }
end

if worker[1] and match(worker[1], '^([^|]*)|') == req then return replay(worker[1]) end

local arg = 8 + tonumber(ARGV[7])
local queues = { unpack(ARGV, 8, arg - 1) }
local groups = {}
local count = tonumber(ARGV[arg])
arg = arg + 1
-- A group is also the report that is looked at: `apply` finds what is its own in `idx`, `attempt` and `out`.
for i = 1, count do
  local n, published, at = tonumber(ARGV[arg + 7]), tonumber(ARGV[arg + 6]), arg + 8
  local outs = ARGV[arg + 5] == '1' and at + 2 * n
  local group = { run = ARGV[arg], outcome = ARGV[arg + 1], exit = ARGV[arg + 2], reason = ARGV[arg + 3], delay = ARGV[arg + 4], n = n, at = at, outs = outs, publish = {}, out = '' }
  arg = at + (outs and 3 or 2) * n
  for p = 1, published do
    group.publish[p] = { ARGV[arg], ARGV[arg + 1], ARGV[arg + 2] }
    arg = arg + 3
  end
  groups[i] = group
end

keep_time()
do_todo()
for _, group in ipairs(groups) do
  local r = run_of(group.run)
  if r then load_texts(r, { unpack(ARGV, group.at, group.at + group.n - 1) }) end
end

-- Whether the record already says what the report says.
local function same_outcome(rec, report)
  local st, outcome = rec[ST], report.outcome
  if outcome == 'F' then
    -- A retry that was asked for while the run was being stopped was recorded as a failure.
    return rec[REASON] == report.reason and (st == 'F' or (st == 'P' and report.delay ~= ''))
  end
  if outcome == 'A' then return st == 'P' end
  -- A task that is queued after a wait has an end on record, and it was another one.
  if outcome == 'N' or outcome == 'Q' then return st == 'Q' and rec[FINISHED] == '' end
  return st == outcome
end

local released, outs = { own = {} }, {}
local limits_known = count > 0 and next(read_limits()) ~= nil

local function keep_output(report)
  if report.out == '' then return end
  outs[report.run] = outs[report.run] or {}
  table.insert(outs[report.run], report.idx)
  table.insert(outs[report.run], report.out)
end

local function apply(report)
  local r = run_of(report.run)
  local idx = report.idx
  local rec = r and view(r, idx)
  if not rec then return 'GONE' end
  if tostring(rec[ATT]) ~= report.attempt or rec[OWNER] ~= inc then
    tell('fenced', report.run .. '.' .. idx, report.attempt, inc, '')
    return 'STALE'
  end
  if rec[ST] ~= 'R' and rec[ST] ~= 'X' then
    if rec[ST] == 'N' then return 'CANCELLED' end
    if same_outcome(rec, report) then return 'DUP' end
    tell('fenced', report.run .. '.' .. idx, report.attempt, inc, '')
    return 'STALE'
  end
  local id = r.id .. '.' .. idx
  released.own[#released.own + 1] = id
  if has(rec[FLAGS], 'd') then
    rec = own_record(r, idx)
    forget_deadline(id, rec)
  end
  if limits_known or has(rec[FLAGS], 'i') then free_slots(r, id, rec) end
  local outcome = report.outcome
  -- An agent that is to start again, and was done before it heard of that, has done its task.
  if outcome == 'C' and (rec[ST] == 'R' or restarts(rec)) then
    keep_output(report)
    for _, pair in ipairs(report.publish) do put_state(pair[1], pair[2], pair[3], state_ttl, id .. '.' .. rec[ATT]) end
    leave(r)
    complete(r, idx, report.exit)
    return 'OK'
  end
  rec = own_record(r, idx)
  if rec[ST] == 'X' then
    end_ordered(r, idx, rec)
    return rec[ST] == 'N' and 'CANCELLED' or 'OK'
  end
  if outcome == 'F' then
    keep_output(report)
    rec[FAILS] = rec[FAILS] + 1
    -- What its agent was to go on from is lost with another worker: the run cannot be completed.
    if report.reason == 'lost' then stop_run(r, 'lost') end
    if report.delay ~= '' and spared(r, rec[FLAGS]) then
      park(r, idx, rec, report.reason, report.exit, tonumber(report.delay))
    else
      leave(r)
      conclude(r, idx, rec, 'F', report.reason, report.exit)
    end
  elseif outcome == 'A' and spared(r, rec[FLAGS]) then
    rec[PARKS] = rec[PARKS] + 1
    park(r, idx, rec, report.reason, report.exit, tonumber(report.delay))
  elseif outcome == 'Q' or outcome == 'A' or outcome == 'N' then
    -- Nobody has cancelled it, whatever its worker thinks: it goes back.
    if report.reason == 'infra' then rec[HOST] = rec[HOST] + 1 end
    give_back(r, idx, rec, 'returned')
  else
    leave(r)
    conclude(r, idx, rec, outcome, report.reason, report.exit)
  end
  return 'OK'
end

local answers = {}
for _, report in ipairs(groups) do
  for at = report.at, report.at + report.n - 1 do
    report.idx, report.attempt = ARGV[at], ARGV[at + report.n]
    if report.outs then report.out = ARGV[at + 2 * report.n] end
    answers[#answers + 1] = apply(report)
  end
end
for id, flat in pairs(outs) do call('HSET', prefix .. 'r:' .. id .. ':out', unpack(flat)) end
if #released.own > 0 then
  call('SREM', prefix .. 'own:' .. inc, unpack(released.own))
end
admit()
send_queues()

local granted, more = {}, false
if want > 0 and not fenced and mode == 'run' then
  granted, more = claim(inc, worker[2], worker[3] or '', want, queues)
  admit()
end
flush()

local grants, ids = {}, {}
for i, pick in ipairs(granted) do
  grant_reply(grants, run_of(pick.run), pick.idx)
  ids[i] = pick.id
end
local codes = table.concat(answers, ' ')
if worker[2] and (#answers > 0 or #ids > 0) then
  call('HSET', worker_key, 'a' .. lane, req .. '|' .. codes .. '|' .. table.concat(ids, ' '))
end
return { 'OK', codes, grants, more and 1 or 0, mode, fenced and 1 or 0 }
