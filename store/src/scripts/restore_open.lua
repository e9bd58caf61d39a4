#!lua flags=allow-oom
-- restore_open: a cell that was loaded from a snapshot, and that nobody uses yet, is made ready to be taken apart.
--
-- KEYS[1]  ctl       hash    the cell, of a generation that is not in force
-- ARGV[1]  cluster   the id that it has from now on
--
-- from     the mode of when the snapshot was taken
-- to       restoring
-- reply    {"OK", ms on the wall clock since the snapshot} | {"GONE"} | {"SCHEMA", version}
--
-- What the snapshot says of a freeze, of a server and of a recovery was about another life. The logical clock goes
-- on from where it stood: neither a lease nor a parked task is a week older for it.

local refused = open('')
if refused then return refused end
local since = mode == 'restoring' and tonumber(call('HGET', KEYS[1], 'restored_after') or '0') or (wall - known_wall)
if mode ~= 'restoring' then clk = tonumber(call('HGET', KEYS[1], 'clk')) end
keep_time()
call('HDEL', KEYS[1], 'server', 'freeze', 'freeze_by', 'freeze_at', 'freeze_until', 'freeze_deadline', 'freeze_after',
  'after', 'recover_first', 'recover_last', 'mode_note', 'mode_by', 'mode_at')
call('HSET', KEYS[1], 'mode', 'restoring', 'cluster', ARGV[1], 'restored_after', format('%.0f', since))
return { 'OK', since }
