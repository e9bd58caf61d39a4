#!lua flags=allow-oom
-- agent_hold: stops an agent, starts it again, or lets it go on.
--
-- KEYS[1]  ctl      hash    the cell
-- ARGV[1]  epoch    refused unless it is the cell's
-- ARGV[2]  id
-- ARGV[3]  order    stop: what waits for it goes on waiting, and what it works on is cancelled;
--                   restart: what it works on goes back to its queue unburned, and a stop is over;
--                   release: a stop is over
-- ARGV[4]  kill     1: without grace
-- ARGV[5]  by       who says so, for people
--
-- from     running, cancelling
-- to       cancelling
-- reply    {"OK", task it works on or '', 1 if it was stopped} | {"NONE"} | {"PAUSED"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
if mode == 'retired' then return { 'PAUSED' } end
local id, order, kill, by = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local text = call('HGET', prefix .. 'assignments', id)
if not text then return { 'NONE' } end
local agent = cjson.decode(text)
local was_held = agent.held ~= nil
keep_time()

local task = call('SMEMBERS', prefix .. 'slots:i:' .. id)[1] or ''
if task ~= '' and order ~= 'release' then
  local run, idx = match(task, '^(%w+)%.(%d+)$')
  local r = run_of(run)
  if r then
    load_records(r, { idx })
    order_end(r, idx, r.rec[idx], order == 'restart', kill)
  end
end

local holds = order == 'stop'
if holds ~= was_held then
  agent.held = holds and { at = wall, by = by } or nil
  call('HSET', prefix .. 'assignments', id, cjson.encode(agent))
  call('HINCRBY', KEYS[1], 'registry', 1)
  if not holds and call('EXISTS', prefix .. 'q:i:' .. id) == 1 then ring('i:' .. id, 1) end
end
local TOLD = { stop = 'agent-stopped', restart = 'agent-restarted', release = 'agent-released' }
if holds ~= was_held or order == 'restart' then tell(TOLD[order], id, '', (string.gsub(by, '%c', ' ')), '') end
flush()
return { 'OK', task, was_held and 1 or 0 }
