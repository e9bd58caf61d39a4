-- prelude: what every script shares: the cell, its clock, records, events and bells.
--
-- KEYS[1] is the cell's `ctl`; every other key is made from its prefix, so that all of
-- them carry the cell's hash tag. A script reads and checks all it needs, then writes.
-- Numbers stay below 2^53 and times have 13 digits, which Lua prints exactly.

local SCHEMA = '1'
local CLOCK_STEP_MS = 5000
local BELL_TOKENS = 32
local EVENTS_KEPT = 200000

local call = redis.call
local find, format, match, sub = string.find, string.format, string.match, string.sub
local prefix = string.sub(KEYS[1], 1, -4)
local clk, wall, known_wall, mode, epoch
-- The wall clock as text: a number is turned into text each time it is written, and that is dear.
local now

local function wall_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The window after a change of Redis (`greet`) ends when every worker has said what it knows, or its time is
-- over. Then work goes on as before, and everybody is told.
local function end_recovery()
  local window = call('HMGET', KEYS[1], 'after', 'recover_first', 'recover_last')
  local all_said = call('EXISTS', prefix .. 'owing') == 0
  if clk < tonumber(window[all_said and 2 or 3] or '0') then return end
  mode = window[1] or 'run'
  call('HSET', KEYS[1], 'mode', mode)
  call('HDEL', KEYS[1], 'after', 'recover_first', 'recover_last')
  for _, inc in ipairs(call('ZRANGE', prefix .. 'leases', 0, 4999)) do call('RPUSH', prefix .. 'bell:w:' .. inc, '1') end
end

-- Opens the cell: nil, or the reply that refuses. The logical clock follows the wall
-- clock, by at most CLOCK_STEP_MS a call and never back, so that a jump expires nobody.
local function open(wanted_epoch)
  local c = call('HMGET', KEYS[1], 'schema', 'epoch', 'mode', 'clk', 'wall')
  if not c[1] then return { 'GONE' } end
  if c[1] ~= SCHEMA then return { 'SCHEMA', c[1] } end
  epoch = c[2]
  if wanted_epoch ~= '' and epoch ~= wanted_epoch then return { 'EPOCH', epoch } end
  mode = c[3]
  wall = wall_ms()
  now = format('%d', wall)
  known_wall = tonumber(c[5])
  local passed = wall - known_wall
  if passed < 0 or mode == 'freezing' or mode == 'frozen' then passed = 0 end
  if passed > CLOCK_STEP_MS then passed = CLOCK_STEP_MS end
  clk = tonumber(c[4]) + passed
  if mode == 'recover' then end_recovery() end
end

-- Several calls fall into one millisecond; the second finds what it would write.
local function keep_time()
  if wall ~= known_wall then call('HSET', KEYS[1], 'clk', clk, 'wall', wall) end
end

-- A task's record: one line of text, absent while the task was never ready.
local ST, ATT, OWNER, FAILS, LOST, PARKS, HOST = 1, 2, 3, 4, 5, 6, 7
local QUEUED, STARTED, FINISHED, EXIT, REASON = 8, 9, 10, 11, 12
local SHARED, WINDOW, FLAGS, RANK, PLACE = 13, 14, 15, 16, 17

-- Records that look alike (tasks of one batch do) are taken apart once.
local parsed, record_shape = {}, nil

-- A record to look at and not to change: others look at it too.
local function known_record(text)
  local known = parsed[text]
  if not known then
    record_shape = record_shape or '^' .. string.rep('([^,]*),', 16) .. '([^,]*)$'
    known = { match(text, record_shape) }
    parsed[text] = known
  end
  return known
end

local function read_record(text)
  return { unpack(known_record(text), 1, PLACE) }
end

local function new_record(head)
  return { 'B', '0', '', '0', '0', '0', '0', '', '', '', '', '', head.shared, head.window, head.flags, '', '' }
end

local function is_final(st)
  return st == 'C' or st == 'F' or st == 'K' or st == 'N'
end

-- Events: one line each, all of a call in one entry. Ids, kinds and reasons, never payloads.
-- What happens to several tasks in a row is one line with all of them, where it is what happens to many.
local events, line = {}, {}
local line_kind, line_attempt, line_who, line_detail

local function close_line()
  if line_kind then
    events[#events + 1] = line_kind .. '\t' .. (line[2] and table.concat(line, ' ') or line[1]) .. '\t' .. (line_attempt or '') .. '\t' .. (line_who or '') .. '\t' .. (line_detail or '')
  end
end

local function tell(kind, subject, attempt, who, detail)
  local same = kind == line_kind and attempt == line_attempt and who == line_who and detail == line_detail
  if same and (kind == 'queued' or kind == 'started' or kind == 'completed') then
    line[#line + 1] = subject
    return
  end
  close_line()
  line_kind, line_attempt, line_who, line_detail, line = kind, attempt, who, detail, { subject }
end

local function write_events()
  if not line_kind then return end
  close_line()
  call('XADD', prefix .. 'events', 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', table.concat(events, '\n'))
  events, line_kind = {}, nil
end

-- Bells: wake-up tokens, a hint and never the truth.
local bells = {}

local function ring(name, tokens)
  bells[name] = (bells[name] or 0) + tokens
end

local function ring_bells()
  for name, tokens in pairs(bells) do
    if tokens > 0 then
      local key = prefix .. 'bell:' .. name
      local room = BELL_TOKENS - call('LLEN', key)
      if tokens > room then tokens = room end
      for _ = 1, tokens do call('RPUSH', key, '1') end
    end
  end
  bells = {}
end
