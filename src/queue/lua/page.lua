-- A page of the dead letters, bounded in number and bytes. Read only.
-- KEYS: 1 dead letters
-- ARGV: 1 where it begins, in the form of XRANGE, 2 how many at most, 3 how many bytes, roughly; one dead letter is always returned
-- Returns the dead letters, and 1 if there are more, else 0
local ok, page = pcall(function()
  local deadLetters, bytes, from = {}, 0, ARGV[1]
  while true do
    local found = entryFrom(KEYS[1], from)
    if not found then return { deadLetters, 0 } end
    for _, text in ipairs(found[2]) do bytes = bytes + #text end
    if #deadLetters >= tonumber(ARGV[2]) or (#deadLetters > 0 and bytes > tonumber(ARGV[3])) then
      return { deadLetters, 1 }
    end
    deadLetters[#deadLetters + 1] = found
    from = '(' .. found[1]
  end
end)
if not ok then return unchanged(page) end
return page
