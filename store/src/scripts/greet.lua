#!lua flags=allow-oom
-- greet: the first word on each new connection: is this the Redis that was here before?
--
-- Another run id or replication id means that Redis was restarted, or that a replica took its place, and may
-- have forgotten the last that it acknowledged. Live workers know better: each is told to say what it runs and
-- what it reported (`recover`), and until all have, or RECOVERY_MS have passed, nothing is claimed.
--
-- KEYS[1]  ctl    hash    the cell
--
-- reply    {"SAME"} | {"CHANGED", workers that are asked} | {"GONE"} | {"SCHEMA", version}

local RECOVERY_MS = 15000
local RECOVERY_MIN_MS = 1000
local WORKERS_ASKED_MAX = 5000

local refused = open('')
if refused then return refused end
local info = call('INFO', 'server') .. call('INFO', 'replication')
local server = (match(info, 'run_id:(%x+)') or '') .. '.' .. (match(info, 'master_replid:(%x+)') or '')
local was = call('HMGET', KEYS[1], 'server', 'clk')
local known = was[1]
if known == server then return { 'SAME' } end
local asked = {}
if known then
  -- Beats may be forgotten too: whoever was alive by the last that is remembered is alive.
  for _, inc in ipairs(call('ZRANGEBYSCORE', prefix .. 'leases', was[2], '+inf', 'LIMIT', 0, WORKERS_ASKED_MAX)) do
    -- Coordinators have a `/` in their names: what they hold they begin again.
    local name = call('HGET', prefix .. 'w:' .. inc, 'name')
    if name and not find(name, '/', 1, true) then asked[#asked + 1] = inc end
  end
end
keep_time()
call('HSET', KEYS[1], 'server', server)
-- What is frozen may not be what was frozen: whoever froze it is to begin again.
if mode == 'freezing' or mode == 'frozen' then call('HSET', KEYS[1], 'freeze_until', 0) end
if not known then return { 'SAME' } end
for _, inc in ipairs(asked) do
  call('SADD', prefix .. 'owing', inc)
  call('HSET', prefix .. 'w:' .. inc, 'owes', 1)
  ring('w:' .. inc, 1)
end
tell('redis-changed', server, '', '', #asked)
if #asked > 0 and mode ~= 'freezing' and mode ~= 'frozen' and mode ~= 'retired' then
  if mode ~= 'recover' then call('HSET', KEYS[1], 'after', mode) end
  call('HSET', KEYS[1], 'mode', 'recover', 'recover_first', clk + RECOVERY_MIN_MS, 'recover_last', clk + RECOVERY_MS)
end
write_events()
ring_bells()
return { 'CHANGED', #asked }
