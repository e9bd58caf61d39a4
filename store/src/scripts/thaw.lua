#!lua flags=allow-oom
-- thaw: the cell goes on as before it was frozen; or it is retired, if the cluster's pointer names another one.
--
-- KEYS[1]  ctl          hash    the cell
-- ARGV[1]  freeze id    of whoever froze; '' = anybody: only once the freeze has run out
-- ARGV[2]  generation   that the pointer names: read before this is sent, by everybody who thaws
-- ARGV[3]  by           who asks, for the audit
--
-- from     freezing, frozen
-- to       the mode before; recover, if Redis was replaced meanwhile; retired
-- reply    {"OK", mode} | {"NONE"} it is not frozen, or not by this one | {"HELD", ms until it runs out} | {"RETIRED"} | {"GONE"} | {"SCHEMA", version}

local RECOVERY_MS = 15000
local RECOVERY_MIN_MS = 1000
local WORKERS_CALLED_MAX = 5000

local refused = open('')
if refused then return refused end
if mode == 'retired' then return { 'RETIRED' } end
if mode ~= 'freezing' and mode ~= 'frozen' then return { 'NONE' } end
local known = call('HMGET', KEYS[1], 'freeze', 'freeze_until', 'freeze_deadline', 'freeze_after')
local ends = math.min(tonumber(known[2] or '0'), tonumber(known[3] or '0'))
if ARGV[1] == '' then
  if ends >= wall then return { 'HELD', ends - wall } end
elseif known[1] ~= ARGV[1] then
  return { 'NONE' }
end

local function call_workers()
  for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, WORKERS_CALLED_MAX - 1)) do ring('w:' .. inc, 1) end
end

-- The clock stood still up to now: the time it is told is the time of this call.
keep_time()
call('HDEL', KEYS[1], 'freeze', 'freeze_by', 'freeze_at', 'freeze_until', 'freeze_deadline', 'freeze_after')
call('DEL', prefix .. 'freeze')
local follows = known[4] or 'run'
if match(prefix, '{(%d+)%.%d+}') ~= ARGV[2] then
  follows = 'retired'
elseif call('EXISTS', prefix .. 'owing') == 1 then
  call('HSET', KEYS[1], 'after', follows, 'recover_first', clk + RECOVERY_MIN_MS, 'recover_last', clk + RECOVERY_MS)
  follows = 'recover'
end
call('HSET', KEYS[1], 'mode', follows)
tell(ARGV[1] == '' and 'mode-thawed-late' or 'mode-thawed', ARGV[3], '', '', follows)
call_workers()
write_events()
ring_bells()
if follows == 'retired' then return { 'RETIRED' } end
return { 'OK', follows }
