-- A page of the dead letters, bounded in number and bytes. What the index lacks of them is put back: somebody has deleted it.
-- KEYS: 1 dead letters, 2 index
-- ARGV: 1 where it begins, as XRANGE has it, 2 how many at most, 3 how many bytes, roughly; one letter always fits
-- Returns the letters, and 1 where there are more
local ok, page = pcall(function()
  local letters, bytes, from = {}, 0, ARGV[1]
  redis.call('ZCARD', KEYS[2])
  while true do
    local found = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 1)[1]
    if not found then return { letters, 0 } end
    for _, text in ipairs(found[2]) do bytes = bytes + #text end
    if #letters >= tonumber(ARGV[2]) or (#letters > 0 and bytes > tonumber(ARGV[3])) then return { letters, 1 } end
    letters[#letters + 1] = found
    from = '(' .. found[1]
  end
end)
if not ok then return unchanged(page) end

for _, found in ipairs(page[1]) do
  local letter = fieldsOf(found)
  if letter.id and (letter.d or ''):match('^%S+$') then
    -- Not where the server is full: the page is read all the same.
    redis.pcall('ZADD', KEYS[2], 0, memberOf(letter.id, kindOf(letter.f), letter.d, found[1]))
  end
end
return page
