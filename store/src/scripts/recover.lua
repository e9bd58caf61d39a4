#!lua flags=allow-oom
-- recover: a worker says what it runs and what it reported lately, and gets back what Redis has forgotten.
--
-- A claim that was forgotten is adopted: the task runs again under the attempt number that was granted, held by
-- the same incarnation. What has ended is then reported through `step`, as if for the first time.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  incarnation
-- ARGV[3]  name           of the worker
-- ARGV[4]  types          served agent types as `+a+b+`
-- ARGV[5]  lease          ms from now
-- ARGV[6]  about          as in `attach`; '' = the process is gone, and is not attached again
-- ARGV[7]  done           1: the worker has no more to say, others need not wait for it
-- ARGV[8]  n              attempts, at most 64, then for each: run, index, attempt
--
-- from     queued, parked, running (an earlier attempt of this worker, or of one that has said all it knows)
-- to       running
-- reply    {"OK", verdicts, mode} | {"FENCED"} | {"PAUSED"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--          a verdict is ADOPTED, YOURS (it was known), LATER (what it waits for is not known yet), STALE or GONE

local refused = open(ARGV[1])
if refused then return refused end
if mode == 'frozen' or mode == 'retired' then return { 'PAUSED' } end
local inc, name = ARGV[2], ARGV[3]
local worker = prefix .. 'w:' .. inc
local attaches = ARGV[6] ~= ''
if call('EXISTS', worker) == 0 then
  local holder = call('HGET', prefix .. 'names', name)
  if not attaches or (holder and holder ~= inc) then return { 'FENCED' } end
end
keep_time()
if attaches then
  call('HSET', prefix .. 'names', name, inc)
  call('HSETNX', worker, 'since', wall)
  call('HSET', worker, 'v', '1', 'name', name, 'types', ARGV[4], 'about', ARGV[6], 'beat', wall)
  call('ZADD', prefix .. 'leases', clk + tonumber(ARGV[5]), inc)
end
do_todo()

local items, listed = {}, {}
for i = 1, tonumber(ARGV[8]) do
  local at = 6 + i * 3
  items[i] = { run = ARGV[at], idx = ARGV[at + 1], attempt = tonumber(ARGV[at + 2]) }
  listed[ARGV[at] .. '.' .. ARGV[at + 1] .. '.' .. ARGV[at + 2]] = true
end

-- Whether an attempt before the one that was forgotten may still be reported by who held it.
local function is_awaited(r, idx, rec)
  if rec[OWNER] == inc then return listed[r.id .. '.' .. idx .. '.' .. rec[ATT]] end
  return call('SISMEMBER', prefix .. 'owing', rec[OWNER]) == 1
end

-- Takes the task from where Redis thinks it is. The run's gate counts it from here on, if it did not before:
-- that may be more than the gate lets through, until those that ended before it are reported as well.
local function uproot(r, idx, rec)
  if rec[ST] == 'R' then
    disown(r, idx, rec)
    return
  end
  if rec[ST] == 'P' then
    call('ZREM', prefix .. 'delayed', r.id .. '.' .. idx)
  else
    local freed = r.freed
    withdraw(r, idx, rec)
    r.freed = freed
    if rec[PLACE] ~= 'held' then
      r.inflight = r.inflight + 1
      return
    end
  end
  r.inflight = r.inflight + 1
end

local function adopt(r, idx, rec, attempt)
  uproot(r, idx, rec)
  local id = r.id .. '.' .. idx
  local shared = shared_of(r, rec[SHARED])
  if has(rec[FLAGS], 'b') and r.pin == '' then
    r.pin = name
    call('SADD', prefix .. 'pins:' .. name, r.id)
  end
  rec[ST], rec[ATT], rec[OWNER], rec[STARTED], rec[FINISHED], rec[PLACE] = 'R', format('%d', attempt), inc, now, '', ''
  touch(r, idx)
  call('SADD', prefix .. 'own:' .. inc, id)
  call('ZADD', prefix .. 'deadlines', clk + shared.timeout + DEADLINE_GRACE_MS, 'a' .. id .. '.' .. rec[ATT])
  if not has(rec[FLAGS], 'd') then rec[FLAGS] = rec[FLAGS] .. 'd' end
  if call('HEXISTS', prefix .. 'limits', shared.slug) == 1 then call('SADD', prefix .. 'slots:' .. shared.slug, id) end
  if is_assigned(shared.queue) then call('SADD', prefix .. 'slots:' .. shared.queue, id) end
  tell('adopted', id, rec[ATT], inc, name)
  tell('started', id, rec[ATT], inc, name)
end

local function recall(item)
  local r = run_of(item.run)
  if not r then return 'GONE' end
  local idx = item.idx
  load_records(r, { idx })
  local rec = r.rec[idx]
  if not rec then return is_final(r.status) and 'STALE' or 'LATER' end
  local known = tonumber(rec[ATT])
  if known >= item.attempt then
    local holds = known == item.attempt and rec[OWNER] == inc and (rec[ST] == 'R' or rec[ST] == 'X')
    return holds and 'YOURS' or 'STALE'
  end
  if rec[ST] == 'B' then return 'LATER' end
  if rec[ST] == 'X' or is_final(rec[ST]) or not spared(r, rec[FLAGS]) then return 'STALE' end
  if rec[ST] == 'R' and rec[OWNER] == '' then return 'STALE' end
  if has(rec[FLAGS], 'b') and r.pin ~= '' and r.pin ~= name then return 'STALE' end
  if rec[ST] == 'R' and is_awaited(r, idx, rec) then return 'LATER' end
  adopt(r, idx, rec, item.attempt)
  return 'ADOPTED'
end

local verdicts = {}
for i, item in ipairs(items) do verdicts[i] = recall(item) end
if ARGV[7] == '1' then
  call('HDEL', worker, 'owes')
  call('SREM', prefix .. 'owing', inc)
end
admit()
flush()
return { 'OK', verdicts, mode }
