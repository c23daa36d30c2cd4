-- Renews a consumer's hold on entries that are still its own; one that somebody else has claimed meanwhile stays theirs.
-- KEYS: 1 stream
-- ARGV: 1 group, 2 consumer; then handles
-- Returns how many it still holds
local ok, held = pcall(function()
  local held = {}
  for i = 3, #ARGV do
    if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then held[#held + 1] = ARGV[i] end
  end
  return held
end)
if not ok then return unchanged(held) end
if #held == 0 then return 0 end

local args = { 'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0 }
for _, handle in ipairs(held) do args[#args + 1] = handle end
args[#args + 1] = 'JUSTID'
redis.call(unpack(args))
return #held
