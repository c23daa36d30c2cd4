-- Adds counts to the last complete bucket of each ring.
-- KEYS: 1 the history (a hash: "ring:slot" -> "at counts")
-- ARGV: 1 counts (JSON: objects of numbers), 2 the width of the narrowest bucket (milliseconds), 3 the most bytes of a bucket;
--   then of each ring its name, the width of its buckets and their number
-- Returns the time of the server in milliseconds
local ok, state = pcall(function()
  redis.call('HLEN', KEYS[1])
  return cjson.decode(ARGV[1])
end)
if not ok then return unchanged(state) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local every = tonumber(ARGV[2])
local last = (math.floor(now / every) - 1) * every

local function add(counts, more)
  for name, value in pairs(more) do
    local known = counts[name]
    if type(value) == 'number' then
      counts[name] = (type(known) == 'number' and name ~= 'depth') and known + value or value
    elseif type(known) == 'table' then
      add(known, value)
    else
      counts[name] = value
    end
  end
end

-- This needs no memory: a full server refuses more of it, except to a script that has written already.
redis.call('HDEL', KEYS[1], '')
for i = 4, #ARGV, 3 do
  local width, length = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local at = math.floor(last / width) * width
  local field = ARGV[i] .. ':' .. string.format('%.0f', (at / width) % length)
  local prefix = string.format('%.0f ', at)
  local known = redis.call('HGET', KEYS[1], field)
  local text = ARGV[1]
  if known and known:sub(1, #prefix) == prefix then
    local fine, counts = pcall(cjson.decode, known:sub(#prefix + 1))
    if fine and type(counts) == 'table' then
      add(counts, state)
      text = cjson.encode(counts)
    end
  end
  if #text <= tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], field, prefix .. text) end
end
return string.format('%.0f', now)
