#!lua flags=allow-oom
-- cancel: ends one task; an attempt that runs is told to end.
--
-- KEYS[1]  ctl      hash    the cell
-- ARGV[1]  epoch    refused unless it is the cell's
-- ARGV[2]  run
-- ARGV[3]  index
-- ARGV[4]  note     why, as the task's message in JSON; '' = nobody said
--
-- from     blocked, queued, parked, running
-- to       cancelled, cancelling
-- reply    {"OK"} | {"CANCELLING"} | {"DUP"} | {"FINAL", letter} | {"NONE"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
local r = run_of(ARGV[2])
if not r or r.status == 'loading' then return { 'GONE' } end
keep_time()
local verdict = cancel_task(r, ARGV[3])
local ends = verdict == 'OK' or verdict == 'CANCELLING'
if ends and ARGV[4] ~= '' then call('HSET', r.key .. ':out', ARGV[3], ARGV[4]) end
admit()
flush()
if verdict == 'FINAL' then return { 'FINAL', r.rec[ARGV[3]][ST] } end
return { verdict }
