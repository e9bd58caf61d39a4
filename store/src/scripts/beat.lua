#!lua flags=allow-oom
-- beat: renews a lease and compares what the worker runs with what it holds.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  incarnation
-- ARGV[3]  lease          ms from now
-- ARGV[4]  status         JSON of the worker: slots, memory, mode
-- ARGV[5]  types          served agent types as `+a+b+`
-- ARGV[6]  n              attempts it runs, then for each: run, index, attempt
--
-- reply    {"OK", mode, verdicts, unknown, registry version} | {"FENCED"} | {"RECOVER"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--          a verdict is OK, CANCEL, KILL (end it without grace) or STALE; `unknown` lists attempts held but not listed

local refused = open(ARGV[1])
if refused then return refused end
local inc = ARGV[2]
local until_clk = call('ZSCORE', prefix .. 'leases', inc)
-- Redis has changed: what its records say of this worker is old, and it says itself what it holds (`recover`).
local owes = call('HEXISTS', prefix .. 'w:' .. inc, 'owes') == 1
if owes or (mode == 'recover' and not until_clk) then
  keep_time()
  if until_clk then call('ZADD', prefix .. 'leases', clk + tonumber(ARGV[3]), inc) end
  return { 'RECOVER' }
end
if not until_clk or tonumber(until_clk) < clk then return { 'FENCED' } end
-- While the cell is frozen nothing of it changes: its clock stands still, so no lease can run out.
if mode ~= 'frozen' then
  keep_time()
  call('ZADD', prefix .. 'leases', clk + tonumber(ARGV[3]), inc)
  call('HSET', prefix .. 'w:' .. inc, 'status', ARGV[4], 'types', ARGV[5], 'beat', wall)
end

local goes_on = mode == 'run' or mode == 'drain' or mode == 'paused'

-- What is held gets its limit here, unless it has one: how late it began to count is a beat at most.
local function limit_time(r, idx, rec)
  if not goes_on or rec[OWNER] ~= inc or has(rec[FLAGS], 'd') or (rec[ST] ~= 'R' and rec[ST] ~= 'X') then return end
  local ends = clk + shared_of(r, rec[SHARED]).timeout + DEADLINE_GRACE_MS
  call('ZADD', prefix .. 'deadlines', ends, 'a' .. r.id .. '.' .. idx .. '.' .. rec[ATT])
  rec[FLAGS] = rec[FLAGS] .. 'd'
  touch(r, idx)
end

local listed, verdicts = {}, {}
for i = 1, tonumber(ARGV[6]) do
  local at = 4 + i * 3
  local run, idx, attempt = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  listed[run .. '.' .. idx] = true
  local r = run_of(run)
  local rec = false
  if r then
    load_records(r, { idx })
    rec = r.rec[idx]
    if rec then limit_time(r, idx, rec) end
  end
  if not rec or tostring(rec[ATT]) ~= attempt or rec[OWNER] ~= inc then
    verdicts[i] = 'STALE'
  elseif rec[ST] == 'X' then
    verdicts[i] = is_killed(rec) and 'KILL' or 'CANCEL'
  elseif rec[ST] == 'R' then
    verdicts[i] = 'OK'
  else
    verdicts[i] = 'STALE'
  end
end
local unknown = {}
for _, id in ipairs(call('SMEMBERS', prefix .. 'own:' .. inc)) do
  if not listed[id] then
    local run, idx = string.match(id, '^(%w+)%.(%d+)$')
    local r = run_of(run)
    if r then
      load_records(r, { idx })
      local rec = r.rec[idx]
      if rec then limit_time(r, idx, rec) end
      if rec then unknown[#unknown + 1] = { run, tonumber(idx), tonumber(rec[ATT]) } end
    end
  end
end
if goes_on then sweep(10) end
return { 'OK', mode, verdicts, unknown, tonumber(call('HGET', KEYS[1], 'registry') or '0') }
