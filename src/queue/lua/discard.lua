-- Deletes dead letters by their ids, a bounded number at a time.
-- KEYS: 1 old index, 2 index, 3 dead letters
-- ARGV: ids, or handles of dead letters, each one once
-- Returns 'REPAIR' if the index has to be repaired first; else how many dead letters it deleted, and with how many ids it is done
local atOnce = 250

local ok, plan = pcall(function()
  if needsRepair(KEYS[1], KEYS[2], KEYS[3]) then return 'REPAIR' end
  local handles, members, done = {}, {}, 0
  for _, id in ipairs(ARGV) do
    local from, to = spanOf(id)
    local found = redis.call('ZRANGEBYLEX', KEYS[2], from, to, 'LIMIT', 0, atOnce - #handles)
    for _, member in ipairs(found) do
      members[#members + 1] = member
      handles[#handles + 1] = member:match('(%d+%-%d+)$') or '0-0'
    end
    if #handles >= atOnce then break end
    done = done + 1
  end
  return { handles = handles, members = members, done = done }
end)
if not ok then return unchanged(plan) end
if plan == 'REPAIR' then return plan end

local count = 0
if #plan.handles > 0 then count = redis.call('XDEL', KEYS[3], unpack(plan.handles)) end
if #plan.members > 0 then redis.call('ZREM', KEYS[2], unpack(plan.members)) end
return { count, plan.done }
