#!lua flags=allow-oom
-- restore_finish: all folders are in their places; the restored cell goes on.
--
-- KEYS[1]  ctl          hash    the cell that was restored
-- KEYS[2]  journal      hash    of the restore
-- ARGV[1]  restore id
-- ARGV[2]  who          asked for it, for the audit
-- ARGV[3]  detail       for the audit
--
-- from     restoring, committed
-- to       run, clearing
-- reply    {"OK"} | {"DUP"} | {"GONE"} | {"SCHEMA", version}

local WORKERS_CALLED_MAX = 5000

local refused = open('')
if refused then return refused end
local journal = call('HMGET', KEYS[2], 'id', 'stage')
if journal[1] ~= ARGV[1] or journal[2] ~= 'committed' then return { 'DUP' } end
keep_time()
if mode == 'recover' then
  call('HSET', KEYS[1], 'after', 'run')
else
  call('HSET', KEYS[1], 'mode', 'run')
end
call('HDEL', KEYS[1], 'restored_after')
call('HSET', KEYS[2], 'stage', 'clearing', 'seen', now)
tell('restored', ARGV[1], '', ARGV[2], ARGV[3])
for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, WORKERS_CALLED_MAX - 1)) do ring('w:' .. inc, 1) end
write_events()
ring_bells()
return { 'OK' }
