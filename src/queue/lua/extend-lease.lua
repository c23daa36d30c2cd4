-- Sets the lease of entries that still belong to the consumer. An entry that another consumer has claimed is ignored.
-- KEYS: 1 stream
-- ARGV: 1 consumer group, 2 consumer, 3 how much of the lease has passed (milliseconds); then handles
-- Returns how many leases it set
local ok, own = pcall(function()
  local own = {}
  for i = 4, #ARGV do
    if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then own[#own + 1] = ARGV[i] end
  end
  return own
end)
if not ok then return unchanged(own) end
if #own == 0 then return 0 end

local args = { 'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0 }
for _, handle in ipairs(own) do args[#args + 1] = handle end
for _, part in ipairs({ 'IDLE', ARGV[3], 'JUSTID' }) do args[#args + 1] = part end
redis.call(unpack(args))
return #own
