-- Looks up the dead letters of ids. Read only.
-- KEYS: 1 old index, 2 index, 3 dead letters
-- ARGV: 1 how many handles of an id at most; then ids, or handles of dead letters without an id
-- Returns 'REPAIR' if the index has to be repaired first; else, for each id: how many dead letters it has, and then the handles of the first
--   ones, those with ID_CONFLICT last. The first handle is one of a dead letter that exists.
local ok, replies = pcall(function()
  if needsRepair(KEYS[1], KEYS[2], KEYS[3]) then return 'REPAIR' end
  local replies = {}
  for i = 2, #ARGV do
    local from, to = spanOf(ARGV[i])
    local reply = { redis.call('ZLEXCOUNT', KEYS[2], from, to) }
    for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], from, to, 'LIMIT', 0, ARGV[1])) do
      local handle = member:match(' (%d+%-%d+)$')
      if handle and (#reply > 1 or deadLetterAt(KEYS[3], handle)) then reply[#reply + 1] = handle end
    end
    replies[#replies + 1] = reply
  end
  return replies
end)
if not ok then return unchanged(replies) end
return replies
