-- shared_state: writing the key/value pairs that agents and people share.
--
-- Each write takes a number from one counter of the cell, so that a version never
-- comes twice, also not after a key was deleted or has expired.

local function put_state(key, value, kind, ttl_ms, who)
  local name = prefix .. 'state:' .. key
  local version = call('HINCRBY', KEYS[1], 'state_version', 1)
  call('HSET', name, 'v', value, 't', kind, 'n', version)
  if ttl_ms > 0 then
    call('PEXPIRE', name, ttl_ms)
    call('ZADD', prefix .. 'states', wall + ttl_ms, key)
  else
    call('PERSIST', name)
    call('ZADD', prefix .. 'states', '+inf', key)
  end
  tell('state-set', key, version, who, '')
  return version
end
