-- Returns entries of a consumer that closes to the queue: it sets their idle time so high that the next consumer claims them, and does
-- not count their delivery. An entry that another consumer has claimed is ignored.
-- KEYS: 1 stream
-- ARGV: 1 consumer group, 2 consumer, 3 idle time to set in milliseconds; then, for each entry: handle, its number of deliveries before
-- Returns how many entries it released
local ok, own = pcall(function()
  local own = {}
  for i = 4, #ARGV, 2 do
    if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then own[#own + 1] = i end
  end
  return own
end)
if not ok then return unchanged(own) end

for _, i in ipairs(own) do
  local idle, before = ARGV[3], ARGV[i + 1]
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', idle, 'RETRYCOUNT', before, 'JUSTID')
end
return #own
