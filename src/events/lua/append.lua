-- Appends entries to the events log, trims it by time and size, and wakes the followers: in one step, so that a woken follower finds the
-- entry.
-- KEYS: 1 log, 2 meta (epoch, last, bytes), 3 sizes (a list, oldest first: "id bytes", or "id bytes shard key" of a reference)
-- ARGV: 1 channel, 2 the epoch if the log has none, 3 retention in milliseconds, 4 retention in bytes,
--   5 the largest entry to publish whole, in bytes, 6 a random number; then the entries, each a JSON array of events, or a reference to one
--   (an object: batches.ts)
-- Returns "shard key" of each reference that it trimmed
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
local count = 0
-- A script that has begun to write may go on writing when the server is full; this write takes no memory.
redis.call('HDEL', KEYS[2], 'begun')
if state.isNew then redis.call('HSET', KEYS[2], 'epoch', epoch) end

-- If the tail of the log was lost (a failover to a replica that was behind, and whose clock was, too), a new entry must not get the id of
-- a lost one, or a cursor behind the lost entry would seem valid. So the first id of each call has a random part.
local function first(data)
  local ms, seq = last:match('^(%d+)-(%d+)$')
  ms, seq = tonumber(ms or 0), tonumber(seq or 0)
  local id = ms < now and string.format('%.0f-%.0f', now, ARGV[6]) or string.format('%.0f-%.0f', ms, seq + 1 + ARGV[6])
  local added = redis.pcall('XADD', KEYS[1], id, 'p', last, 'd', data)
  -- Another program has written to this stream.
  return type(added) == 'table' and redis.pcall('XADD', KEYS[1], '*', 'p', last, 'd', data) or added
end

-- The size of an entry, with that of the text that a reference names; and what `sizes` keeps of a reference.
local function sizeOf(data)
  if data:sub(1, 1) ~= '{' then return #data, '' end
  local ok, reference = pcall(cjson.decode, data)
  if not ok or type(reference.bytes) ~= 'number' then return #data, '' end
  return #data + reference.bytes, string.format(' %d %s', reference.shard, reference.key)
end

for i = 7, #ARGV do
  local size, reference = sizeOf(ARGV[i])
  local id = i == 7 and first(ARGV[i]) or redis.call('XADD', KEYS[1], '*', 'p', last, 'd', ARGV[i])
  if type(id) == 'table' then return unchanged(id) end
  redis.call('RPUSH', KEYS[3], string.format('%s %.0f%s', id, size, reference))
  bytes = bytes + size
  local wake = '{"epoch":' .. cjson.encode(epoch) .. ',"id":"' .. id .. '","previous":"' .. last .. '"'
  if #ARGV[i] <= state.wholeBytes then wake = wake .. ',"events":' .. ARGV[i] end
  redis.call('PUBLISH', ARGV[1], wake .. '}')
  count = count + 1
  last = id
end

local oldest = now - state.retentionMs
-- The newest entry always stays, even if it is larger than the whole log may be. Each call removes at most a few more entries than it
-- appended, so that a shortened retention is reached step by step, without blocking the server.
local trimmed = {}
for _ = 1, count * 4 + 16 do
  local entry = redis.call('LINDEX', KEYS[3], 0)
  if not entry then break end
  local id, ms, size, reference = entry:match('^((%d+)%-%d+) (%d+) ?(.*)$')
  if id == last then break end
  if id and bytes <= state.retentionBytes and tonumber(ms) >= oldest then break end
  redis.call('LPOP', KEYS[3])
  -- Without an id, another program has written this element.
  if id then
    -- XDEL fails if the id is larger than an id may be: then it is none of ours either.
    redis.pcall('XDEL', KEYS[1], id)
    bytes = math.max(0, bytes - tonumber(size))
    if reference ~= '' then trimmed[#trimmed + 1] = reference end
  end
end
redis.call('HSET', KEYS[2], 'last', last, 'bytes', string.format('%.0f', bytes))
return trimmed
