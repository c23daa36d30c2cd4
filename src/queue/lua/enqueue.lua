-- Accepts groups of messages, each whole or not at all. Atomic, as every script is.
-- KEYS: 1 stream, 2 pending, 3 old index, 4 index, 5 dead letters, 6 saved, 7 saved before
-- ARGV: 1 capacity; then, for each group: its size n, or -n where its ids were made just now, so that nobody can have used them; then n
--   times: id, "digest at", body
-- Returns 'REPAIR' where the index has to be repaired first; or, for each group: 0 (all of it new), or an array with, for each item, 0
--   (new), the number of its id's ID_CONFLICT letters (new), or {status, digest, at, conflicts, failure}; or 'QUEUE_FULL', or
--   'ID_CONFLICT <id>'
local argv = ARGV
local adds = {} -- where in ARGV the items begin that are accepted

local function judgeAll()
  local call = redis.call
  local ids = {}
  local i = 2
  while i <= #argv do
    local size = tonumber(argv[i])
    for at = i + 1, i + 3 * size, 3 do ids[#ids + 1] = argv[at] end
    i = i + 1 + 3 * math.abs(size)
  end

  local depth, capacity = call('XLEN', KEYS[1]), tonumber(argv[1])
  local pending, saved, before, hasDeadLetters
  if #ids > 0 then
    if isAskew(KEYS[3], KEYS[4], KEYS[5]) then return 'REPAIR' end
    pending = call('HMGET', KEYS[2], unpack(ids))
    saved = call('HMGET', KEYS[6], unpack(ids))
    before = call('HMGET', KEYS[7], unpack(ids))
    hasDeadLetters = call('ZCARD', KEYS[4]) > 0
  else
    call('HLEN', KEYS[2])
  end
  local taken = {} -- id -> "digest at" of what this very call accepts

  -- What the letters of the id say of the item: how many conflicts there are, whether the id has a letter of its own, and the reply
  -- where one of them is the item's.
  local function lookAtDeadLetters(id, digest)
    local index, dead = KEYS[4], KEYS[5]
    local from, to = spanOf(id)
    if not hasDeadLetters or #call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, 1) == 0 then return 0, false end
    local conflicts = conflictsOf(index, id)
    local deadLetter, was, handle = firstDeadLetter(index, dead, id, '0')
    local isTaken = deadLetter ~= nil
    if was ~= digest then
      deadLetter, was, handle = nil, nil, nil
      if isTaken then
        deadLetter, was, handle = firstDeadLetter(index, dead, id, '0', digest)
      end
      if not deadLetter and conflicts > 0 then
        deadLetter, was, handle = firstDeadLetter(index, dead, id, '1', digest)
      end
    end
    local reply = deadLetter and { 'FAILED', digest, timeOf(deadLetter, handle), conflicts, deadLetter.f or '' }
    return conflicts, isTaken, reply
  end

  -- What is known of the item; a number: it is new. Or nil, and why its group is refused.
  local function look(at, index, ours)
    local id, digest = argv[at], argv[at + 1]:match('^%S+')
    -- What this very call accepts is pending.
    local known = taken[id] or ours[id]
    if not known and pending[index] then
      -- Unless somebody has deleted the message behind our back.
      local handle = pending[index]:match('(%d+%-%d+)$')
      if handle and #call('XRANGE', KEYS[1], handle, handle) > 0 then known = pending[index] end
    end
    local was, time = (known or ''):match('^(%S+) (%S+)')
    local savedDigest, savedAt = (saved[index] or before[index] or ''):match('^(%S+) (%S+)')
    local conflicts, isTaken, reply = lookAtDeadLetters(id, digest)
    if was == digest then return { 'QUEUED', was, time, conflicts } end
    if savedDigest == digest then return { 'SAVED', savedDigest, savedAt, conflicts } end
    if reply then return reply end
    if was or savedDigest or isTaken then return nil, 'ID_CONFLICT ' .. id end
    return conflicts
  end

  local seen = 0
  local function judge(first, size)
    local reply, fresh, isPlain, ours = {}, 0, true, {}
    for n = 1, size do
      local at = first + 3 * (n - 1)
      local found, refused = look(at, seen + n, ours)
      if refused then return refused end
      reply[n] = found
      isPlain = isPlain and found == 0
      if type(found) == 'number' then
        fresh = fresh + 1
        ours[argv[at]] = argv[at + 1]
      end
    end
    if fresh > 0 and depth + fresh > capacity then return 'QUEUE_FULL' end
    for n = 1, size do
      local at = first + 3 * (n - 1)
      if type(reply[n]) == 'number' then
        adds[#adds + 1] = at
        taken[argv[at]] = argv[at + 1]
      end
    end
    depth = depth + fresh
    return isPlain and 0 or reply
  end

  local function judgeNew(first, size)
    if depth + size > capacity then return 'QUEUE_FULL' end
    for at = first, first + 3 * (size - 1), 3 do adds[#adds + 1] = at end
    depth = depth + size
    return 0
  end

  local replies = {}
  i = 2
  while i <= #argv do
    local size = tonumber(argv[i])
    if size < 0 then
      size = -size
      replies[#replies + 1] = judgeNew(i + 1, size)
    else
      replies[#replies + 1] = judge(i + 1, size)
      seen = seen + size
    end
    i = i + 1 + 3 * size
  end
  return replies
end

local ok, replies = pcall(judgeAll)
if not ok then return unchanged(replies) end

local hset, handles = {}, {}
for n, at in ipairs(adds) do
  local handle = redis.pcall('XADD', KEYS[1], '*', 'id', argv[at], 'm', argv[at + 2], 'd', argv[at + 1])
  if type(handle) == 'table' then
    if n > 1 then redis.call('XDEL', KEYS[1], unpack(handles)) end
    return unchanged(handle)
  end
  handles[n] = handle
  hset[2 * n - 1] = argv[at]
  hset[2 * n] = argv[at + 1] .. ' ' .. handle
end
if #hset > 0 then redis.call('HSET', KEYS[2], unpack(hset)) end
return replies
