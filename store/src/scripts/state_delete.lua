#!lua flags=allow-oom
-- state_delete: removes one shared value.
--
-- KEYS[1]  ctl     hash    the cell
-- ARGV[1]  epoch   refused unless it is the cell's
-- ARGV[2]  key
-- ARGV[3]  who     for the audit
--
-- reply    {"OK"} | {"NONE"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
keep_time()
call('ZREM', prefix .. 'states', ARGV[2])
if call('UNLINK', prefix .. 'state:' .. ARGV[2]) == 0 then return { 'NONE' } end
tell('state-deleted', ARGV[2], '', ARGV[3], '')
write_events()
return { 'OK' }
