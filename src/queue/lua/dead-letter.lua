-- Moves entries from the queue to the dead letters, in one step.
-- KEYS: 1 stream, 2 pending, 3 index, 4 dead letters, 5 attempts, 6 saved, 7 saved before
-- ARGV: 1 consumer group; then, for each entry: handle, failure (JSON), the time now (milliseconds), the body to store for an entry
--   without a message, and "digest at" of the row that has its id, or ''
-- Returns how many entries it moved; an entry that is not in the queue is ignored
local ok, deadLetters = pcall(function()
  local deadLetters, seen = {}, {}
  for _, key in ipairs({ KEYS[5], KEYS[6], KEYS[7] }) do redis.call('HLEN', key) end
  redis.call('ZCARD', KEYS[3])
  redis.call('XLEN', KEYS[4])
  for i = 2, #ARGV, 5 do
    local handle = ARGV[i]
    local found = not seen[handle] and redis.call('XRANGE', KEYS[1], handle, handle)[1]
    if found then
      seen[handle] = true
      local entry = fieldsOf(found)
      local id = entry.id or handle
      local pending = redis.call('HGET', KEYS[2], id) or ''
      local isPending = pending:sub(-#handle - 1) == ' ' .. handle
      local digest, at = (entry.d or ''):match('^(%S+) (%d+)$')
      -- Entries of release 0.1 have no digest. The key `pending` has it, or, after markSaved, a key of the saved ones.
      for _, key in ipairs({ KEYS[2], KEYS[6], KEYS[7] }) do
        if not digest then
          local d, t, h = (redis.call('HGET', key, id) or ''):match('^(%S+) (%S+) (%S+)')
          if h == handle then
            digest, at = d, t
          end
        end
      end
      local isKnown = redis.call('HEXISTS', KEYS[6], id) == 1 or redis.call('HEXISTS', KEYS[7], id) == 1
      deadLetters[#deadLetters + 1] = {
        handle = handle,
        id = id,
        body = entry.m or ARGV[i + 3],
        failure = ARGV[i + 1],
        digest = digest or '-',
        at = at or ARGV[i + 2],
        isPending = isPending,
        existing = not isKnown and ARGV[i + 4]:match('^%S+ %d+$'),
      }
    end
  end
  return deadLetters
end)
if not ok then return unchanged(deadLetters) end

-- This deletes nothing and needs no memory: a full server refuses more memory, except to a script that has written already.
if #deadLetters > 0 then redis.call('HDEL', KEYS[5], '') end
for n, one in ipairs(deadLetters) do
  local fields = { 'id', one.id, 'm', one.body, 'f', one.failure, 'd', one.digest, 'at', one.at }
  local added = redis.pcall('XADD', KEYS[4], '*', unpack(fields))
  if type(added) == 'table' then return n == 1 and unchanged(added) or redis.call('XADD', KEYS[4], '*', unpack(fields)) end
  redis.call('HDEL', KEYS[5], one.handle)
  redis.call('ZADD', KEYS[3], 0, memberOf(one.id, kindOf(one.failure), one.digest, added))
  if one.existing then redis.call('HSET', KEYS[6], one.id, one.existing .. ' -') end
  if one.isPending then redis.call('HDEL', KEYS[2], one.id) end
  redis.call('XACK', KEYS[1], ARGV[1], one.handle)
  redis.call('XDEL', KEYS[1], one.handle)
end
return #deadLetters
