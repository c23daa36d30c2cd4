-- Accepts groups of messages, each whole or not at all. Atomic, as every script is.
-- KEYS: 1 stream, 2 pending, 3 dead index, 4 saved, 5 saved before, 6 dead letters
-- ARGV: 1 capacity; then, for each group: its size n, then n times: id, digest, at, body
-- Returns, for each group: 0 (all of it new), or an array with, for each item, 0 (new) or {status, digest, at, failure}; or
--   'QUEUE_FULL', or 'ID_CONFLICT <id>'
local groups, ids = {}, {}
local i = 2
while i <= #ARGV do
  local group = {}
  for n = 1, tonumber(ARGV[i]) do
    local at = i + 1 + (n - 1) * 4
    group[n] = at
    ids[#ids + 1] = ARGV[at]
  end
  groups[#groups + 1] = group
  i = i + 1 + #group * 4
end

local pending = redis.call('HMGET', KEYS[2], unpack(ids))
local dead = redis.call('HMGET', KEYS[3], unpack(ids))
local saved = redis.call('HMGET', KEYS[4], unpack(ids))
local before = redis.call('HMGET', KEYS[5], unpack(ids))

local depth = redis.call('XLEN', KEYS[1])
local capacity = tonumber(ARGV[1])
local taken = {} -- id -> digest and at of what this very call accepts
local hset = {}
local replies = {}
local seen = 0

for g, group in ipairs(groups) do
  local reply, fresh, refused, ours = {}, 0, nil, {}
  for n, at in ipairs(group) do
    local index = seen + n
    local id, digest = ARGV[at], ARGV[at + 1]
    local mine = taken[id] or ours[id]
    local known = pending[index]
    -- Unless somebody has deleted the message behind our back.
    if known then
      local handle = known:match('(%S+)$')
      if #redis.call('XRANGE', KEYS[1], handle, handle) == 0 then known = nil end
    end
    if mine then
      if mine[1] ~= digest then refused = 'ID_CONFLICT ' .. id break end
      reply[n] = { 'QUEUED', mine[1], mine[2] }
    elseif known then
      local was, time = known:match('^(%S+) (%S+)')
      if was ~= digest then refused = 'ID_CONFLICT ' .. id break end
      reply[n] = { 'QUEUED', was, time }
    else
      for buried, handle in (dead[index] or ''):gmatch('(%S+) (%S+)') do
        if buried == digest then reply[n] = handle end
      end
      if not reply[n] then
        local was, time = (saved[index] or before[index] or ''):match('^(%S+) (%S+)')
        if was == digest then
          reply[n] = { 'SAVED', was, time }
        else
          reply[n] = 0
          fresh = fresh + 1
          ours[id] = { digest, ARGV[at + 2] }
        end
      end
    end
  end
  if not refused and fresh > 0 and depth + fresh > capacity then refused = 'QUEUE_FULL' end
  if refused then
    replies[g] = refused
  else
    for n, at in ipairs(group) do
      if reply[n] == 0 then
        local id = ARGV[at]
        local handle = redis.call('XADD', KEYS[1], '*', 'id', id, 'm', ARGV[at + 3])
        hset[#hset + 1] = id
        hset[#hset + 1] = ARGV[at + 1] .. ' ' .. ARGV[at + 2] .. ' ' .. handle
        taken[id] = ours[id]
      elseif type(reply[n]) == 'string' then
        -- The handle of a dead letter: say why it became one.
        local letter = {}
        local fields = redis.call('XRANGE', KEYS[6], reply[n], reply[n])[1][2]
        for f = 1, #fields, 2 do letter[fields[f]] = fields[f + 1] end
        reply[n] = { 'FAILED', letter.d, letter.at, letter.f }
      end
    end
    depth = depth + fresh
    replies[g] = fresh == #group and 0 or reply
  end
  seen = seen + #group
end

if #hset > 0 then redis.call('HSET', KEYS[2], unpack(hset)) end
return replies
