#!lua
-- register: stores an agent type, in place of what goes by its slug.
--
-- KEYS[1]  ctl      hash    the cell
-- ARGV[1]  epoch    refused unless it is the cell's
-- ARGV[2]  slug
-- ARGV[3]  type     JSON
-- ARGV[4]  limit    most attempts at one time in the cluster; '' = no limit
--
-- reply    {"NEW"} | {"CHANGED"} | {"SAME"} | {"PAUSED"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--
-- Runs that were submitted keep the type as it was; the limit is the cluster's and holds at once.

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
if mode == 'retired' then return { 'PAUSED' } end
local slug, limit = ARGV[2], ARGV[4]
local known = call('HGET', prefix .. 'agents', slug)
if known == ARGV[3] then return { 'SAME' } end
keep_time()
call('HSET', prefix .. 'agents', slug, ARGV[3])
if limit == '' then
  call('HDEL', prefix .. 'limits', slug)
else
  call('HSET', prefix .. 'limits', slug, limit)
end
call('HINCRBY', KEYS[1], 'registry', 1)
-- A limit that was raised lets more of what waits start.
if call('EXISTS', prefix .. 'q:a:' .. slug) == 1 then ring('a:' .. slug, 1) end
for _, queue in ipairs(call('SMEMBERS', prefix .. 'short:' .. slug)) do ring(queue, 1) end
call('DEL', prefix .. 'short:' .. slug)
tell('agent-registered', slug, '', '', '')
write_events()
ring_bells()
return { known and 'CHANGED' or 'NEW' }
