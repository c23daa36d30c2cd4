-- Loaded before the scripts that look for dead letters by their ids. The index is a sorted set without scores, so that it is in the
-- order of its members:
--   "<length of the id>:<id> <0, or 1 for an ID_CONFLICT> <digest> <handle>"
-- All letters of an id stand together, its own before those of later senders; one look-up costs O(log n), however many there are. An
-- entry whose letter is gone is no letter.
local function spanOf(id, kind, digest)
  local text = #id .. ':' .. id
  if kind then text = text .. ' ' .. kind end
  if digest then text = text .. ' ' .. digest end
  -- "!" comes right after the space.
  return '[' .. text .. ' ', '(' .. text .. '!'
end

local function memberOf(id, kind, digest, handle)
  return #id .. ':' .. id .. ' ' .. kind .. ' ' .. digest .. ' ' .. handle
end

local function kindOf(failure)
  return (failure or ''):find('"code":"ID_CONFLICT"', 1, true) and '1' or '0'
end

-- The entry of the index that a letter has. One that lacks an id goes by its handle.
local function memberOfLetter(handle, deadLetter)
  return memberOf(deadLetter.id or handle, kindOf(deadLetter.f), (deadLetter.d or ''):match('^%S+$') or '-', handle)
end

local function deadLetterAt(dead, handle)
  local found = redis.call('XRANGE', dead, handle, handle)[1]
  return found and fieldsOf(found)
end

-- When its message was accepted, as far as it says.
local function timeOf(deadLetter, handle)
  return (deadLetter.at or ''):match('^%d+$') or handle:match('^%d+')
end

-- The first letter of a span that is there, with its digest, its handle, and its member of the index. A few may be gone.
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

-- Whether the index is not the letters': it has an entry for each of them and no other, unless somebody else was at it. Release 0.1 had
-- an index of its own.
local function isAskew(oldIndex, index, dead)
  return redis.call('ZCARD', index) ~= redis.call('XLEN', dead) or redis.call('EXISTS', oldIndex) == 1
end
