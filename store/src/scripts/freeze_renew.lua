#!lua flags=allow-oom
-- freeze_renew: whoever freezes is still there; once all workers have paused, the cell is frozen.
--
-- KEYS[1]  ctl         hash    the cell
-- ARGV[1]  epoch       refused unless it is the cell's
-- ARGV[2]  freeze id
-- ARGV[3]  lease       ms from now, on the wall clock of Redis
-- ARGV[4]  n           incarnations that are not waited for any more, then these
--
-- from     freezing
-- to       frozen
-- reply    {"OK", mode} | {"WAIT", incarnations that have not paused} | {"LOST"} it was thawed | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--
-- Every process that has a lease is waited for, whether it has run out or not; coordinators, which have a `/` in
-- their names, hold no agents.

local refused = open(ARGV[1])
if refused then return refused end
local held = call('HMGET', KEYS[1], 'freeze', 'freeze_until', 'freeze_deadline')
local late = not held[2] or tonumber(held[2]) < wall or tonumber(held[3]) < wall
if (mode ~= 'freezing' and mode ~= 'frozen') or held[1] ~= ARGV[2] or late then return { 'LOST' } end
keep_time()
call('HSET', KEYS[1], 'freeze_until', format('%d', wall + ARGV[3]))
if mode == 'frozen' then return { 'OK', mode } end
for i = 5, 4 + tonumber(ARGV[4]) do call('HSETNX', prefix .. 'freeze', ARGV[i], 'missing') end
local waits = {}
for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, -1)) do
  local name = call('HGET', prefix .. 'w:' .. inc, 'name')
  local is_worker = name and not find(name, '/', 1, true)
  if is_worker and call('HEXISTS', prefix .. 'freeze', inc) == 0 then waits[#waits + 1] = inc end
end
if #waits > 0 then return { 'WAIT', waits } end
call('HSET', KEYS[1], 'mode', 'frozen')
return { 'OK', 'frozen' }
