#!lua flags=allow-oom
-- detach: a process that holds nothing any more takes its leave; what it still holds counts as lost.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  incarnation
--
-- reply    {"OK"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
local inc = ARGV[2]
-- While agents are being paused one may leave; then what it held must stay as it is.
refused = mode == 'frozen' and held_up()
if refused then return refused end
if call('EXISTS', prefix .. 'w:' .. inc) == 0 then return { 'OK' } end
keep_time()
call('ZADD', prefix .. 'leases', 0, inc)
if call('HGET', prefix .. 'leader', 'inc') == inc then call('DEL', prefix .. 'leader') end
local name = call('HGET', prefix .. 'w:' .. inc, 'name')
bury(inc, 50)
call('ZREM', prefix .. 'lost', name)
admit()
flush()
return { 'OK' }
