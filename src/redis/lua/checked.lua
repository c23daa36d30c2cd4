-- Loaded before every script. A script reads and checks all it needs in one function, called through `pcall`, before its first write, and
-- returns its errors instead of raising them: a returned error proves that nothing was changed, a raised one does not.
local function unchanged(problem)
  local text = type(problem) == 'table' and problem.err or tostring(problem)
  if text:find('exhausted the last possible ID', 1, true) then return { err = 'EXHAUSTED ' .. text } end
  text = text:gsub('user_script', 'script')
  return { err = text:match('%u%u+ .*$') or 'ERR ' .. text }
end

-- The first entry from an id on, or behind one: "(id". Redis rejects a range behind the highest id.
local function entryFrom(stream, from)
  if from == '(18446744073709551615-18446744073709551615' then return nil end
  return redis.call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
end

local function fieldsOf(entry)
  local fields = {}
  for f = 1, #entry[2], 2 do fields[entry[2][f]] = entry[2][f + 1] end
  return fields
end
