-- freezing: what a script that changes the cell answers while the cell is held still for a snapshot.
--
-- Freezing ends by itself (see `thaw`), so such a request is to be sent again. Reports of workers are taken until
-- all agents stand still, and no longer (`step`); beats are answered throughout.

-- Nil, or the reply that lets the request wait.
local function held_up()
  if mode ~= 'freezing' and mode ~= 'frozen' then return nil end
  local known = call('HMGET', KEYS[1], 'freeze_by', 'freeze_at')
  return { 'FROZEN', known[1] or '', known[2] or '' }
end
