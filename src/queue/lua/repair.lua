-- One bounded step of making the index of the dead letters true again: it was deleted or changed behind Spillway's back, letters were
-- added or deleted so, or release 0.1 has written its own index beside them. What the letters say themselves is what it is made from.
-- KEYS: 1 old index, 2 index, 3 dead letters
-- ARGV: 1 where to go on, as the step before returned it; '' for the first one
-- Returns where to go on; '' when it is done
local atOnce, bytesAtOnce = 200, 4 * 1024 * 1024

local function hex(text)
  return (text:gsub('.', function(byte) return ('%02x'):format(byte:byte()) end))
end
local function unhex(text)
  return (text:gsub('..', function(byte) return string.char(tonumber(byte, 16)) end))
end

-- First what is in the index and is no letter's.
local function odd(after)
  local found = redis.call('ZRANGEBYLEX', KEYS[2], after == '' and '-' or '(' .. unhex(after), '+', 'LIMIT', 0, atOnce)
  local members, bytes, last = {}, 0, nil
  for _, member in ipairs(found) do
    if bytes > bytesAtOnce then return { gone = members, next = 'index ' .. hex(last) } end
    local handle = member:match(' (%d+%-%d+)$')
    local deadLetter = handle and deadLetterAt(KEYS[3], handle)
    if not deadLetter or memberOfLetter(handle, deadLetter) ~= member then members[#members + 1] = member end
    bytes, last = bytes + (deadLetter and #(deadLetter.m or '') or 0), member
  end
  return { gone = members, next = #found < atOnce and 'letters 0-0' or 'index ' .. hex(last) }
end

-- Then what it lacks.
local function lacking(after)
  local members, bytes, last = {}, 0, after
  while #members < 2 * atOnce and bytes <= bytesAtOnce do
    local found = entryFrom(KEYS[3], '(' .. last)
    if not found then return { added = members, next = '' } end
    local deadLetter = fieldsOf(found)
    members[#members + 1] = 0
    members[#members + 1] = memberOfLetter(found[1], deadLetter)
    bytes, last = bytes + #(deadLetter.m or ''), found[1]
  end
  return { added = members, next = 'letters ' .. last }
end

local ok, plan = pcall(function()
  local count, letters = redis.call('ZCARD', KEYS[2]), redis.call('XLEN', KEYS[3])
  local pass, after = ARGV[1]:match('^(%a+) (.*)$')
  if pass == 'index' then return odd(after) end
  if pass == 'letters' then return count == letters and { next = '' } or lacking(after) end
  return { next = count == letters and '' or 'index ' }
end)
if not ok then return unchanged(plan) end

-- First, since it needs no memory: a script that has begun to write may go on writing when the server is full.
redis.call('ZREM', KEYS[2], '', unpack(plan.gone or {}))
if ARGV[1] == '' and redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DEL', KEYS[1]) end
if plan.added and #plan.added > 0 then redis.call('ZADD', KEYS[2], unpack(plan.added)) end
return plan.next
