-- Renews a consumer's hold on entries that are still its own; one that somebody else has claimed meanwhile stays theirs.
-- KEYS: 1 stream
-- ARGV: 1 group, 2 consumer, 3 idle time to set in milliseconds (0: just delivered); then handles
-- Returns how many it still holds
local held = {}
for i = 4, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then held[#held + 1] = ARGV[i] end
end
if #held > 0 then
  local args = { 'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0 }
  for _, handle in ipairs(held) do args[#args + 1] = handle end
  for _, word in ipairs({ 'IDLE', ARGV[3], 'JUSTID' }) do args[#args + 1] = word end
  redis.call(unpack(args))
end
return #held
