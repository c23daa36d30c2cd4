-- One bounded step of repairing the index of the dead letters. The index is wrong when another program changed it or the dead letters, or
-- when release 0.1 wrote its own index. It is rebuilt from the fields of the dead letters.
-- KEYS: 1 old index, 2 index, 3 dead letters
-- ARGV: 1 where to continue, as the step before returned it; '' for the first step
-- Returns where to continue; '' when the index is repaired
local atOnce, bytesAtOnce = 200, 4 * 1024 * 1024

local function hex(text)
  return (text:gsub('.', function(byte) return ('%02x'):format(byte:byte()) end))
end
local function unhex(text)
  return (text:gsub('..', function(byte) return string.char(tonumber(byte, 16)) end))
end

-- First pass: members of the index that belong to no dead letter.
local function surplus(after)
  local found = redis.call('ZRANGEBYLEX', KEYS[2], after == '' and '-' or '(' .. unhex(after), '+', 'LIMIT', 0, atOnce)
  local members, bytes, last = {}, 0, nil
  for _, member in ipairs(found) do
    if bytes > bytesAtOnce then return { removed = members, next = 'index ' .. hex(last) } end
    local handle = member:match(' (%d+%-%d+)$')
    local deadLetter = handle and deadLetterAt(KEYS[3], handle)
    if not deadLetter or memberOfDeadLetter(handle, deadLetter) ~= member then members[#members + 1] = member end
    bytes, last = bytes + (deadLetter and #(deadLetter.m or '') or 0), member
  end
  return { removed = members, next = #found < atOnce and 'dead 0-0' or 'index ' .. hex(last) }
end

-- Second pass: members that the index lacks.
local function missing(after)
  local members, bytes, last = {}, 0, after
  while #members < 2 * atOnce and bytes <= bytesAtOnce do
    local found = entryFrom(KEYS[3], '(' .. last)
    if not found then return { added = members, next = '' } end
    local deadLetter = fieldsOf(found)
    members[#members + 1] = 0
    members[#members + 1] = memberOfDeadLetter(found[1], deadLetter)
    bytes, last = bytes + #(deadLetter.m or ''), found[1]
  end
  return { added = members, next = 'dead ' .. last }
end

local ok, plan = pcall(function()
  local members, deadLetters = redis.call('ZCARD', KEYS[2]), redis.call('XLEN', KEYS[3])
  local pass, after = ARGV[1]:match('^(%a+) (.*)$')
  if pass == 'index' then return surplus(after) end
  if pass == 'dead' then return members == deadLetters and { next = '' } or missing(after) end
  return { next = members == deadLetters and '' or 'index ' }
end)
if not ok then return unchanged(plan) end

-- ZREM comes first, because it needs no memory: a full server refuses more memory, except to a script that has written already.
redis.call('ZREM', KEYS[2], '', unpack(plan.removed or {}))
if ARGV[1] == '' and redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DEL', KEYS[1]) end
if plan.added and #plan.added > 0 then redis.call('ZADD', KEYS[2], unpack(plan.added)) end
return plan.next
