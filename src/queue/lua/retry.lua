-- Enqueues dead letters again under their ids. Of each id it moves one, those with ID_CONFLICT last; and none if the id is pending,
-- because an id has at most one pending message.
-- KEYS: 1 stream, 2 pending, 3 old index, 4 index, 5 dead letters
-- ARGV: ids, or handles of dead letters, each one once
-- Returns 'REPAIR' if the index has to be repaired first; else how many dead letters it moved
local removed = {}

-- The first dead letter of the id that exists, its digest, its handle, and its member of the index.
local function nextDeadLetter(id)
  local from, to = spanOf(id)
  for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[4], from, to, 'LIMIT', 0, 100)) do
    local digest, handle = member:match('(%S+) (%d+%-%d+)$')
    local deadLetter = handle and deadLetterAt(KEYS[5], handle)
    if deadLetter then return deadLetter, digest, handle, member end
    removed[#removed + 1] = member
  end
end

local ok, deadLetters = pcall(function()
  if needsRepair(KEYS[3], KEYS[4], KEYS[5]) then return 'REPAIR' end
  local deadLetters = {}
  redis.call('XLEN', KEYS[1])
  for _, id in ipairs(ARGV) do
    if not isInStream(KEYS[1], redis.call('HGET', KEYS[2], id)) then
      local deadLetter, digest, handle, member = nextDeadLetter(id)
      -- Without a message there is nothing to enqueue.
      if deadLetter and deadLetter.m then
        local known = digest .. ' ' .. timeOf(deadLetter, handle)
        deadLetters[#deadLetters + 1] = { id = id, body = deadLetter.m, known = known, handle = handle, member = member }
      end
    end
  end
  return deadLetters
end)
if not ok then return unchanged(deadLetters) end
if deadLetters == 'REPAIR' then return deadLetters end

for n, one in ipairs(deadLetters) do
  local fields = { 'id', one.id, 'm', one.body, 'd', one.known }
  local entry = redis.pcall('XADD', KEYS[1], '*', unpack(fields))
  if type(entry) == 'table' then return n == 1 and unchanged(entry) or redis.call('XADD', KEYS[1], '*', unpack(fields)) end
  redis.call('HSET', KEYS[2], one.id, one.known .. ' ' .. entry)
  redis.call('XDEL', KEYS[5], one.handle)
  removed[#removed + 1] = one.member
end
if #removed > 0 then redis.call('ZREM', KEYS[4], unpack(removed)) end
return #deadLetters
