#!lua flags=allow-oom
-- gc: removes a finished run, a portion of its logs at a time, its keys with the last.
--
-- KEYS[1]  ctl       hash    the cell
-- ARGV[1]  epoch     refused unless it is the cell's
-- ARGV[2]  run
-- ARGV[3]  cursor    0 to begin, then what the last call answered
-- ARGV[4]  loading   ms after which a run that was never committed may go
--
-- reply    {"MORE", cursor} | {"OK"} | {"BUSY", status} | {"PAUSED"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local LOGS_PER_CALL = 64

local refused = open(ARGV[1])
if refused then return refused end
-- Whoever collects does so now and again.
if mode == 'freezing' or mode == 'frozen' or mode == 'retired' then return { 'PAUSED' } end
local id = ARGV[2]
local key = prefix .. 'r:' .. id
local known = call('HMGET', key, 'status', 'key')
local status = known[1]
local begun = tonumber(call('ZSCORE', prefix .. 'loading', id) or '0')
local abandoned = status == 'loading' and begun + tonumber(ARGV[4]) < clk
if status and status ~= 'completed' and status ~= 'failed' and status ~= 'cancelled' and not abandoned then return { 'BUSY', status } end
-- Tasks of other runs still have to be told how it ended.
if call('EXISTS', key .. ':waits') == 1 then return { 'BUSY', status } end
local scanned = call('HSCAN', key .. ':task', ARGV[3], 'COUNT', LOGS_PER_CALL)
for i = 1, #scanned[2], 2 do
  local attempts = tonumber(read_record(scanned[2][i + 1])[ATT])
  for attempt = 1, attempts do call('UNLINK', prefix .. 'log:' .. id .. '.' .. scanned[2][i] .. '.' .. attempt) end
end
if scanned[1] ~= '0' then
  -- From here on nothing of it is tried anew: a part of its logs is gone.
  if status then call('HSET', key, 'collecting', 1) end
  return { 'MORE', scanned[1] }
end
if known[2] and call('GET', prefix .. 'dispatch:' .. known[2]) == id then call('DEL', prefix .. 'dispatch:' .. known[2]) end
call('UNLINK', key, key .. ':spec', key .. ':task', key .. ':left', key .. ':edge', key .. ':out', key .. ':win', key .. ':held', key .. ':trace')
call('ZREM', prefix .. 'done', id)
call('ZREM', prefix .. 'runs', id)
call('ZREM', prefix .. 'loading', id)
keep_time()
tell('run-collected', id, '', '', '')
write_events()
return { 'OK' }
