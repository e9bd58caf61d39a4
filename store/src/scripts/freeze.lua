#!lua flags=allow-oom
-- freeze: begins to hold the cell still. Nothing is claimed from now on, the logical clock stands, and workers pause
-- their agents and say so (`freeze_paused`).
--
-- KEYS[1]  ctl         hash    the cell
-- ARGV[1]  epoch       refused unless it is the cell's
-- ARGV[2]  freeze id   of whoever asks: only it renews and ends the freeze while its lease lives
-- ARGV[3]  by          who asks, for people
-- ARGV[4]  lease       ms from now, on the wall clock of Redis; without renewal anybody may thaw after it
-- ARGV[5]  deadline    ms from now; after it anybody may thaw, renewed or not
--
-- from     run, drain, paused, stopped
-- to       freezing; the mode before follows the thaw
-- reply    {"OK", mode before} | {"DUP"} | {"FROZEN", by, since} | {"MODE", mode that does not allow it} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local WORKERS_CALLED_MAX = 5000

local refused = open(ARGV[1])
if refused then return refused end
local held = held_up()
if held then
  if call('HGET', KEYS[1], 'freeze') == ARGV[2] then return { 'DUP' } end
  return held
end
if mode ~= 'run' and mode ~= 'drain' and mode ~= 'paused' and mode ~= 'stopped' then return { 'MODE', mode } end
keep_time()
call('DEL', prefix .. 'freeze')
call('HSET', KEYS[1], 'mode', 'freezing', 'freeze', ARGV[2], 'freeze_by', ARGV[3], 'freeze_at', now, 'freeze_after', mode,
  'freeze_until', format('%d', wall + ARGV[4]), 'freeze_deadline', format('%d', wall + ARGV[5]))
tell('mode-freezing', ARGV[3], '', '', '')
for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, WORKERS_CALLED_MAX - 1)) do ring('w:' .. inc, 1) end
write_events()
ring_bells()
return { 'OK', mode }
