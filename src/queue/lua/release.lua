-- A consumer that stops gives entries back: they count as idle for long, and the delivery counts as if it had not been. An entry that
-- another consumer has claimed meanwhile stays theirs.
-- KEYS: 1 stream
-- ARGV: 1 group, 2 consumer, 3 idle time to set in milliseconds; then, for each: handle, how often it was delivered before
local ok, mine = pcall(function()
  local mine = {}
  for i = 4, #ARGV, 2 do
    if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then mine[#mine + 1] = i end
  end
  return mine
end)
if not ok then return unchanged(mine) end

for _, i in ipairs(mine) do
  local idle, before = ARGV[3], ARGV[i + 1]
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', idle, 'RETRYCOUNT', before, 'JUSTID')
end
return #mine
