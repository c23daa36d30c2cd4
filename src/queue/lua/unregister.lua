-- Consumers whose names go: the one that says goodbye, or those not heard of for long. Never one that still holds entries (DELCONSUMER
-- would drop them from the group).
-- KEYS: 1 stream
-- ARGV: 1 group, 2 consumer, or '' for all those, 3 the time since they were heard of in milliseconds
-- Returns how many are gone
local atOnce = 100

local ok, names = pcall(function()
  if ARGV[2] ~= '' then
    return #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 and { ARGV[2] } or {}
  end
  local names = {}
  for _, found in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = fieldsOf({ '', found })
    if consumer.pending == 0 and consumer.idle > tonumber(ARGV[3]) and #names < atOnce then
      names[#names + 1] = consumer.name
    end
  end
  return names
end)
if not ok then return unchanged(names) end

for _, name in ipairs(names) do redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name) end
return #names
