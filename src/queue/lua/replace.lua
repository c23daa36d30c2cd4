-- Enqueues another message in place of a dead letter, under the same id, in one step. The dead letter stays where retry would leave it.
-- KEYS: 1 stream, 2 pending, 3 old index, 4 index, 5 dead letters
-- ARGV: 1 handle of the dead letter, 2 its id, 3 "digest at" of the message, 4 the message
-- Returns 'REPAIR' if the index has to be repaired first; else how many ID_CONFLICT dead letters the id has now; 'GONE' if there is no such
--   dead letter; 'KEPT' if it stays
local ok, plan = pcall(function()
  if needsRepair(KEYS[3], KEYS[4], KEYS[5]) then return 'REPAIR' end
  redis.call('XLEN', KEYS[1])
  redis.call('HLEN', KEYS[2])
  local handle, id = ARGV[1], ARGV[2]
  local deadLetter = deadLetterAt(KEYS[5], handle)
  if not deadLetter or deadLetter.id ~= id then return 'GONE' end
  if not mayMove(KEYS[1], KEYS[2], KEYS[4], KEYS[5], id, deadLetter) then return 'KEPT' end
  local conflicts = conflictsOf(KEYS[4], id) - tonumber(kindOf(deadLetter.f))
  return { member = memberOfDeadLetter(handle, deadLetter), conflicts = conflicts }
end)
if not ok then return unchanged(plan) end
if type(plan) == 'string' then return plan end

local entry = redis.pcall('XADD', KEYS[1], '*', 'id', ARGV[2], 'm', ARGV[4], 'd', ARGV[3])
if type(entry) == 'table' then return unchanged(entry) end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ' ' .. entry)
redis.call('XDEL', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[4], plan.member)
return plan.conflicts
