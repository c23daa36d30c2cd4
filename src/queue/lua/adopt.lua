-- Moves letters from the index of release 0.1 to the present one, a bounded number at once.
-- KEYS: 1 old index, 2 index, 3 dead letters
-- ARGV: ids
-- Returns how many ids have letters left in the old index
local atOnce = 200

local ok, plan = pcall(function()
  local members, rest, done, left = {}, {}, {}, 0
  redis.call('ZCARD', KEYS[2])
  local budget = atOnce
  for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
    local id, at = ARGV[i], 1
    while value and budget > 0 do
      local from, to, digest, handle = value:find('(%S+) (%d+%-%d+)', at)
      if not from then
        value = nil
      else
        at, budget = to + 1, budget - 1
        local letter = letterAt(KEYS[3], handle)
        if letter then members[#members + 1] = memberOf(id, kindOf(letter.f), digest, handle) end
      end
    end
    if at > 1 or value == nil then done[#done + 1] = id end
    if value then
      left = left + 1
      if at > 1 then
        rest[#rest + 1] = id
        rest[#rest + 1] = value:sub(at)
      end
    end
  end
  return { members = members, rest = rest, done = done, left = left }
end)
if not ok then return unchanged(plan) end

-- First, since it needs no memory: a script that has begun to write may go on writing when the server is full.
if #plan.done > 0 then redis.call('HDEL', KEYS[1], unpack(plan.done)) end
for _, member in ipairs(plan.members) do redis.call('ZADD', KEYS[2], 0, member) end
if #plan.rest > 0 then redis.call('HSET', KEYS[1], unpack(plan.rest)) end
return plan.left
