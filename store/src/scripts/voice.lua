-- voice: whether an attempt still speaks for its task, asked by scripts that an agent's request reaches.
--
-- Stricter than a report, which only has to find its record: an agent goes on writing, so it is heard only
-- while the lease of its worker lives. While its task is being cancelled it may still put its things in order.

-- Nil if the attempt is heard, else the reply that refuses, after a line in the audit stream.
local function unheard(inc, id, idx, attempt, key)
  local text = call('HGET', prefix .. 'r:' .. id .. ':task', idx)
  local rec = text and known_record(text)
  local lease = tonumber(call('ZSCORE', prefix .. 'leases', inc) or '-1')
  local holds = rec and (rec[ST] == 'R' or rec[ST] == 'X') and rec[ATT] == attempt and rec[OWNER] == inc
  if holds and lease >= clk and mode ~= 'retired' then return nil end
  -- Its claim may be one that Redis has forgotten, and that its worker is about to name.
  if mode == 'recover' then return { 'PAUSED' } end
  keep_time()
  tell('state-refused', id .. '.' .. idx, attempt, inc, key)
  write_events()
  return { 'FENCED' }
end
