-- Records a number of shards, and returns all that were recorded.
-- KEYS: 1 layouts (a hash: the number of shards -> when it was last used), 2 stream, 3 saved, 4 dead letters
-- ARGV: 1 a number of shards, 2 the time now (milliseconds), 3 the largest number of shards there can be
-- Returns, for each number from 1 on, when it was last used, or false
local ok, state = pcall(function()
  local numbers = {}
  for number = 1, tonumber(ARGV[3]) do numbers[number] = number end
  -- A queue of one shard records nothing, and releases before knew one only.
  local isOfOne = redis.call('HLEN', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) > 0
  return { numbers = numbers, isOfOne = isOfOne }
end)
if not ok then return unchanged(state) end

-- This needs no memory: a full server refuses more of it, except to a script that has written already.
redis.call('HDEL', KEYS[1], '')
if state.isOfOne then redis.call('HSET', KEYS[1], '1', ARGV[2]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HMGET', KEYS[1], unpack(state.numbers))
