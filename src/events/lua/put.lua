-- Stores texts of log entries, which are removed later, or expire.
-- KEYS: one for each text
-- ARGV: 1 how long they live (milliseconds); then the texts
-- Returns how many it stored
local ok, problem = pcall(function()
  for _, key in ipairs(KEYS) do redis.call('EXISTS', key) end
end)
if not ok then return unchanged(problem) end

for i, key in ipairs(KEYS) do
  -- This needs no memory: a full server refuses more of it, except to a script that has written already.
  redis.call('UNLINK', key)
  redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1])
end
return #KEYS
