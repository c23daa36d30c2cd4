-- Entries whose rows are committed: their ids are pending no longer, they are saved (confirm); and, once they are announced, the entries
-- go, too (settle, which does both).
-- KEYS: 1 stream, 2 pending, 3 saved, 4 saved before, 5 attempts
-- ARGV: 1 'confirm' or 'settle', 2 group, 3 how many ids to remember at least; then handles and ids, alternating ('' where an entry has
--   no id)
local handles, ids = {}, {}
for i = 4, #ARGV, 2 do
  handles[#handles + 1] = ARGV[i]
  ids[#ids + 1] = ARGV[i + 1]
end
if ARGV[1] == 'settle' then
  -- First, since it frees memory: a script that has begun to write may go on writing when the server is full.
  redis.call('XACK', KEYS[1], ARGV[2], unpack(handles))
  redis.call('XDEL', KEYS[1], unpack(handles))
  redis.call('HDEL', KEYS[5], unpack(handles))
end

-- An id may be pending again, for another entry, when a slow worker confirms what somebody else has settled long ago.
local pending = redis.call('HMGET', KEYS[2], unpack(ids))
local gone, saved = {}, {}
for i, value in ipairs(pending) do
  if value and value:match('(%S+)$') == handles[i] then
    gone[#gone + 1] = ids[i]
    saved[#saved + 1] = ids[i]
    saved[#saved + 1] = value
  end
end
if #gone > 0 then
  redis.call('HDEL', KEYS[2], unpack(gone))
  redis.call('HSET', KEYS[3], unpack(saved))
  -- Two generations: the older one goes when the newer one is full.
  if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[3]) then redis.call('RENAME', KEYS[3], KEYS[4]) end
end
