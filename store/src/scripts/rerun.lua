#!lua
-- rerun: gives tasks that have ended another try, and lets what ended because of them wait again.
--
-- What is to be done was worked out from what the sender read: every record and count it relies on comes
-- along, and nothing is done unless all are as they were.
--
-- KEYS[1]  ctl         hash    the cell
-- ARGV[1]  epoch       refused unless it is the cell's
-- ARGV[2]  run
-- ARGV[3]  request     the same again is recognised
-- ARGV[4]  n           number of entries, then for each: index, deed, its record ('' = none), what it waits for
--                      ('' = nothing), and the value of the deed
--
-- deeds    =  nothing: others rely on it
--          L  it waits already: value = what it waits for now
--          S  starts again as soon as there is room
--          X  as S, and the items of the `foreach` are made anew from its list
--          B  waits again: value = for what
--          E  as B, and the items of the `foreach` are made anew from its list
--          G  a `foreach` goes on with some of its items: value = its range
--          I  an item of it is tried again
--          W  a `foreach` waits again with all of its items: value = for what
--          i  an item of it waits with it
--          D  an item of a `foreach` that is made anew is forgotten
--
-- from     completed, failed, skipped, cancelled; the run may have ended
-- to       blocked, queued, running (a `foreach`); the run goes on
-- reply    {"OK"} | {"DUP"} | {"CONFLICT", index} | {"AGAIN"} | {"STOPPING"} | {"PIN", worker} | {"PAUSED"} | {"FROZEN", by, since} | {"GONE"}
--          {"EPOCH", epoch} | {"SCHEMA", version}
--
-- Refused at the memory limit: it adds work.

local TODO_LOOKED_AT = 1000
-- Further ones end by themselves.
local LOGS_PER_ITEM = 16

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
if mode ~= 'run' and mode ~= 'drain' and mode ~= 'paused' then return { 'PAUSED' } end
local id, count = ARGV[2], tonumber(ARGV[4])
local r = run_of(id)
if not r or r.status == 'loading' then return { 'GONE' } end
local known = call('HMGET', r.key, 'rerun', 'collecting', 'timeout')
if known[1] == ARGV[3] then return { 'DUP' } end
if known[2] then return { 'GONE' } end
if not is_over(r) and r.stop ~= '' then return { 'STOPPING' } end

local entries, indexes, bound = {}, {}, false
for i = 1, count do
  local at = 5 * i
  entries[i] = { idx = ARGV[at], deed = ARGV[at + 1], record = ARGV[at + 2], left = ARGV[at + 3], value = ARGV[at + 4] }
  indexes[i] = ARGV[at]
end
load_texts(r, indexes)
local waits = {}
read_many(r.key .. ':left', indexes, function(idx, text) waits[idx] = text or '' end)
for _, entry in ipairs(entries) do
  local text = r.raw[entry.idx] or ''
  if text ~= entry.record or waits[entry.idx] ~= entry.left then return { 'CONFLICT', entry.idx } end
  if text ~= '' and entry.deed ~= '=' and entry.deed ~= 'L' and has(known_record(text)[FLAGS], 'b') then bound = true end
end
-- Ends that were not told to all who wait yet would be told to those who wait anew.
if call('LLEN', prefix .. 'todo') > TODO_LOOKED_AT then return { 'AGAIN' } end
for _, entry in ipairs(call('LRANGE', prefix .. 'todo', 0, TODO_LOOKED_AT - 1)) do
  if find(entry, '%a ' .. id, 1) == 1 then return { 'AGAIN' } end
end
local pinned = r.pin ~= '' and call('HEXISTS', prefix .. 'names', r.pin) == 1
if r.pin ~= '' and not pinned and bound then return { 'PIN', r.pin } end

keep_time()
call('HSET', r.key, 'rerun', ARGV[3])
if not marked(r, 'a') then r.marks = r.marks .. 'a' end
if not pinned then r.pin = '' end
if is_over(r) then
  r.status, r.stop, r.reason = 'running', '', ''
  call('HDEL', r.key, 'finished', 'note')
  call('ZREM', prefix .. 'done', id)
  local timeout = tonumber(known[3] or '0')
  if timeout > 0 then call('ZADD', prefix .. 'deadlines', clk + timeout, 'r' .. id) end
  if pinned then call('SADD', prefix .. 'pins:' .. r.pin, id) end
  tell('run-retried', id, '', '', '')
