-- Appends announcements to the events log, trims it by time and size, and wakes the followers: one step, so that a follower that was
-- woken finds what woke it.
-- KEYS: 1 log, 2 meta (epoch, last, bytes), 3 sizes (a list of "id bytes", oldest first)
-- ARGV: 1 channel, 2 an epoch to take where there is none, 3 retention in milliseconds, 4 retention in bytes,
--   5 the largest announcement to publish whole, in bytes, 6 a random number; then the announcements, each a JSON array
-- Returns the ids they got
local ok, state = pcall(function()
  redis.call('XLEN', KEYS[1])
  redis.call('LLEN', KEYS[3])
  local meta = redis.call('HMGET', KEYS[2], 'epoch', 'last', 'bytes')
  local time = redis.call('TIME')
  return {
    epoch = meta[1] or ARGV[2],
    isNew = not meta[1],
    last = (meta[2] or ''):match('^%d+%-%d+$') or '',
    bytes = tonumber((meta[3] or ''):match('^%d+$') or 0),
    now = time[1] * 1000 + math.floor(time[2] / 1000),
    retentionMs = tonumber(ARGV[3]),
    retentionBytes = tonumber(ARGV[4]),
    wholeBytes = tonumber(ARGV[5]),
  }
end)
if not ok then return unchanged(state) end

local epoch, last, bytes, now = state.epoch, state.last, state.bytes, state.now
local ids = {}
-- A script that has begun to write may go on writing when the server is full; this write takes no memory.
redis.call('HDEL', KEYS[2], 'begun')
if state.isNew then redis.call('HSET', KEYS[2], 'epoch', epoch) end

-- Where the tail of the log gets lost (a failover to a replica that was behind, and whose clock is, too), what is appended next must not
-- get an id that a lost entry had, or a cursor behind that one would seem good: so a call's first id has something random in it.
local function first(data)
  local ms, seq = last:match('^(%d+)-(%d+)$')
  ms, seq = tonumber(ms or 0), tonumber(seq or 0)
  local id = ms < now and string.format('%.0f-%.0f', now, ARGV[6]) or string.format('%.0f-%.0f', ms, seq + 1 + ARGV[6])
  local added = redis.pcall('XADD', KEYS[1], id, 'p', last, 'd', data)
  -- Others have written to this stream.
  return type(added) == 'table' and redis.pcall('XADD', KEYS[1], '*', 'p', last, 'd', data) or added
end

for i = 7, #ARGV do
  local id = i == 7 and first(ARGV[i]) or redis.call('XADD', KEYS[1], '*', 'p', last, 'd', ARGV[i])
  if type(id) == 'table' then return unchanged(id) end
  redis.call('RPUSH', KEYS[3], id .. ' ' .. #ARGV[i])
  bytes = bytes + #ARGV[i]
  local wake = '{"epoch":' .. cjson.encode(epoch) .. ',"id":"' .. id .. '","previous":"' .. last .. '"'
  if #ARGV[i] <= state.wholeBytes then wake = wake .. ',"events":' .. ARGV[i] end
  redis.call('PUBLISH', ARGV[1], wake .. '}')
  ids[#ids + 1] = id
  last = id
end

local oldest = now - state.retentionMs
-- The newest always stays, or a log whose entries are larger than it may be would be no log. A few more than came in, so that a
-- shortened retention is reached step by step, without stopping the server.
for _ = 1, #ids * 4 + 16 do
  local entry = redis.call('LINDEX', KEYS[3], 0)
  if not entry then break end
  local id, ms, size = entry:match('^((%d+)%-%d+) (%d+)$')
  if id == last then break end
  if id and bytes <= state.retentionBytes and tonumber(ms) >= oldest then break end
  redis.call('LPOP', KEYS[3])
  -- Others have written to this list, what it has is no entry.
  if id then
    -- Nor can it be one where the id is larger than an id may be.
    redis.pcall('XDEL', KEYS[1], id)
    bytes = math.max(0, bytes - tonumber(size))
  end
end
redis.call('HSET', KEYS[2], 'last', last, 'bytes', string.format('%.0f', bytes))
return ids
