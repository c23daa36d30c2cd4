-- A page of the dead letters, bounded in number and bytes. Read only.
-- KEYS: 1 dead letters
-- ARGV: 1 'newest' or 'oldest': which of them come first; 2 a handle: only newer ones, or ''; 3 a handle: only older ones, or '';
--   4 how many at most; 5 how many bytes, roughly; one dead letter is always returned
-- Returns the dead letters, and 1 if there are more, else 0
local isNewestFirst = ARGV[1] == 'newest'
local low = ARGV[2] == '' and '-' or '(' .. ARGV[2]
local high = ARGV[3] == '' and '+' or '(' .. ARGV[3]

local function nextDeadLetter()
  -- Redis rejects a range above the highest id, and one below the lowest.
  if low == '(18446744073709551615-18446744073709551615' or high == '(0-0' then return nil end
  if isNewestFirst then return redis.call('XREVRANGE', KEYS[1], high, low, 'COUNT', 1)[1] end
  return redis.call('XRANGE', KEYS[1], low, high, 'COUNT', 1)[1]
end

local ok, page = pcall(function()
  local deadLetters, bytes = {}, 0
  while true do
    local found = nextDeadLetter()
    if not found then return { deadLetters, 0 } end
    for _, text in ipairs(found[2]) do bytes = bytes + #text end
    if #deadLetters >= tonumber(ARGV[4]) or (#deadLetters > 0 and bytes > tonumber(ARGV[5])) then
      return { deadLetters, 1 }
    end
    deadLetters[#deadLetters + 1] = found
    if isNewestFirst then high = '(' .. found[1] else low = '(' .. found[1] end
  end
end)
if not ok then return unchanged(page) end
return page
