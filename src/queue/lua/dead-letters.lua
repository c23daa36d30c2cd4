-- Functions of the scripts that look dead letters up by their ids; it is loaded before each of them. The index is a sorted set in which
-- all scores are 0, so that Redis sorts it by its members:
--   "<length of the id>:<id> <0, or 1 for an ID_CONFLICT> <digest> <handle>"
-- The members of an id follow each other, those with ID_CONFLICT last. One look-up costs O(log n), for any number of dead letters. A
-- member whose dead letter does not exist is ignored.
local function spanOf(id, kind, digest)
  local text = #id .. ':' .. id
  if kind then text = text .. ' ' .. kind end
  if digest then text = text .. ' ' .. digest end
  -- "!" is the character after the space.
  return '[' .. text .. ' ', '(' .. text .. '!'
end

local function memberOf(id, kind, digest, handle)
  return #id .. ':' .. id .. ' ' .. kind .. ' ' .. digest .. ' ' .. handle
end

local function kindOf(failure)
  return (failure or ''):find('"code":"ID_CONFLICT"', 1, true) and '1' or '0'
end

-- The member of the index for a dead letter. A dead letter without an id has its handle as its id.
local function memberOfDeadLetter(handle, deadLetter)
  return memberOf(deadLetter.id or handle, kindOf(deadLetter.f), (deadLetter.d or ''):match('^%S+$') or '-', handle)
end

local function deadLetterAt(dead, handle)
  local found = redis.call('XRANGE', dead, handle, handle)[1]
  return found and fieldsOf(found)
end

-- When its message was enqueued; without that field, when it was dead-lettered.
local function timeOf(deadLetter, handle)
  return (deadLetter.at or ''):match('^%d+$') or handle:match('^%d+')
end

-- The first dead letter of a span, its digest, its handle, and its member of the index. It skips up to 7 members without a dead letter.
local function firstDeadLetter(index, dead, ...)
  local from, to = spanOf(...)
  for _, member in ipairs(redis.call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, 8)) do
    local digest, handle = member:match('(%S+) (%d+%-%d+)$')
    local deadLetter = handle and deadLetterAt(dead, handle)
    if deadLetter then return deadLetter, digest, handle, member end
  end
end

local function conflictsOf(index, id)
  return redis.call('ZLEXCOUNT', index, spanOf(id, '1'))
end

-- Whether the stream has the message of a value of `pending`: another program may have deleted the message.
local function isInStream(stream, pending)
  local handle = (pending or ''):match('(%d+%-%d+)$')
  return handle and #redis.call('XRANGE', stream, handle, handle) > 0
end

-- Whether the dead letter may be enqueued again. It stays if its id is pending, because an id has at most one pending message; and one with
-- ID_CONFLICT if its id has one without, because the id belongs to the content of that one.
local function mayMove(stream, pending, index, dead, id, deadLetter)
  if isInStream(stream, redis.call('HGET', pending, id)) then return false end
  return kindOf(deadLetter.f) == '0' or not firstDeadLetter(index, dead, id, '0')
end

-- Whether the index has to be repaired: it has one member for each dead letter, unless another program changed one of the two keys, or
-- release 0.1 wrote its own index.
local function needsRepair(oldIndex, index, dead)
  return redis.call('ZCARD', index) ~= redis.call('XLEN', dead) or redis.call('EXISTS', oldIndex) == 1
end
