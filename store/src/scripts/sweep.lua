#!lua flags=allow-oom
-- sweep: carries out what time has brought about, a portion at a time. Anyone may call it.
--
-- KEYS[1]  ctl      hash    the cell
-- ARGV[1]  epoch    refused unless it is the cell's
-- ARGV[2]  limit    most items of each kind, 1 to 50
--
-- from     running, cancelling, parked, queued
-- to       queued, failed, parked, cancelled
-- reply    {"OK", handled, ms until the next due time or -1} | {"PAUSED"} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
if mode == 'freezing' or mode == 'frozen' or mode == 'retired' then return { 'PAUSED' } end
keep_time()
local done = sweep(tonumber(ARGV[2]))
local next_due = -1
for _, name in ipairs({ 'leases', 'delayed', 'deadlines' }) do
  local first = call('ZRANGE', prefix .. name, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - clk)
    if next_due < 0 or wait < next_due then next_due = wait end
  end
end
if call('EXISTS', prefix .. 'todo') == 1 then next_due = 0 end
return { 'OK', done, next_due }
