-- KEYS: 1 the names of the workers (a sorted set), 2 their reports (a hash: name -> "seen report")
-- Returns the time of the server in milliseconds, and the reports
local ok, found = pcall(function()
  local names = redis.call('ZRANGEBYLEX', KEYS[1], '-', '+')
  if #names == 0 then return {} end
  return redis.call('HMGET', KEYS[2], unpack(names))
end)
if not ok then return unchanged(found) end
local time = redis.call('TIME')
return { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), found }
