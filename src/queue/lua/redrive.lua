-- Takes dead letters out by their ids: back into the queue (retry), or away for good (discard).
-- KEYS: 1 stream, 2 pending, 3 dead index, 4 dead letters
-- ARGV: 1 'retry' or 'discard'; then ids
-- Returns how many letters that were. With retry, a letter whose id is pending stays where it is: one id, one message in the queue.
local count = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local left = {}
  for digest, handle in (redis.call('HGET', KEYS[3], id) or ''):gmatch('(%S+) (%S+)') do
    local fields = redis.call('XRANGE', KEYS[4], handle, handle)[1][2]
    local letter = {}
    for f = 1, #fields, 2 do letter[fields[f]] = fields[f + 1] end
    if ARGV[1] == 'retry' and redis.call('HEXISTS', KEYS[2], id) == 1 then
      left[#left + 1] = digest .. ' ' .. handle
    else
      if ARGV[1] == 'retry' then
        local entry = redis.call('XADD', KEYS[1], '*', 'id', id, 'm', letter.m)
        redis.call('HSET', KEYS[2], id, digest .. ' ' .. letter.at .. ' ' .. entry)
      end
      redis.call('XDEL', KEYS[4], handle)
      count = count + 1
    end
  end
  if #left > 0 then
    redis.call('HSET', KEYS[3], id, table.concat(left, ' '))
  else
    redis.call('HDEL', KEYS[3], id)
  end
end
return count
