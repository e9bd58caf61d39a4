#!lua flags=allow-oom
-- freeze_paused: a worker says that its agents stand still and that all its reports are in.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  incarnation
-- ARGV[3]  freeze id      what it has paused for
--
-- reply    {"OK"} | {"NONE"} nobody freezes under this id, or too late | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
if mode ~= 'freezing' or call('HGET', KEYS[1], 'freeze') ~= ARGV[3] then return { 'NONE' } end
if not call('ZSCORE', prefix .. 'leases', ARGV[2]) then return { 'NONE' } end
keep_time()
call('HSET', prefix .. 'freeze', ARGV[2], 'paused')
return { 'OK' }
