#!lua flags=allow-oom
-- stop: cancels all that is not final in a run.
--
-- KEYS[1]  ctl      hash    the cell
-- ARGV[1]  epoch    refused unless it is the cell's
-- ARGV[2]  run
-- ARGV[3]  note     why, for people
--
-- from     running
-- to       cancelling
-- reply    {"OK"} | {"DUP"} | {"FINAL", status} | {"LOADING"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
local r = run_of(ARGV[2])
if not r then return { 'GONE' } end
if r.status == 'loading' then return { 'LOADING' } end
if r.status == 'cancelling' then return { 'DUP' } end
if r.status ~= 'running' then return { 'FINAL', r.status } end
keep_time()
call('HSET', r.key, 'note', ARGV[3])
stop_run(r, 'cancel')
flush()
do_todo()
admit()
flush()
return { 'OK' }
