#!lua flags=allow-oom
-- init: makes a cell, once.
--
-- KEYS[1]  ctl    hash    the cell
-- ARGV[1]  epoch
-- ARGV[2]  cluster id
--
-- reply    {"OK"} | {"EXISTS", schema, epoch, cluster id}

local known = call('HMGET', KEYS[1], 'schema', 'epoch', 'cluster')
if known[1] then return { 'EXISTS', known[1], known[2], known[3] } end
wall = wall_ms()
call('HSET', KEYS[1], 'schema', SCHEMA, 'epoch', ARGV[1], 'cluster', ARGV[2], 'mode', 'run', 'clk', wall, 'wall', wall)
return { 'OK' }
