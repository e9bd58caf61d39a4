#!lua flags=allow-oom
-- restore_commit: another generation is in force from now on. The one moment of a restore: before it everything is
-- as it was, after it everything is as the snapshot says.
--
-- KEYS[1]  ctl            hash    the cell that is in force, frozen by whoever restores
-- KEYS[2]  pointer        hash    the cluster's
-- KEYS[3]  ctl            hash    the cell that was loaded
-- KEYS[4]  journal        hash    of the restore
-- ARGV[1]  freeze id
-- ARGV[2]  generation     in force before
-- ARGV[3]  generation     that was loaded
-- ARGV[4]  restore id
--
-- from     frozen; restoring, staged
-- to       retired; restoring, committed
-- reply    {"OK", epoch} | {"DUP", epoch} | {"LOST"} it was thawed or the freeze ran out | {"MOVED", generation} | {"UNREADY"} | {"GONE"} | {"SCHEMA", version}

local pointer = call('HMGET', KEYS[2], 'generation', 'epoch')
local journal = call('HMGET', KEYS[4], 'id', 'stage')
if pointer[1] == ARGV[3] and journal[1] == ARGV[4] then return { 'DUP', pointer[2] } end
local refused = open('')
if refused then return refused end
if pointer[1] ~= ARGV[2] then return { 'MOVED', pointer[1] or '' } end
local held = call('HMGET', KEYS[1], 'freeze', 'freeze_until', 'freeze_deadline')
local ends = math.min(tonumber(held[2] or '0'), tonumber(held[3] or '0'))
if mode ~= 'frozen' or held[1] ~= ARGV[1] or ends < wall then return { 'LOST' } end
if journal[1] ~= ARGV[4] or journal[2] ~= 'staged' or call('HGET', KEYS[3], 'mode') ~= 'restoring' then return { 'UNREADY' } end
local known = math.max(tonumber(pointer[2] or '0'), tonumber(epoch))
local next_epoch = format('%.0f', math.max(known + 1, wall))
call('HSET', KEYS[2], 'generation', ARGV[3], 'epoch', next_epoch)
call('HSET', KEYS[3], 'epoch', next_epoch)
call('HSET', KEYS[1], 'mode', 'retired', 'epoch', next_epoch)
call('HSET', KEYS[4], 'stage', 'committed', 'epoch', next_epoch, 'seen', now)
-- Who waits for a bell of the old cell asks now, and learns that it is over.
for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, 4999)) do call('RPUSH', prefix .. 'bell:w:' .. inc, '1') end
return { 'OK', next_epoch }
