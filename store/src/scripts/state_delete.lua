#!lua flags=allow-oom
-- state_delete: removes one shared value.
--
-- KEYS[1]  ctl           hash    the cell
-- ARGV[1]  epoch         refused unless it is the cell's
-- ARGV[2]  key
-- ARGV[3]  who           for the audit
-- ARGV[4]  incarnation   of the worker whose attempt asks; '' = no attempt does, and the rest is ''
-- ARGV[5]  run
-- ARGV[6]  index
-- ARGV[7]  attempt       refused unless it speaks for the task
--
-- reply    {"OK"} | {"NONE"} | {"FENCED"} | {"PAUSED"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
if ARGV[4] ~= '' then
  refused = unheard(ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[2])
  if refused then return refused end
end
-- Until all agents stand still theirs is still heard; what people want waits from the first.
refused = (mode == 'frozen' or ARGV[4] == '') and held_up()
if refused then return refused end
keep_time()
call('ZREM', prefix .. 'states', ARGV[2])
if call('UNLINK', prefix .. 'state:' .. ARGV[2]) == 0 then return { 'NONE' } end
tell('state-deleted', ARGV[2], '', ARGV[3], '')
write_events()
return { 'OK' }
