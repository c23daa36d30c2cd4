-- A page of the dead letters, bounded in number and bytes. Read only.
-- KEYS: 1 dead letters
-- ARGV: 1 where it begins, as XRANGE has it, 2 how many at most, 3 how many bytes, roughly; one letter always fits
-- Returns the letters, and 1 where there are more
local ok, page = pcall(function()
  local letters, bytes, from = {}, 0, ARGV[1]
  while true do
    local found = entryFrom(KEYS[1], from)
    if not found then return { letters, 0 } end
    for _, text in ipairs(found[2]) do bytes = bytes + #text end
    if #letters >= tonumber(ARGV[2]) or (#letters > 0 and bytes > tonumber(ARGV[3])) then return { letters, 1 } end
    letters[#letters + 1] = found
    from = '(' .. found[1]
  end
end)
if not ok then return unchanged(page) end
return page
