-- Records a number of shards, and returns all that were recorded.
-- KEYS: 1 layouts (a sorted set: the number of shards, with the time when it was last used), 2 stream, 3 saved, 4 dead letters
-- ARGV: 1 a number of shards, 2 the time now (milliseconds)
-- Returns the numbers and their times, in turn
local ok, isOfOne = pcall(function()
  -- A queue of one shard records nothing, and releases before 0.2 knew one only.
  return redis.call('ZCARD', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2], KEYS[3], KEYS[4]) > 0
end)
if not ok then return unchanged(isOfOne) end

-- This needs no memory: a full server refuses more of it, except to a script that has written already.
redis.call('ZREM', KEYS[1], '')
if isOfOne then redis.call('ZADD', KEYS[1], ARGV[2], '1') end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
