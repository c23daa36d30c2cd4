-- Appends announcements to the events log, trims it by time and size, and wakes the followers: one step, so that a follower that was
-- woken finds what woke it.
-- KEYS: 1 log, 2 meta (epoch, last, bytes), 3 sizes (a list of "id bytes", oldest first)
-- ARGV: 1 channel, 2 an epoch to take where there is none, 3 retention in milliseconds, 4 retention in bytes,
--   5 the largest announcement to publish whole, in bytes; then the announcements, each a JSON array
-- Returns the ids they got
-- A script that has begun to write may go on writing when the server is full; this write takes no memory.
redis.call('HDEL', KEYS[2], 'begun')
local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then
  epoch = ARGV[2]
  redis.call('HSET', KEYS[2], 'epoch', epoch)
end
local last = redis.call('HGET', KEYS[2], 'last') or ''
local bytes = tonumber(redis.call('HGET', KEYS[2], 'bytes') or '0')
local ids = {}
for i = 6, #ARGV do
  local id = redis.call('XADD', KEYS[1], '*', 'p', last, 'd', ARGV[i])
  redis.call('RPUSH', KEYS[3], id .. ' ' .. #ARGV[i])
  bytes = bytes + #ARGV[i]
  local wake = '{"epoch":"' .. epoch .. '","id":"' .. id .. '","previous":"' .. last .. '"'
  if #ARGV[i] <= tonumber(ARGV[5]) then wake = wake .. ',"events":' .. ARGV[i] end
  redis.call('PUBLISH', ARGV[1], wake .. '}')
  ids[#ids + 1] = id
  last = id
end

local now = redis.call('TIME')
local oldest = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(ARGV[3])
-- The newest always stays, or a log whose entries are larger than it may be would be no log. A few more than came in, so that a
-- shortened retention is reached step by step, without stopping the server.
for _ = 1, #ids * 4 + 16 do
  local entry = redis.call('LINDEX', KEYS[3], 0)
  if not entry then break end
  local id, size = entry:match('^(%S+) (%d+)$')
  if id == last then break end
  if bytes <= tonumber(ARGV[4]) and tonumber(id:match('^%d+')) >= oldest then break end
  redis.call('LPOP', KEYS[3])
  redis.call('XDEL', KEYS[1], id)
  bytes = bytes - tonumber(size)
end
redis.call('HSET', KEYS[2], 'last', last, 'bytes', bytes)
return ids
