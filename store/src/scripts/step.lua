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
-- then     n                 number of reports, then for each: run, index, attempt,
--                            outcome (C K F A N Q), exit code, reason, delay ms or '',
--                            outputs JSON or '', p, then p times key, value, kind
--
-- from     running, cancelling; queued
-- to       completed, failed, skipped, parked, cancelled, queued; running
-- reply    {"OK", answers, grants, more, mode, fenced} | {"PAUSED"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--          an answer is OK, DUP, CANCELLED, STALE or GONE; a grant is what `grant_reply` makes

local refused = open(ARGV[1])
if refused then return refused end
if mode == 'frozen' or mode == 'retired' then return { 'PAUSED' } end
local inc, lane, req, want, state_ttl = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local worker_key = prefix .. 'w:' .. inc
local worker = call('HMGET', worker_key, 'a' .. lane, 'name', 'types')
local lease = tonumber(call('ZSCORE', prefix .. 'leases', inc) or '-1')
local fenced = not worker[2] or lease < clk

-- The stored answer of a request that came before: its grants count only if they still hold.
local function replay(stored)
  local codes, ids = match(stored, '^[^|]*|([^|]*)|(.*)$')
  local answers, grants = {}, {}
  for code in string.gmatch(codes, '%S+') do answers[#answers + 1] = code end
  for id, idx, attempt in string.gmatch(ids, '(%w+)%.(%d+)%.(%d+)') do
    local r = run_of(id)
    if r then
      load_records(r, { idx })
      local rec = r.rec[idx]
      local holds = rec and (rec[ST] == 'R' or rec[ST] == 'X') and rec[ATT] == attempt and rec[OWNER] == inc
      if holds then grants[#grants + 1] = grant_reply(r, idx, rec) end
    end
  end
  return { 'OK', answers, grants, 1, mode, 0 }
end

if worker[1] and match(worker[1], '^([^|]*)|') == req then return replay(worker[1]) end

local arg = 8
local queues = {}
for _ = 1, tonumber(ARGV[7]) do
  queues[#queues + 1] = ARGV[arg]
  arg = arg + 1
end
local reports, by_run = {}, {}
local count = tonumber(ARGV[arg])
arg = arg + 1
for _ = 1, count do
  local report = { run = ARGV[arg], idx = ARGV[arg + 1], attempt = ARGV[arg + 2], outcome = ARGV[arg + 3], exit = ARGV[arg + 4], reason = ARGV[arg + 5], delay = ARGV[arg + 6], out = ARGV[arg + 7], publish = {} }
  local published = tonumber(ARGV[arg + 8])
  arg = arg + 9
  for _ = 1, published do
    report.publish[#report.publish + 1] = { ARGV[arg], ARGV[arg + 1], ARGV[arg + 2] }
    arg = arg + 3
  end
  reports[#reports + 1] = report
  by_run[report.run] = by_run[report.run] or {}
  table.insert(by_run[report.run], report.idx)
end

keep_time()
do_todo()
for id, indexes in pairs(by_run) do
  local r = run_of(id)
  if r then load_texts(r, indexes) end
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

local released, outs = { own = {}, deadlines = {} }, {}
local limits_known = #reports > 0 and next(read_limits()) ~= nil

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
  released.deadlines[#released.deadlines + 1] = 'a' .. id .. '.' .. rec[ATT]
  if limits_known then
    local slug = shared_of(r, rec[SHARED]).slug
    if call('SREM', prefix .. 'slots:' .. slug, id) == 1 then ring('a:' .. slug, 1) end
  end
  local outcome = report.outcome
  if rec[ST] == 'R' and outcome == 'C' then
    keep_output(report)
    for _, pair in ipairs(report.publish) do put_state(pair[1], pair[2], pair[3], state_ttl, id .. '.' .. rec[ATT]) end
    leave(r)
    complete(r, idx, report.exit)
    return 'OK'
  end
  rec = own_record(r, idx)
  if rec[ST] == 'X' then
    leave(r)
    conclude(r, idx, rec, 'N', '', '')
    return 'CANCELLED'
  end
  if outcome == 'F' then
    keep_output(report)
    rec[FAILS] = rec[FAILS] + 1
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
for i, report in ipairs(reports) do answers[i] = apply(report) end
for id, flat in pairs(outs) do call('HSET', prefix .. 'r:' .. id .. ':out', unpack(flat)) end
if #released.own > 0 then
  call('SREM', prefix .. 'own:' .. inc, unpack(released.own))
  call('ZREM', prefix .. 'deadlines', unpack(released.deadlines))
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
  local r = run_of(pick.run)
  local rec = view(r, pick.idx)
  grants[i] = grant_reply(r, pick.idx, rec)
  ids[i] = pick.id
end
if worker[2] and (#answers > 0 or #ids > 0) then
  call('HSET', worker_key, 'a' .. lane, req .. '|' .. table.concat(answers, ' ') .. '|' .. table.concat(ids, ' '))
end
return { 'OK', answers, grants, more and 1 or 0, mode, fenced and 1 or 0 }
