#!lua flags=allow-oom
-- attach: a worker or coordinator process makes itself known and gets its lease.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  incarnation
-- ARGV[3]  name
-- ARGV[4]  types          served agent types as `+a+b+`
-- ARGV[5]  lease          ms
-- ARGV[6]  takeover       1: fence the process that holds the name
-- ARGV[7]  about          JSON: host, pid, slots, labels, version, role
--
-- reply    {"OK"} | {"DUPNAME", incarnation, about, age of its last beat in ms} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
local inc, name = ARGV[2], ARGV[3]
local holder = call('HGET', prefix .. 'names', name)
if holder and holder ~= inc then
  local until_clk = tonumber(call('ZSCORE', prefix .. 'leases', holder) or '0')
  if until_clk >= clk and ARGV[6] ~= '1' then
    local known = call('HMGET', prefix .. 'w:' .. holder, 'about', 'beat')
    return { 'DUPNAME', holder, known[1] or '', wall - tonumber(known[2] or wall) }
  end
end
keep_time()
call('HSET', prefix .. 'names', name, inc)
call('HSET', prefix .. 'w:' .. inc, 'v', '1', 'name', name, 'types', ARGV[4], 'about', ARGV[7], 'since', wall, 'beat', wall)
call('ZADD', prefix .. 'leases', clk + tonumber(ARGV[5]), inc)
call('ZREM', prefix .. 'lost', name)
tell('worker-attached', name, '', inc, '')
if holder and holder ~= inc then
  call('ZADD', prefix .. 'leases', 0, holder)
  bury(holder, 50)
end
admit()
flush()
return { 'OK' }
