-- Runs the commands of our scripts on their keys, without an effect: proves rights, types, memory, the disk and the node of the keys.
-- KEYS: 1 a key of the probe's own; then those to prove
-- ARGV: 1 'always' (must work on a full server, too) or 'room'; 2 a channel, or ''; then the type of each key to prove
-- Returns a code and the answer of Redis; nil if everything works
local function refused(reply)
  if type(reply) ~= 'table' or not reply.err then return nil end
  -- The first word is the code; some releases report a missing right without one.
  local text = reply.err:gsub('^-', '')
  if text:find('exhausted the last possible ID', 1, true) then return { 'EXHAUSTED', text } end
  return { text:find('user executing the script', 1, true) and 'NOPERM' or text:match('^%u+') or 'ERR', text }
end

-- The refusal of the first command that is refused.
local function all(commands)
  for _, command in ipairs(commands) do
    local problem = refused(redis.pcall(unpack(command)))
    if problem then return problem end
  end
  return nil
end

-- The commands for each type of key. Removal comes first: if it is refused, nothing has been added.
local trials = {
  stream = function(key)
    local gone = refused(redis.pcall('XDEL', key, '0-1'))
    if gone then return gone end
    -- A stream that ever had an entry rejects an id this low.
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
  -- Nothing is added to the key itself: the probe could not remove just its own element.
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

-- On a full server, a script may go on writing only if its first write takes no memory.
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
