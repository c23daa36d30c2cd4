-- Removes entries whose rows are committed and announced, and remembers their ids as saved.
-- KEYS: 1 stream, 2 pending, 3 settled, 4 settled before, 5 attempts
-- ARGV: 1 group, 2 how many ids to remember at least; then handles and ids, alternating ('' where an entry has no id)
-- Returns how many entries it removed
local handles, ids = {}, {}
for i = 3, #ARGV, 2 do
  handles[#handles + 1] = ARGV[i]
  ids[#ids + 1] = ARGV[i + 1]
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(handles))
local removed = redis.call('XDEL', KEYS[1], unpack(handles))
redis.call('HDEL', KEYS[5], unpack(handles))

-- An id may be pending again, for another entry, when a slow worker settles what somebody else has settled long ago.
local pending = redis.call('HMGET', KEYS[2], unpack(ids))
local gone, remembered = {}, {}
for i, value in ipairs(pending) do
  if value then
    local digest, at, handle = value:match('^(%S+) (%S+) (%S+)')
    if handle == handles[i] then
      gone[#gone + 1] = ids[i]
      remembered[#remembered + 1] = ids[i]
      remembered[#remembered + 1] = digest .. ' ' .. at
    end
  end
end
if #gone > 0 then
  redis.call('HDEL', KEYS[2], unpack(gone))
  redis.call('HSET', KEYS[3], unpack(remembered))
  -- Two generations: the older one goes when the newer one is full.
  if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[2]) then redis.call('RENAME', KEYS[3], KEYS[4]) end
end
return removed
