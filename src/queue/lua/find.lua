-- Tells where ids stand. Read only.
-- KEYS: 1 pending, 2 dead index, 3 saved, 4 saved before, 5 dead letters
-- ARGV: ids
-- Returns, for each: 0 (unknown) or {status, digest, at} or {'FAILED', digest, at, failure}
local replies = {}
for i, id in ipairs(ARGV) do
  local reply = 0
  local pending = redis.call('HGET', KEYS[1], id)
  local dead = not pending and redis.call('HGET', KEYS[2], id)
  if pending then
    local digest, at = pending:match('^(%S+) (%S+)')
    reply = { 'QUEUED', digest, at }
  elseif dead then
    -- The last one buried tells.
    local digest, handle = dead:match('(%S+) (%S+)$')
    local fields = redis.call('XRANGE', KEYS[5], handle, handle)[1][2]
    local letter = {}
    for f = 1, #fields, 2 do letter[fields[f]] = fields[f + 1] end
    reply = { 'FAILED', digest, letter.at, letter.f }
  else
    local done = redis.call('HGET', KEYS[3], id) or redis.call('HGET', KEYS[4], id)
    if done then
      local digest, at = done:match('^(%S+) (%S+)')
      reply = { 'SAVED', digest, at }
    end
  end
  replies[i] = reply
end
return replies
