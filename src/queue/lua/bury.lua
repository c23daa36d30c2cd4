-- Moves entries from the queue to the dead letters, in one step.
-- KEYS: 1 stream, 2 pending, 3 dead index, 4 dead letters, 5 attempts, 6 saved, 7 saved before
-- ARGV: 1 group; then, for each: handle, failure (JSON), now (milliseconds), what to show of an entry that is no message of ours
-- Returns how many it moved; an entry that is gone already is passed over
local moved = 0
for i = 2, #ARGV, 4 do
  local handle = ARGV[i]
  local found = redis.call('XRANGE', KEYS[1], handle, handle)[1]
  if found then
    -- First, since it frees memory: a script that has begun to write may go on writing when the server is full.
    redis.call('XACK', KEYS[1], ARGV[1], handle)
    local entry = {}
    for f = 1, #found[2], 2 do entry[found[2][f]] = found[2][f + 1] end
    local id, body = entry.id, entry.m
    if not body then body = ARGV[i + 3] end
    if not id then id = handle end
    local digest, at = '-', ARGV[i + 2]
    -- Confirmed, and never announced, where it is not pending.
    for _, key in ipairs({ KEYS[2], KEYS[6], KEYS[7] }) do
      local d, t, h = (redis.call('HGET', key, id) or ''):match('^(%S+) (%S+) (%S+)')
      if h == handle then
        digest, at = d, t
        if key == KEYS[2] then redis.call('HDEL', key, id) end
        break
      end
    end
    local letter = redis.call('XADD', KEYS[4], '*', 'id', id, 'm', body, 'f', ARGV[i + 1], 'd', digest, 'at', at)
    local others = redis.call('HGET', KEYS[3], id)
    redis.call('HSET', KEYS[3], id, (others and others .. ' ' or '') .. digest .. ' ' .. letter)
    redis.call('XDEL', KEYS[1], handle)
    redis.call('HDEL', KEYS[5], handle)
    moved = moved + 1
  end
end
return moved
