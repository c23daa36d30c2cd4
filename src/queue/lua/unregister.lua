-- Removes consumers from the consumer group: the one that closes, or those that have been idle for long. A consumer that has entries is
-- never removed, because DELCONSUMER would drop its entries from the consumer group.
-- KEYS: 1 stream
-- ARGV: 1 consumer group, 2 consumer, or '' for all idle ones, 3 their idle time in milliseconds
-- Returns how many consumers it removed
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
