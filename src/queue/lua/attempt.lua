-- Adds an attempt of an entry, or subtracts one.
-- KEYS: 1 stream, 2 attempts
-- ARGV: 1 handle, 2 what to add
-- Returns how many attempts there are; 1 for an entry that is not in the queue, for which nothing is counted
local handle = ARGV[1]
local ok, count = pcall(function()
  if #redis.call('XRANGE', KEYS[1], handle, handle) == 0 then return nil end
  local before = tonumber(redis.call('HGET', KEYS[2], handle) or 0) or 0
  return math.max(0, before + tonumber(ARGV[2]))
end)
if not ok then return unchanged(count) end
if not count then return 1 end

-- HDEL comes first, because it needs no memory: a full server refuses more memory, except to a script that has written already.
redis.call('HDEL', KEYS[2], handle)
if count > 0 then redis.call('HSET', KEYS[2], handle, count) end
return count
