#!lua flags=allow-oom
-- lead: takes or renews the leadership of the coordinators.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  incarnation
-- ARGV[3]  lease          ms from now
--
-- reply    {"LEADER"} | {"STANDBY", incarnation of the leader} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
local key = prefix .. 'leader'
local held = call('HMGET', key, 'inc', 'until')
if held[1] and held[1] ~= ARGV[2] and tonumber(held[2]) >= clk then return { 'STANDBY', held[1] } end
-- Nothing is led while the cell stands still, and a leader cannot run out.
if mode == 'frozen' then
  if held[1] == ARGV[2] then return { 'LEADER' } end
  return { 'STANDBY', held[1] or '' }
end
keep_time()
call('HSET', key, 'inc', ARGV[2], 'until', clk + tonumber(ARGV[3]))
if held[1] ~= ARGV[2] then
  tell('leader', ARGV[2], '', ARGV[2], '')
  write_events()
end
return { 'LEADER' }
