#!lua
-- submit: stores one chunk of a run; the last one makes it run.
--
-- KEYS[1]  ctl            hash    the cell
-- ARGV[1]  epoch          refused unless it is the cell's
-- ARGV[2]  run
-- ARGV[3]  digest         of the whole plan: the same run id with another digest is refused
-- ARGV[4]  chunk          number of this chunk, from 0
-- ARGV[5]  commit         1 with the last chunk
-- ARGV[6]  key            of several runs with one key only the first is carried out; '' = none
-- ARGV[7]  needs          what its tasks wait for in other runs, `<index>:<run>` or `<index>:<run>.<index>` each
-- then     lists of field and value, each after its number of pairs: run, spec, left, edge, win, task, out
--
-- from     nothing, loading
-- to       loading, running; tasks that another run carried out are final from the commit on
-- reply    {"OK"} | {"DUP"} | {"GAP", next chunk} | {"CONFLICT"} | {"PAUSED"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--          {"KEY", run, 1 if its plan is the same} | {"NONE", what is waited for and is not there} | {"WAITERS", run, how many wait for it}
--
-- No task can be claimed before the commit. Refused at the memory limit: it adds work.

local WAITERS_MAX = 10000

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
if mode ~= 'run' and mode ~= 'drain' and mode ~= 'paused' and mode ~= 'recover' then return { 'PAUSED' } end
local id, digest, chunk, commit = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local key = prefix .. 'r:' .. id
local known = call('HMGET', key, 'digest', 'chunk', 'status')
if known[1] and known[1] ~= digest then return { 'CONFLICT' } end
local expected = tonumber(known[2] or '0')

-- What was stored of a run that is not to be.
local function give_up(reply)
  if known[1] then
    call('UNLINK', key, key .. ':spec', key .. ':left', key .. ':edge', key .. ':win', key .. ':task', key .. ':out')
    call('ZREM', prefix .. 'runs', id)
    call('ZREM', prefix .. 'loading', id)
  end
  return reply
end

local submission = prefix .. 'dispatch:' .. ARGV[6]
local first = ARGV[6] ~= '' and call('GET', submission)
if first and first ~= id then
  local theirs = call('HGET', prefix .. 'r:' .. first, 'digest')
  return give_up({ 'KEY', first, theirs == digest and 1 or 0 })
end
if chunk < expected then return { 'DUP' } end
if chunk > expected then return { 'GAP', expected } end

-- All that is waited for must be there before anything is stored.
local needs = {}
for idx, on_run, on in string.gmatch(ARGV[7], '(%d+):(%w+)%.?(%d*)') do
  local other = run_of(on_run)
  local there = other and other.status ~= 'loading'
  if there and on ~= '' then
    load_heads(other, { on })
    there = other.head[on]
  end
  if not there then return give_up({ 'NONE', on == '' and on_run or (on_run .. '.' .. on) }) end
  if not other.waiting then other.waiting = call('ZCARD', other.key .. ':waits') end
  if other.waiting >= WAITERS_MAX then return give_up({ 'WAITERS', on_run, other.waiting }) end
  other.waiting = other.waiting + 1
  needs[#needs + 1] = { idx = idx, other = other, on = on }
end

keep_time()
local arg, bytes = 8, 0

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
  call('HSET', key, 'status', 'loading', 'digest', digest, 'created', wall, 'stop', '', 'pin', '', 'reason', '', 'inflight', 0)
  call('ZADD', prefix .. 'runs', wall, id)
  call('ZADD', prefix .. 'loading', clk, id)
end
store_pairs(key .. ':spec')
store_pairs(key .. ':left')
store_pairs(key .. ':edge')
store_pairs(key .. ':win')
store_pairs(key .. ':task')
store_pairs(key .. ':out')
call('HINCRBY', key, 'bytes', bytes)
call('HSET', key, 'chunk', chunk + 1)
if not commit then return { 'OK' } end

call('HSET', key, 'status', 'running')
call('ZREM', prefix .. 'loading', id)
if ARGV[6] ~= '' then call('SET', submission, id) end
local stored = call('HMGET', key, 'timeout', 'roots', 'seeds', 'steps')
local timeout = tonumber(stored[1] or '0')
if timeout > 0 then call('ZADD', prefix .. 'deadlines', clk + timeout, 'r' .. id) end
tell('run-submitted', id, '', '', '')
local r = run_of(id)
for k = 0, tonumber(stored[2] or '0') - 1 do
  local w = window_of(r, 'q' .. k)
  if w then r.win_changed[w.name] = true end
end
if stored[3] then settle_seeds(r, 0, tonumber(stored[4])) end

-- Joins what goes on; what has ended counts at once.
for _, need in ipairs(needs) do
  local other = need.other
  local good
  if need.on == '' then
    if is_over(other) then good = other.status == 'completed' end
  else
    load_texts(other, { need.on })
    local rec = view(other, need.on)
    -- An item that never began and a run that is over: it never will.
    if rec and is_final(rec[ST]) then good = is_good(rec[ST], rec[FLAGS]) elseif is_over(other) then good = false end
  end
  if good ~= nil then
    meet(r, need.idx, good)
  else
    if not marked(other, 'w') then other.marks = other.marks .. 'w' end
    local on = need.on == '' and 'run' or need.on
    call('ZADD', other.key .. ':waits', need.on == '' and -1 or need.on, on .. ' ' .. id .. '.' .. need.idx)
  end
end
admit()
flush()
return { 'OK' }
