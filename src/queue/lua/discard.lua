-- Deletes dead letters, in one bounded step.
-- KEYS: 1 index, 2 dead letters
-- ARGV: handles of dead letters
-- Returns with how many handles the step is done, and the handles of those that it deleted
local bytesAtOnce = 4 * 1024 * 1024

local ok, plan = pcall(function()
  local handles, members, isFound, bytes, done = {}, {}, {}, 0, 0
  redis.call('ZCARD', KEYS[1])
  for n, handle in ipairs(ARGV) do
    local deadLetter = deadLetterAt(KEYS[2], handle)
    bytes = bytes + #(deadLetter and deadLetter.m or '')
    if done > 0 and bytes > bytesAtOnce then break end
    done = n
    if deadLetter and not isFound[handle] then
      isFound[handle] = true
      handles[#handles + 1] = handle
      members[#members + 1] = memberOfDeadLetter(handle, deadLetter)
    end
  end
  return { members = members, handles = handles, done = done }
end)
if not ok then return unchanged(plan) end

if #plan.handles > 0 then
  redis.call('XDEL', KEYS[2], unpack(plan.handles))
  redis.call('ZREM', KEYS[1], unpack(plan.members))
end
return { plan.done, plan.handles }
