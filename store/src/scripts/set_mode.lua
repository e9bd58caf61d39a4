#!lua flags=allow-oom
-- set_mode: lets claims wait, or go on. Reports, beats and sweeps go on in either case, and submissions unless the
-- cluster is stopped.
--
-- KEYS[1]  ctl      hash    the cell
-- ARGV[1]  epoch    refused unless it is the cell's
-- ARGV[2]  mode     `paused`, `stopped` or `run`
-- ARGV[3]  note     why, for people
-- ARGV[4]  who      asks, for people
--
-- from     run, drain, paused, stopped; while Redis is being recovered the mode that follows is set
-- to       the mode asked for
-- reply    {"OK", the mode before} | {"DUP"} | {"MODE", mode that does not allow it} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local WORKERS_CALLED_MAX = 5000

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
local field, before = 'mode', mode
if mode == 'recover' then
  field, before = 'after', call('HGET', KEYS[1], 'after') or 'run'
end
if before == ARGV[2] then return { 'DUP' } end
local stops = before == 'stopped' or before == 'drain'
if before ~= 'run' and before ~= 'paused' and not stops then return { 'MODE', before } end
-- A cluster that was shut down is let go on by name, not by being paused.
if ARGV[2] == 'paused' and before == 'stopped' then return { 'MODE', before } end
keep_time()
call('HSET', KEYS[1], field, ARGV[2], 'mode_note', ARGV[3], 'mode_by', ARGV[4], 'mode_at', wall)
tell('mode-' .. ARGV[2], ARGV[4], '', '', '')
-- Every process learns of it with a beat, and has one now.
for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, WORKERS_CALLED_MAX - 1)) do ring('w:' .. inc, 1) end
write_events()
ring_bells()
return { 'OK', before }
