-- Reads epoch, last id and entries of the events log at one moment. Read only: it works on a full server, where a transaction does not.
-- KEYS: 1 log, 2 meta
-- ARGV: 1 the first id to read, as in XRANGE, 2 the largest number of entries
-- Returns {epoch, last}, and the entries
local ok, found = pcall(function()
  return {
    redis.call('HMGET', KEYS[2], 'epoch', 'last'),
    redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]),
  }
end)
if not ok then return unchanged(found) end
return found
