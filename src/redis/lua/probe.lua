-- Does, without an effect, what our scripts do to their keys, so that rights, types, memory, the disk and the place of the keys are proved.
-- KEYS: 1 a key of the probe's own; then those to prove
-- ARGV: 1 'always' (what has to work on a full server, too) or 'room'; 2 a channel, or ''; then the type of each key to prove
-- Returns a code and the answer of Redis; or nil: everything works
local function refused(reply)
  if type(reply) ~= 'table' or not reply.err then return nil end
  -- The first word is its code; some releases name a right that is missing without one.
  local text = reply.err:gsub('^-', '')
  return { text:find('user executing the script', 1, true) and 'NOPERM' or text:match('^%u+') or 'ERR', text }
end

-- `entry` does what a new entry would; an id that low is refused where there was ever one.
local trials = {
  stream = function(key)
    local entry = refused(redis.pcall('XADD', key, 'NOMKSTREAM', '0-1', 'probe', ''))
    if entry and not entry[2]:find('equal or smaller', 1, true) then return entry end
    return refused(redis.pcall('XDEL', key, '0-1'))
  end,
  hash = function(key)
    return refused(redis.pcall('HSET', key, 'probe', '')) or refused(redis.pcall('HDEL', key, 'probe'))
  end,
  zset = function(key)
    return refused(redis.pcall('ZADD', key, 0, 'probe')) or refused(redis.pcall('ZREM', key, 'probe'))
  end,
  -- Of the key itself only the type: at its end there is something else.
  list = function(key)
    return refused(redis.pcall('LLEN', key))
      or refused(redis.pcall('LINDEX', key, 0))
      or refused(redis.pcall('RPUSH', KEYS[1], ''))
      or refused(redis.pcall('LPOP', KEYS[1]))
  end,
}

-- A script whose first write takes no memory may go on writing when the server is full.
if ARGV[1] == 'always' then
  local gone = refused(redis.pcall('HDEL', KEYS[1], 'probe'))
  if gone then return gone end
end
for i = 2, #KEYS do
  local problem = trials[ARGV[i + 1]](KEYS[i])
  if problem then return problem end
end
if ARGV[2] ~= '' then return refused(redis.pcall('PUBLISH', ARGV[2], '{"probe":true}')) end
return nil
