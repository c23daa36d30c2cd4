-- Enqueues requests, each one whole or not at all. The script first decides about all of them, then writes.
-- KEYS: 1 stream, 2 pending, 3 old index, 4 index, 5 dead letters, 6 saved, 7 saved before, 8 reserved, 9 fence
-- ARGV: 1 capacity; 2 '', or 'reserve TOKEN' to reserve what would be added, in place of adding it, or 'commit TOKEN' to add what is
--   reserved; 3 how long a reservation lasts (milliseconds); 4 'fence' if the caller waits for replicas, else ''; then, for each request: its
--   number of items n, or -n if the API generated all of its ids for this call, so that none is looked up; then n times: id, "digest at", body
-- Returns 'REPAIR' if the index has to be repaired first; else, for each request, one of:
--   0 (all items are new);
--   an array with, for each item: a number (new; how many ID_CONFLICT dead letters its id has), or {status, digest, at, conflicts,
--   failure} (known);
--   'QUEUE_FULL', 'ID_CONFLICT <id>', or 'RESERVED <id>'
local argv = ARGV
local step, token = ARGV[2]:match('^(%S+) (%S+)$')
local adds = {} -- where in ARGV the items begin that will be added

local hasEnded = false -- whether all reservations have

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function isReservedByOther(value)
  local by, till = (value or ''):match('^(%S+) (%d+)$')
  return by and by ~= token and tonumber(till) > now()
end

