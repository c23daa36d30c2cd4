-- Marks the ids of entries as saved, because their rows are committed; with 'ack', removes the entries, too.
-- KEYS: 1 stream, 2 pending, 3 saved, 4 saved before, 5 attempts
-- ARGV: 1 'markSaved' (comes first), 'ack' (does both: a failover may have lost the first) or 'ackMarked' (removes the entries alone);
--   2 consumer group, 3 how many ids to remember at least; then the handles, and then, but for 'ackMarked', as many ids ('' for an entry
--   without an id)
-- Returns how many ids were marked
local how = ARGV[1]
local first, last = 4, how == 'ackMarked' and #ARGV or 3 + (#ARGV - 3) / 2
local removed, saved, n = {}, {}, 0

local ok, problem = pcall(function()
  redis.call('XLEN', KEYS[1])
  redis.call('HLEN', KEYS[2])
  redis.call('HLEN', KEYS[3])
  redis.call('HLEN', KEYS[5])
  if how == 'ackMarked' then return end
  -- A slow worker may acknowledge an entry that another worker has acknowledged. Its id may be pending again, for another entry.
  local pending = redis.call('HMGET', KEYS[2], unpack(ARGV, last + 1))
  for i = 1, last - 3 do
    local value, handle, id = pending[i], ARGV[3 + i], ARGV[last + i]
    -- The value ends with a space and its handle.
    if value and value:find(handle, -#handle, true) and value:byte(-#handle - 1) == 32 then
      n = n + 1
      removed[n] = id
      saved[2 * n - 1] = id
      saved[2 * n] = value
    end
  end
end)
if not ok then return unchanged(problem) end

-- First the commands that need no memory: a full server refuses more of it, except to a script that has written already.
if how ~= 'markSaved' then
  redis.call('XACK', KEYS[1], ARGV[2], unpack(ARGV, first, last))
  redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
  -- This key has only the entries whose attempts are counted (suspects); it hardly ever exists.
  if redis.call('EXISTS', KEYS[5]) == 1 then redis.call('HDEL', KEYS[5], unpack(ARGV, first, last)) end
end
if n > 0 then
  redis.call('HDEL', KEYS[2], unpack(removed))
  redis.call('HSET', KEYS[3], unpack(saved))
  -- There are two generations. When the newer one is full, it replaces the older one. UNLINK comes first, because RENAME would free the
  -- older one while all clients wait.
  if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[3]) then
    redis.call('UNLINK', KEYS[4])
    redis.call('RENAME', KEYS[3], KEYS[4])
  end
end
return n
