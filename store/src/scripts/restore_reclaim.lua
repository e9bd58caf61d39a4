#!lua flags=allow-oom
-- restore_reclaim: what a process held when the snapshot was taken is queued again, a portion at a time. Nothing is
-- counted against a task, and its next attempt has a higher number; what was being cancelled is cancelled.
--
-- KEYS[1]  ctl            hash    the cell, in mode restoring
-- ARGV[1]  incarnation    that held it
-- ARGV[2]  limit          tasks in this call
--
-- from     running, cancelling
-- to       queued, cancelled
-- reply    {"OK", tasks done, 1 if there are more} | {"MODE", mode} | {"GONE"} | {"SCHEMA", version}

local refused = open('')
if refused then return refused end
if mode ~= 'restoring' then return { 'MODE', mode } end
keep_time()
local inc, limit = ARGV[1], tonumber(ARGV[2])
local own = prefix .. 'own:' .. inc
local ids = call('SRANDMEMBER', own, limit)
for _, id in ipairs(ids) do
  local run, idx = match(id, '^(%w+)%.(%d+)$')
  local r = run and run_of(run)
  if r then
    load_records(r, { idx })
    local rec = r.rec[idx]
    if rec and rec[OWNER] == inc and (rec[ST] == 'R' or rec[ST] == 'X') then
      disown(r, idx, rec)
      if rec[ST] == 'X' then
        end_ordered(r, idx, rec)
      else
        give_back(r, idx, rec, 'returned')
      end
    end
  end
  call('SREM', own, id)
end
admit()
flush()
return { 'OK', #ids, #ids >= limit and 1 or 0 }
