-- Returns the save states of ids. Read only.
-- KEYS: 1 pending, 2 old index, 3 index, 4 dead letters, 5 saved, 6 saved before
-- ARGV: 1 a digest, to ask for that content of each id only, or ''; then ids
-- Returns 'REPAIR' if the index has to be repaired first; else, for each id: 0 (unknown), or {status, digest, at, conflicts} or
--   {'FAILED', digest, at, conflicts, failure}
local wanted = ARGV[1] ~= '' and ARGV[1] or nil

local function isWanted(digest) return digest and (not wanted or digest == wanted) end

local ok, replies = pcall(function()
  local ids = { unpack(ARGV, 2) }
  if needsRepair(KEYS[2], KEYS[3], KEYS[4]) then return 'REPAIR' end
  local hasDeadLetters = redis.call('ZCARD', KEYS[3]) > 0
  local found = {}
  for i, id in ipairs(ids) do
    local conflicts = hasDeadLetters and conflictsOf(KEYS[3], id) or 0
    local digest, at = (redis.call('HGET', KEYS[1], id) or ''):match('^(%S+) (%S+)')
    if isWanted(digest) then
      found[i] = { 'QUEUED', digest, at, conflicts }
    else
      digest, at = (redis.call('HGET', KEYS[5], id) or redis.call('HGET', KEYS[6], id) or ''):match('^(%S+) (%S+)')
      if isWanted(digest) then
        found[i] = { 'SAVED', digest, at, conflicts }
      else
        local deadLetter, handle
        for _, kind in ipairs(hasDeadLetters and { '0', '1' } or {}) do
          deadLetter, digest, handle = firstDeadLetter(KEYS[3], KEYS[4], id, kind, wanted)
          if deadLetter then break end
        end
        found[i] = deadLetter and { 'FAILED', digest, timeOf(deadLetter, handle), conflicts, deadLetter.f or '' } or 0
      end
    end
  end
  return found
end)
if not ok then return unchanged(replies) end
return replies
