-- Epoch and last id of the events log, and entries of it, as they stand at one moment. Read only, and works on a server that is full,
-- where a transaction does not.
-- KEYS: 1 log, 2 meta
-- ARGV: 1 the first id to read, as XRANGE has it, 2 how many entries at most
-- Returns {epoch, last}, and the entries
local ok, found = pcall(function()
  return {
    redis.call('HMGET', KEYS[2], 'epoch', 'last'),
    redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2]),
  }
end)
if not ok then return unchanged(found) end
return found
