-- Entries whose rows are committed: their ids are pending no longer, they are saved; and, once they are announced, the entries go, too.
-- KEYS: 1 stream, 2 pending, 3 saved, 4 saved before, 5 attempts
-- ARGV: 1 'markSaved' (the first) or 'ack' (both: a failover may have lost the confirmation), 2 group, 3 how many ids to remember at
--   least; then the handles, and then as many ids ('' where an entry has none)
local count = (#ARGV - 3) / 2
local first, last = 4, 3 + count
local gone, saved, n = {}, {}, 0

local ok, problem = pcall(function()
  redis.call('XLEN', KEYS[1])
  redis.call('HLEN', KEYS[3])
  redis.call('HLEN', KEYS[5])
  -- An id may be pending again, for another entry, when a slow worker confirms what somebody else has settled long ago.
  local pending = redis.call('HMGET', KEYS[2], unpack(ARGV, last + 1))
  for i = 1, count do
    local value, handle = pending[i], ARGV[3 + i]
    -- The value ends with a space and its handle.
    if value and value:sub(-#handle) == handle and value:byte(-#handle - 1) == 32 then
      n = n + 1
      gone[n] = ARGV[last + i]
      saved[2 * n - 1] = ARGV[last + i]
      saved[2 * n] = value
    end
  end
end)
if not ok then return unchanged(problem) end

-- What needs no memory comes first: a script that has begun to write may go on writing when the server is full.
if ARGV[1] == 'ack' then
  redis.call('XACK', KEYS[1], ARGV[2], unpack(ARGV, first, last))
  redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
  -- Only what was tried by itself is in there: hardly ever anything.
  if redis.call('EXISTS', KEYS[5]) == 1 then redis.call('HDEL', KEYS[5], unpack(ARGV, first, last)) end
end
if n > 0 then
  redis.call('HDEL', KEYS[2], unpack(gone))
  redis.call('HSET', KEYS[3], unpack(saved))
  -- Two generations: the older one goes when the newer one is full; unlinked, since RENAME would free it while everybody waits.
  if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[3]) then
    redis.call('UNLINK', KEYS[4])
    redis.call('RENAME', KEYS[3], KEYS[4])
  end
end
return n
