#!lua flags=allow-oom
-- expand: a coordinator stores the items of a `foreach`; with the last chunk they start.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  incarnation    the coordinator that claimed the step
-- ARGV[3]  run
-- ARGV[4]  index          of the step
-- ARGV[5]  attempt
-- ARGV[6]  total          number of items
-- ARGV[7]  offset         of this chunk's first item
-- ARGV[8]  limit          most items at one time, 0 = no limit
-- ARGV[9]  tasks          most tasks a run may have
-- ARGV[10] n              number of items here, then their specs
--
-- from     running or being cancelled, held by the coordinator
-- to       running, held by nobody: it ends with its items; cancelled (STALE), since no agent has to be ended
-- reply    {"OK"} | {"DUP"} | {"STALE"} | {"LIMIT", tasks of the run} | {"GONE"} | {"PAUSED"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1])
if refused then return refused end
if mode == 'frozen' or mode == 'retired' then return { 'PAUSED' } end
local inc, id, idx, attempt = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local total, offset, limit = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local r = run_of(id)
if not r then return { 'GONE' } end
load_records(r, { idx })
local rec = r.rec[idx]
if rec and rec[OWNER] == '' and tostring(rec[ATT]) == attempt then return { 'DUP' } end
if rec and rec[ST] == 'X' and rec[OWNER] == inc and tostring(rec[ATT]) == attempt then
  keep_time()
  disown(r, idx, rec)
  leave(r)
  conclude(r, idx, rec, 'N', '', '')
  admit()
  flush()
  return { 'STALE' }
end
if not rec or rec[ST] ~= 'R' or rec[OWNER] ~= inc or tostring(rec[ATT]) ~= attempt then return { 'STALE' } end

local name = 'g' .. idx
local w = window_of(r, name)
if not w or w.end_ - w.first ~= total then
  if r.n + total > tonumber(ARGV[9]) then return { 'LIMIT', r.n } end
  keep_time()
  -- An attempt before this one found another list: what it stored of it is no part of the run.
  for from = w and w.first or 0, w and w.end_ - 1 or -1, 1000 do
    local old = {}
    for number = from, math.min(from + 999, w.end_ - 1) do old[#old + 1] = format('%d', number) end
    call('HDEL', r.key .. ':spec', unpack(old))
  end
  w = { name = name, first = r.n, next = r.n, end_ = r.n + total, here = 0, limit = limit, open = 0, failed = 0, cancelled = 0, reason = '' }
  r.win[name] = w
  r.win_changed[name] = true
  call('HSET', r.key, 'n', r.n + total)
  r.n = r.n + total
end
local flat, bytes = {}, 0
for i = 1, tonumber(ARGV[10]) do
  flat[#flat + 1] = tostring(w.first + offset + i - 1)
  flat[#flat + 1] = ARGV[10 + i]
  bytes = bytes + #ARGV[10 + i] + 8
end
if #flat > 0 then
  call('HSET', r.key .. ':spec', unpack(flat))
  call('HINCRBY', r.key, 'bytes', bytes)
end
if offset + tonumber(ARGV[10]) >= total then
  disown(r, idx, rec)
  leave(r)
  rec[OWNER] = ''
  rec[FLAGS] = string.gsub(rec[FLAGS], 'x', '')
  touch(r, idx)
  tell('expanded', id .. '.' .. idx, attempt, inc, total)
  w.open = total
  r.open = r.open + total
  r.win_changed[name] = true
  if total == 0 then conclude(r, idx, rec, 'C', '', '') end
  admit()
end
flush()
return { 'OK' }
