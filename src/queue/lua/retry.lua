-- Puts dead letters back into the queue under the ids they had: of each id one, its own before those of later senders, unless the id
-- is pending: one id, one message in the queue.
-- KEYS: 1 stream, 2 pending, 3 old index, 4 index, 5 dead letters
-- ARGV: ids, or handles of letters; none twice
-- Returns 'REPAIR' where the index has to be repaired first, or how many letters that were
local gone = {}

-- The first letter of the id that is there, its digest, handle, and member of the index.
local function nextLetter(id)
  local from, to = spanOf(id)
  for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[4], from, to, 'LIMIT', 0, 100)) do
    local digest, handle = member:match('(%S+) (%d+%-%d+)$')
    local deadLetter = handle and deadLetterAt(KEYS[5], handle)
    if deadLetter then return deadLetter, digest, handle, member end
    gone[#gone + 1] = member
  end
end

local ok, letters = pcall(function()
  if isAskew(KEYS[3], KEYS[4], KEYS[5]) then return 'REPAIR' end
  local letters = {}
  redis.call('XLEN', KEYS[1])
  for _, id in ipairs(ARGV) do
    if redis.call('HEXISTS', KEYS[2], id) == 0 then
      local deadLetter, digest, handle, member = nextLetter(id)
      -- Without a message there is nothing to put back.
      if deadLetter and deadLetter.m then
        local known = digest .. ' ' .. timeOf(deadLetter, handle)
        letters[#letters + 1] = { id = id, body = deadLetter.m, known = known, handle = handle, member = member }
      end
    end
  end
  return letters
end)
if not ok then return unchanged(letters) end
if letters == 'REPAIR' then return letters end

for n, one in ipairs(letters) do
  local fields = { 'id', one.id, 'm', one.body, 'd', one.known }
  local entry = redis.pcall('XADD', KEYS[1], '*', unpack(fields))
  if type(entry) == 'table' then return n == 1 and unchanged(entry) or redis.call('XADD', KEYS[1], '*', unpack(fields)) end
  redis.call('HSET', KEYS[2], one.id, one.known .. ' ' .. entry)
  redis.call('XDEL', KEYS[5], one.handle)
  gone[#gone + 1] = one.member
end
if #gone > 0 then redis.call('ZREM', KEYS[4], unpack(gone)) end
return #letters
