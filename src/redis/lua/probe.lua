-- Does, without an effect, what our scripts do to their keys, so that rights, types, memory, the disk and the place of the keys are proved.
-- KEYS: 1 a key of the probe's own; then those to prove
-- ARGV: 1 'always' (what has to work on a full server, too) or 'room'; 2 a channel, or ''; then the type of each key to prove
-- Returns a code and the answer of Redis; or nil: everything works
local function refused(reply)
  if type(reply) ~= 'table' or not reply.err then return nil end
  -- The first word is its code; some releases name a right that is missing without one.
  local text = reply.err:gsub('^-', '')
  if text:find('exhausted the last possible ID', 1, true) then return { 'EXHAUSTED', text } end
  return { text:find('user executing the script', 1, true) and 'NOPERM' or text:match('^%u+') or 'ERR', text }
end

-- The first of these commands that is refused. Those without a key of theirs work on the probe's own.
local function all(commands)
  for _, command in ipairs(commands) do
    local problem = refused(redis.pcall(unpack(command)))
    if problem then return problem end
  end
  return nil
end

-- What the scripts do to a key of each type. First what takes back, so that nothing is left where that is refused.
local trials = {
  stream = function(key)
    local gone = refused(redis.pcall('XDEL', key, '0-1'))
    if gone then return gone end
    -- As a new entry; an id that low is refused where there was ever one.
    local entry = refused(redis.pcall('XADD', key, 'NOMKSTREAM', '0-1', 'probe', ''))
    if entry and not entry[2]:find('equal or smaller', 1, true) then return entry end
    return all({ { 'XDEL', key, '0-1' }, { 'XLEN', key }, { 'XRANGE', key, '0-1', '0-1' } })
  end,
  hash = function(key)
    return all({
      { 'HDEL', key, 'probe' },
      { 'HSET', key, 'probe', '' },
      { 'HSETNX', key, 'probe', '' },
      { 'HDEL', key, 'probe' },
      { 'HGET', key, 'probe' },
      { 'HMGET', key, 'probe' },
      { 'HEXISTS', key, 'probe' },
      { 'HLEN', key },
    })
  end,
  zset = function(key)
    return all({
      { 'ZREM', key, 'probe' },
      { 'ZADD', key, 0, 'probe' },
      { 'ZREM', key, 'probe' },
      { 'ZCARD', key },
      { 'ZRANGEBYLEX', key, '[probe', '[probe' },
      { 'ZLEXCOUNT', key, '[probe', '[probe' },
    })
  end,
  -- Nothing is added to the key itself: what is at its end is not the probe's to take away.
  list = function(key)
    return all({
      { 'LLEN', key },
      { 'LINDEX', key, 0 },
      { 'LPOP', KEYS[1] },
      { 'RPUSH', KEYS[1], '' },
      { 'LPOP', KEYS[1] },
    })
  end,
}

-- A script whose first write takes no memory may go on writing when the server is full; one that begins with another may not.
local begin = ARGV[1] == 'room' and { { 'HSET', KEYS[1], 'probe', '' } } or {}
begin[#begin + 1] = { 'HDEL', KEYS[1], 'probe' }
begin[#begin + 1] = { 'EXISTS', KEYS[1] }
if ARGV[1] == 'always' then begin[#begin + 1] = { 'TIME' } end
local problem = all(begin)
if problem then return problem end
for i = 2, #KEYS do
  problem = trials[ARGV[i + 1]](KEYS[i])
  if problem then return problem end
end
if ARGV[2] ~= '' then return refused(redis.pcall('PUBLISH', ARGV[2], '{"probe":true}')) end
return nil