end

-- Takes an end back: the number of its last attempt stays, failures and losses begin anew.
local function take_back(idx)
  local rec = own_record(r, idx)
  local st = rec[ST]
  if is_final(st) then
    r[st] = r[st] - 1
    if st == 'F' and not group_of(rec[WINDOW]) and not has(rec[FLAGS], 'h') then r.bad = r.bad - 1 end
  end
  rec[ST], rec[OWNER], rec[FAILS], rec[LOST], rec[PARKS], rec[HOST] = 'B', '', '0', '0', '0', '0'
  rec[QUEUED], rec[STARTED], rec[FINISHED], rec[EXIT], rec[REASON] = '', '', '', '', ''
  rec[FLAGS] = string.gsub(rec[FLAGS], '[od]', '')
  return rec, st
end

local function wait_for(idx, text)
  local needs, triggers, fired = match(text, '^(%d+);?(%d*);?(%d*)$')
  r.left[idx] = { needs = tonumber(needs), triggers = tonumber(triggers), fired = fired == '1' }
  if triggers == '' then r.left[idx].triggers, r.left[idx].fired = nil, nil end
  r.left_changed[idx] = true
end

local function range_of(name, text)
  local first, next_, end_, here, limit, open_, failed, cancelled, reason = match(text, '^(%d+),(%d+),(%d+),(%-?%d+),(%d+),(%d+),(%d+),(%d+),(.*)$')
  r.win[name] = { name = name, first = tonumber(first), next = tonumber(next_), end_ = tonumber(end_), here = tonumber(here), limit = tonumber(limit), open = tonumber(open_), failed = tonumber(failed), cancelled = tonumber(cancelled), reason = reason }
  r.win_changed[name] = true
end

local forgotten, silent = {}, {}

local function forget(idx)
  local rec = own_record(r, idx) and take_back(idx)
  for attempt = 1, rec and math.min(tonumber(rec[ATT]), LOGS_PER_ITEM) or 0 do
    call('UNLINK', prefix .. 'log:' .. id .. '.' .. idx .. '.' .. attempt)
  end
  r.rec[idx], r.raw[idx] = false, false
  forgotten[#forgotten + 1] = idx
end

for _, entry in ipairs(entries) do
  local idx, deed = entry.idx, entry.deed
  if deed == 'D' then
    silent[#silent + 1] = idx
    forget(idx)
  elseif deed == 'L' then
    wait_for(idx, entry.value)
  elseif deed ~= '=' then
    silent[#silent + 1] = idx
    local rec = take_back(idx)
    touch(r, idx)
    if deed ~= 'i' then r.open = r.open + 1 end
    tell('retried', id .. '.' .. idx, rec[ATT], '', '')
    if deed == 'E' or deed == 'X' then
      if not has(rec[FLAGS], 'x') then rec[FLAGS] = rec[FLAGS] .. 'x' end
      r.win['g' .. idx] = false
      call('HDEL', r.key .. ':win', 'g' .. idx)
    end
    if deed == 'S' or deed == 'X' then
      local w = rec[WINDOW] ~= '' and window_of(r, rec[WINDOW])
      -- What its range has not come to yet starts when it does.
      if w and tonumber(idx) >= w.next then r.win_changed[w.name] = true else r.ready[#r.ready + 1] = idx end
    elseif deed == 'B' or deed == 'E' or deed == 'W' then
      wait_for(idx, entry.value)
      if deed == 'W' then
        local w = window_of(r, 'g' .. idx)
        range_of(w.name, table.concat({ w.first, w.first, w.end_, 0, w.limit, 0, 0, 0, '' }, ','))
      end
    elseif deed == 'G' then
      rec[ST], rec[ATT], rec[QUEUED], rec[STARTED] = 'R', format('%d', rec[ATT] + 1), now, now
      range_of('g' .. idx, entry.value)
      tell('started', id .. '.' .. idx, rec[ATT], '', '')
    end
  end
end
for i = 1, #silent, 1000 do call('HDEL', r.key .. ':out', unpack(silent, i, math.min(i + 999, #silent))) end
for i = 1, #forgotten, 1000 do
  call('HDEL', r.key .. ':task', unpack(forgotten, i, math.min(i + 999, #forgotten)))
  call('HDEL', r.key .. ':spec', unpack(forgotten, i, math.min(i + 999, #forgotten)))
end
admit()
flush()
return { 'OK' }
