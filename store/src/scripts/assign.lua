#!lua
-- assign: an agent gets a folder on a worker, for the first time or another one.
--
-- KEYS[1]  ctl           hash    the cell
-- ARGV[1]  epoch         refused unless it is the cell's
-- ARGV[2]  assignment    JSON, without its time and whether it is held
--
-- from     no agent, or one that works on nothing; another role or priority also while it works
-- to       assigned; whether it is held stays as it was
-- reply    {"NEW"} | {"SAME"} | {"CHANGED"} | {"MOVED"} | {"BUSY", task} | {"NOTYPE"} | {"PAUSED"} | {"FROZEN", by, since} | {"GONE"} | {"EPOCH", epoch} | {"SCHEMA", version}
--
-- What waits for it follows: its queue is called after the agent. Refused at the memory limit: it adds a record.

local refused = open(ARGV[1]) or held_up()
if refused then return refused end
-- While Redis finds out what it has forgotten, an agent that seems idle may be at work.
if mode == 'retired' or mode == 'recover' then return { 'PAUSED' } end
local wanted = cjson.decode(ARGV[2])
local id = wanted.id
if call('HEXISTS', prefix .. 'agents', wanted.agent_type) == 0 then return { 'NOTYPE' } end
local text = call('HGET', prefix .. 'assignments', id)
local known = text and cjson.decode(text)
local stays = known and known.path == wanted.path and known.worker == wanted.worker and known.agent_type == wanted.agent_type
if stays and known.role == wanted.role and known.priority == wanted.priority then return { 'SAME' } end
if known and not stays then
  local running = call('SMEMBERS', prefix .. 'slots:i:' .. id)
  if running[1] then return { 'BUSY', running[1] } end
end
keep_time()
wanted.held = known and known.held or nil
wanted.assigned_at_ms = stays and known.assigned_at_ms or wall
call('HSET', prefix .. 'assignments', id, cjson.encode(wanted))
call('HINCRBY', KEYS[1], 'registry', 1)
-- Both workers are to hear of it now, and not with their next beat.
for _, name in ipairs({ wanted.worker, known and known.worker or nil }) do
  local inc = call('HGET', prefix .. 'names', name)
  if inc then ring('w:' .. inc, 1) end
end
-- Its bell is kept up as far as work waits for it.
if known and call('EXISTS', prefix .. 'q:i:' .. id) == 1 then ring('i:' .. id, 1) end
tell(known and 'agent-moved' or 'agent-assigned', id, '', wanted.worker, wanted.agent_type)
write_events()
ring_bells()
return { (not known and 'NEW') or (stays and 'CHANGED') or 'MOVED' }
