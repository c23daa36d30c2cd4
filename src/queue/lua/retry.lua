-- Enqueues dead letters again under their ids, in one bounded step: those that may move.
-- KEYS: 1 stream, 2 pending, 3 old index, 4 index, 5 dead letters
-- ARGV: 1 'dry' to change nothing, else ''; then handles of dead letters
-- Returns 'REPAIR' if the index has to be repaired first; else with how many handles the step is done, and the handles that it moved
local bytesAtOnce = 4 * 1024 * 1024

local ok, plan = pcall(function()
  if needsRepair(KEYS[3], KEYS[4], KEYS[5]) then return 'REPAIR' end
  local deadLetters, handles, isMoved, bytes, done = {}, {}, {}, 0, 0
  redis.call('XLEN', KEYS[1])
  for n = 2, #ARGV do
    local handle = ARGV[n]
    local deadLetter = deadLetterAt(KEYS[5], handle)
    bytes = bytes + #(deadLetter and deadLetter.m or '')
    if done > 0 and bytes > bytesAtOnce then break end
    done = n - 1
    local id = deadLetter and deadLetter.id or handle
    -- Without a message there is nothing to enqueue.
    if deadLetter and deadLetter.m and not isMoved[id] and mayMove(KEYS[1], KEYS[2], KEYS[4], KEYS[5], id, deadLetter) then
      isMoved[id] = true
      handles[#handles + 1] = handle
      local member = memberOfDeadLetter(handle, deadLetter)
      local known = member:match('(%S+) %S+$') .. ' ' .. timeOf(deadLetter, handle)
      deadLetters[#deadLetters + 1] =
        { id = id, body = deadLetter.m, known = known, handle = handle, member = member, before = n - 2 }
    end
  end
  return { deadLetters = deadLetters, reply = { done, handles } }
end)
if not ok then return unchanged(plan) end
if plan == 'REPAIR' then return plan end
if ARGV[1] == 'dry' then return plan.reply end

local moved, members, done = {}, {}, plan.reply[1]
for n, one in ipairs(plan.deadLetters) do
  local entry = redis.pcall('XADD', KEYS[1], '*', 'id', one.id, 'm', one.body, 'd', one.known)
  if type(entry) == 'table' then
    if n == 1 then return unchanged(entry) end
    done = one.before
    break
  end
  redis.call('HSET', KEYS[2], one.id, one.known .. ' ' .. entry)
  redis.call('XDEL', KEYS[5], one.handle)
  moved[n], members[n] = one.handle, one.member
end
if #members > 0 then redis.call('ZREM', KEYS[4], unpack(members)) end
return { done, moved }
