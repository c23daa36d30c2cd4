-- Reads epoch, last id and entries of the events log at one moment. Read only: it works on a full server, where a transaction does not.
-- KEYS: 1 log, 2 meta
-- ARGV: 1 the first id to read, as in XRANGE, 2 the largest number of entries, 3 a number of bytes: it reads 4 entries at a time, as long
--   as it has fewer bytes
-- Returns {epoch, last}, and the entries
local most, enough = tonumber(ARGV[2]), tonumber(ARGV[3])
local ok, found = pcall(function()
  local meta = redis.call('HMGET', KEYS[2], 'epoch', 'last')
  local entries, bytes = {}, 0
  local from = ARGV[1]
  repeat
    local count = math.min(4, most - #entries)
    local some = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', count)
    for _, entry in ipairs(some) do
      entries[#entries + 1] = entry
      for _, text in ipairs(entry[2]) do bytes = bytes + #text end
    end
    if #entries > 0 then from = '(' .. entries[#entries][1] end
  until #some < count or #entries >= most or bytes >= enough
  return { meta, entries }
end)
if not ok then return unchanged(found) end
return found
