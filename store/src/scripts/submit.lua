#!lua
-- submit: stores one chunk of a run; the last one makes it run.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  run
-- ARGV[3]  digest         of the whole plan: the same run id with another digest is refused
-- ARGV[4]  chunk          number of this chunk, from 0
-- ARGV[5]  commit         1 with the last chunk
-- then     five lists of field and value, each after its number of pairs: run, spec, left, edge, win
--
-- from     nothing, loading
-- to       loading, running
-- reply    {"OK"} | {"DUP"} | {"GAP", next chunk} | {"CONFLICT"} | {"PAUSED"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--
-- No task can be claimed before the commit. Refused at the memory limit: it adds work.

local refused = open(ARGV[1])
if refused then return refused end
if mode ~= 'run' and mode ~= 'drain' then return { 'PAUSED' } end
local id, digest, chunk, commit = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local key = prefix .. 'r:' .. id
local known = call('HMGET', key, 'digest', 'chunk', 'status')
if known[1] and known[1] ~= digest then return { 'CONFLICT' } end
local expected = tonumber(known[2] or '0')
if chunk < expected then return { 'DUP' } end
if chunk > expected then return { 'GAP', expected } end

keep_time()
local arg, bytes = 6, 0

local function store_pairs(name)
  local last = arg + 2 * tonumber(ARGV[arg])
  for i = arg + 1, last, 500 do
    call('HSET', name, unpack(ARGV, i, math.min(i + 499, last)))
  end
  for i = arg + 1, last do bytes = bytes + #ARGV[i] end
  arg = last + 1
end

store_pairs(key)
if chunk == 0 then
  call('HSET', key, 'status', 'loading', 'digest', digest, 'created', wall, 'stop', '', 'pin', '', 'reason', '', 'C', 0, 'F', 0, 'K', 0, 'N', 0, 'bad', 0, 'inflight', 0)
  call('ZADD', prefix .. 'runs', wall, id)
  call('ZADD', prefix .. 'loading', clk, id)
end
store_pairs(key .. ':spec')
store_pairs(key .. ':left')
store_pairs(key .. ':edge')
store_pairs(key .. ':win')
call('HINCRBY', key, 'bytes', bytes)
call('HSET', key, 'chunk', chunk + 1)
if not commit then return { 'OK' } end

call('HSET', key, 'status', 'running')
call('ZREM', prefix .. 'loading', id)
local timeout = tonumber(call('HGET', key, 'timeout') or '0')
if timeout > 0 then call('ZADD', prefix .. 'deadlines', clk + timeout, 'r' .. id) end
tell('run-submitted', id, '', '', '')
local r = run_of(id)
local roots = tonumber(call('HGET', key, 'roots') or '0')
for k = 0, roots - 1 do
  local w = window_of(r, 'q' .. k)
  if w then r.win_changed[w.name] = true end
end
admit()
flush()
return { 'OK' }
