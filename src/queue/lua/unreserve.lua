-- Ends the reservations of ids by a token.
-- KEYS: 1 reserved
-- ARGV: 1 token; then ids
-- Returns how many it ended
local ok, own = pcall(function()
  local own = {}
  for i = 2, #ARGV do
    local by = (redis.call('HGET', KEYS[1], ARGV[i]) or ''):match('^(%S+) ')
    if by == ARGV[1] then own[#own + 1] = ARGV[i] end
  end
  return own
end)
if not ok then return unchanged(own) end
if #own > 0 then redis.call('HDEL', KEYS[1], unpack(own)) end
return #own