local function decideAll()
  local call = redis.call
  local ids = {}
  local i = 5
  while i <= #argv do
    local size = tonumber(argv[i])
    for at = i + 1, i + 3 * size, 3 do ids[#ids + 1] = argv[at] end
    i = i + 1 + 3 * math.abs(size)
  end

  local depth, capacity = call('XLEN', KEYS[1]), tonumber(argv[1])
  local pending, saved, before, hasDeadLetters, reserved
  if #ids > 0 then
    if needsRepair(KEYS[3], KEYS[4], KEYS[5]) then return 'REPAIR' end
    pending = call('HMGET', KEYS[2], unpack(ids))
    saved = call('HMGET', KEYS[6], unpack(ids))
    before = call('HMGET', KEYS[7], unpack(ids))
    hasDeadLetters = call('ZCARD', KEYS[4]) > 0
    if call('EXISTS', KEYS[8]) == 1 then
      -- All of them end with the last one.
      hasEnded = tonumber(call('HGET', KEYS[8], 'until') or 0) <= now()
      reserved = not hasEnded and call('HMGET', KEYS[8], unpack(ids))
      -- Reserved room is taken.
      if reserved and not step then depth = depth + call('HLEN', KEYS[8]) - 1 end
    end
  else
    call('HLEN', KEYS[2])
  end
  local ofCall = {} -- id -> "digest at" of the items that this call adds, without the request under decision

  -- Looks up the dead letters of the id. Returns the number of ID_CONFLICTs, whether another dead letter makes the id known, and the
  -- reply if one of them has the digest.
  local function lookUpDeadLetters(id, digest)
    local index, dead = KEYS[4], KEYS[5]
    local from, to = spanOf(id)
    if not hasDeadLetters or #call('ZRANGEBYLEX', index, from, to, 'LIMIT', 0, 1) == 0 then return 0, false end
    local conflicts = conflictsOf(index, id)
    local deadLetter, was, handle = firstDeadLetter(index, dead, id, '0')
    local makesKnown = deadLetter ~= nil
    if was ~= digest then
      deadLetter, was, handle = nil, nil, nil
      if makesKnown then
        deadLetter, was, handle = firstDeadLetter(index, dead, id, '0', digest)
      end
      if not deadLetter and conflicts > 0 then
        deadLetter, was, handle = firstDeadLetter(index, dead, id, '1', digest)
      end
    end
    local reply = deadLetter and { 'FAILED', digest, timeOf(deadLetter, handle), conflicts, deadLetter.f or '' }
    return conflicts, makesKnown, reply
  end

  -- Looks an item up. Returns its reply, where a number means that it is new; or nil, and why its request is refused.
  local function lookUp(at, index, ofRequest)
    local id, digest = argv[at], argv[at + 1]:match('^%S+')
    -- The items that this call adds count as pending.
    local known = ofCall[id] or ofRequest[id]
    if not known and pending[index] and isInStream(KEYS[1], pending[index]) then known = pending[index] end
    local was, time = (known or ''):match('^(%S+) (%S+)')
    local savedDigest, savedAt = (saved[index] or before[index] or ''):match('^(%S+) (%S+)')
    local conflicts, makesKnown, reply = lookUpDeadLetters(id, digest)
    if was == digest then return { 'QUEUED', was, time, conflicts } end
    if savedDigest == digest then return { 'SAVED', savedDigest, savedAt, conflicts } end
    if reply then return reply end
    if was or savedDigest or makesKnown then return nil, 'ID_CONFLICT ' .. id end
    if reserved and isReservedByOther(reserved[index]) then return nil, 'RESERVED ' .. id end
    return conflicts
  end

  local seen = 0
  local function decide(first, size)
    local reply, fresh, isPlain, ofRequest = {}, 0, true, {}
    for n = 1, size do
      local at = first + 3 * (n - 1)
      local found, refused = lookUp(at, seen + n, ofRequest)
      if refused then return refused end
      reply[n] = found
      isPlain = isPlain and found == 0
      if type(found) == 'number' then
        fresh = fresh + 1
        ofRequest[argv[at]] = argv[at + 1]
      end
    end
    if fresh > 0 and depth + fresh > capacity then return 'QUEUE_FULL' end
    for n = 1, size do
      local at = first + 3 * (n - 1)
      if type(reply[n]) == 'number' then
        adds[#adds + 1] = at
        ofCall[argv[at]] = argv[at + 1]
      end
    end
    depth = depth + fresh
    return isPlain and 0 or reply
  end

  local function decideFresh(first, size)
    if depth + size > capacity then return 'QUEUE_FULL' end
    for at = first, first + 3 * (size - 1), 3 do adds[#adds + 1] = at end
    depth = depth + size
    return 0
  end

  local replies = {}
  i = 5
  while i <= #argv do
    local size = tonumber(argv[i])
    if size < 0 then
      size = -size
      replies[#replies + 1] = decideFresh(i + 1, size)
    else
      replies[#replies + 1] = decide(i + 1, size)
      seen = seen + size
    end
    i = i + 1 + 3 * size
  end
  return replies
end

local ok, replies = pcall(decideAll)
if not ok then return unchanged(replies) end

if hasEnded then redis.call('DEL', KEYS[8]) end
if step == 'reserve' then
  if #adds == 0 then return replies end
  local till = string.format('%.0f', now() + argv[3])
  local values = { 'until', till }
  for n, at in ipairs(adds) do
    values[2 * n + 1] = argv[at]
    values[2 * n + 2] = token .. ' ' .. till
  end
  redis.call('HSET', KEYS[8], unpack(values))
  return replies
end

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
if step == 'commit' then
  for _, at in ipairs(adds) do redis.call('HDEL', KEYS[8], argv[at]) end
end

-- A reply with an earlier save acknowledges that one. WAIT waits for what its client wrote last, so a call that adds nothing must write, or
-- the earlier save would be acknowledged before the replicas have it.
local function repeatsSave()
  for _, reply in ipairs(replies) do
    if type(reply) == 'table' then return true end
  end
end
if ARGV[4] == 'fence' and #adds == 0 and repeatsSave() then
  -- DEL needs no memory: a full server refuses more memory, except to a script that has written already.
  redis.call('DEL', KEYS[9])
  redis.call('SET', KEYS[9], '')
end
return replies
