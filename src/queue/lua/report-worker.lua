-- Keeps the report of a worker in place of its last one, with the time of the server.
-- KEYS: 1 the names of the workers (a sorted set), 2 their reports (a hash: name -> "seen report")
-- ARGV: 1 name, 2 report, 3 how many workers are kept, 4 after how many milliseconds of silence one is forgotten
-- Returns how many were forgotten
local ok, problem = pcall(function()
  redis.call('ZCARD', KEYS[1])
  redis.call('HLEN', KEYS[2])
end)
if not ok then return unchanged(problem) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- This needs no memory: a full server refuses more of it, except to a script that has written already.
redis.call('HDEL', KEYS[2], '')
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
if redis.call('ZADD', KEYS[1], 0, ARGV[1]) == 0 then return 0 end

-- A new one: others may have to be forgotten.
local names = redis.call('ZRANGEBYLEX', KEYS[1], '-', '+')
local values = redis.call('HMGET', KEYS[2], unpack(names))
local workers = {}
for i, name in ipairs(names) do
  local seen = values[i] and tonumber(values[i]:match('^%d+')) or 0
  workers[i] = { name = name, seen = seen }
end
table.sort(workers, function(a, b) return a.seen < b.seen end)
local forgotten = {}
for i, worker in ipairs(workers) do
  if worker.name ~= ARGV[1] and (#workers - i >= tonumber(ARGV[3]) or now - worker.seen > tonumber(ARGV[4])) then
    forgotten[#forgotten + 1] = worker.name
  end
end
if #forgotten > 0 then
  redis.call('HDEL', KEYS[2], unpack(forgotten))
  redis.call('ZREM', KEYS[1], unpack(forgotten))
end
return #forgotten
