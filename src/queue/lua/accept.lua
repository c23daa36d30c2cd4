-- Accepts groups of messages, each whole or not at all. Atomic, as every script is.
-- KEYS: 1 stream, 2 pending, 3 dead index, 4 saved, 5 saved before, 6 dead letters
-- ARGV: 1 capacity; then, for each group: its size n, or -n where its ids were made just now, so that nobody can have used them; then n
--   times: id, "digest at", body
-- Returns, for each group: 0 (all of it new), or an array with, for each item, 0 (new) or {status, digest, at, failure}; or
--   'QUEUE_FULL', or 'ID_CONFLICT <id>'
local call, argv = redis.call, ARGV
local ids = {}
local i = 2
while i <= #argv do
  local size = tonumber(argv[i])
  for at = i + 1, i + 3 * size, 3 do ids[#ids + 1] = argv[at] end
  i = i + 1 + 3 * math.abs(size)
end

local pending, dead, saved, before
if #ids > 0 then
  pending = call('HMGET', KEYS[2], unpack(ids))
  dead = call('HMGET', KEYS[3], unpack(ids))
  saved = call('HMGET', KEYS[4], unpack(ids))
  before = call('HMGET', KEYS[5], unpack(ids))
end

local depth = call('XLEN', KEYS[1])
local capacity = tonumber(argv[1])
local taken = {} -- id -> digest and at of what this very call accepts
local hset, count = {}, 0
local seen = 0

local function add(at)
  local handle = call('XADD', KEYS[1], '*', 'id', argv[at], 'm', argv[at + 2])
  hset[count + 1] = argv[at]
  hset[count + 2] = argv[at + 1] .. ' ' .. handle
  count = count + 2
end

-- What is known of the item; 0: nothing. Or nil, and why its group is refused.
local function look(at, index, ours)
  local id, digest = argv[at], argv[at + 1]:match('^%S+')
  local mine = taken[id] or ours[id]
  if mine then
    local was, time = mine:match('^(%S+) (%S+)')
    if was ~= digest then return nil, 'ID_CONFLICT ' .. id end
    return { 'QUEUED', was, time }
  end
  local known = pending[index]
  -- Unless somebody has deleted the message behind our back.
  if known then
    local handle = known:match('(%S+)$')
    if #call('XRANGE', KEYS[1], handle, handle) == 0 then known = nil end
  end
  if known then
    local was, time = known:match('^(%S+) (%S+)')
    if was ~= digest then return nil, 'ID_CONFLICT ' .. id end
    return { 'QUEUED', was, time }
  end
  local letter
  for buried, handle in (dead[index] or ''):gmatch('(%S+) (%S+)') do
    if buried == digest then letter = handle end
  end
  -- The handle of a dead letter: why it became one is said once the group is accepted.
  if letter then return letter end
  local was, time = (saved[index] or before[index] or ''):match('^(%S+) (%S+)')
  if was == digest then return { 'SAVED', was, time } end
  return 0
end

local function failed(handle)
  local letter = {}
  local fields = call('XRANGE', KEYS[6], handle, handle)[1][2]
  for f = 1, #fields, 2 do letter[fields[f]] = fields[f + 1] end
  return { 'FAILED', letter.d, letter.at, letter.f }
end

local function accept(first, size)
  local reply, fresh, ours = {}, 0, {}
  for n = 1, size do
    local at = first + 3 * (n - 1)
    local found, refused = look(at, seen + n, ours)
    if refused then return refused end
    reply[n] = found
    if found == 0 then
      fresh = fresh + 1
      ours[argv[at]] = argv[at + 1]
    end
  end
  if fresh > 0 and depth + fresh > capacity then return 'QUEUE_FULL' end
  for n = 1, size do
    local at = first + 3 * (n - 1)
    if reply[n] == 0 then
      add(at)
      taken[argv[at]] = argv[at + 1]
    elseif type(reply[n]) == 'string' then
      reply[n] = failed(reply[n])
    end
  end
  depth = depth + fresh
  return fresh == size and 0 or reply
end

local function acceptNew(first, size)
  if depth + size > capacity then return 'QUEUE_FULL' end
  for at = first, first + 3 * (size - 1), 3 do add(at) end
  depth = depth + size
  return 0
end

local replies = {}
i = 2
while i <= #argv do
  local size = tonumber(argv[i])
  if size < 0 then
    size = -size
    replies[#replies + 1] = acceptNew(i + 1, size)
  else
    replies[#replies + 1] = accept(i + 1, size)
    seen = seen + size
  end
  i = i + 1 + 3 * size
end

if count > 0 then call('HSET', KEYS[2], unpack(hset)) end
return replies
