#!lua
-- state_set: writes one shared value.
--
-- KEYS[1]  ctl           hash    the cell
-- ARGV[1]  epoch         refused unless it is the cell's
-- ARGV[2]  key
-- ARGV[3]  value
-- ARGV[4]  kind          s text, j JSON
-- ARGV[5]  ttl           ms, 0 = none
-- ARGV[6]  if version    '' = whatever it is, 0 = only if there is none, else only if it is this one
-- ARGV[7]  who           for the audit
-- ARGV[8]  incarnation   of the worker whose attempt writes; '' = no attempt does, and the rest is ''
-- ARGV[9]  run
-- ARGV[10] index
-- ARGV[11] attempt       refused unless it speaks for the task
--
-- reply    {"OK", version} | {"CONFLICT", version or 0} | {"FENCED"} | {"PAUSED"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
if ARGV[8] ~= '' then
  refused = unheard(ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[2])
  if refused then return refused end
end
-- Until all agents stand still theirs is still heard; what people want waits from the first.
refused = (mode == 'frozen' or ARGV[8] == '') and held_up()
if refused then return refused end
local known = call('HGET', prefix .. 'state:' .. ARGV[2], 'n') or '0'
if ARGV[6] ~= '' and ARGV[6] ~= known then return { 'CONFLICT', tonumber(known) } end
keep_time()
local version = put_state(ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[7])
write_events()
return { 'OK', version }
