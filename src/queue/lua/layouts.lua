-- Records a number of shards, if one is given, and returns all that were recorded.
-- KEYS: 1 layouts (a hash: the number of shards -> when it was last used), 2 stream, 3 saved, 4 dead letters
-- ARGV: 1 a number of shards, or '', 2 the time now (milliseconds), 3 the largest number of shards there can be
-- Returns, for each number from 1 on, when it was last used before this call, or false
local ok, state = pcall(function()
  local numbers = {}
  for number = 1, tonumber(ARGV[3]) do numbers[number] = number end
  -- Release 0.1 knew one shard only, and recorded nothing.
  local isOfOne = redis.call('HLEN', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) > 0
  local found = redis.call('HMGET', KEYS[1], unpack(numbers))
  if isOfOne then found[1] = ARGV[2] end
  return { found = found, isOfOne = isOfOne }
end)
if not ok then return unchanged(state) end
if ARGV[1] == '' then return state.found end

-- This needs no memory: a full server refuses more of it, except to a script that has written already.
redis.call('HDEL', KEYS[1], '')
if state.isOfOne then redis.call('HSET', KEYS[1], '1', ARGV[2]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return state.found
