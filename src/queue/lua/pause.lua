-- Pauses or resumes persisting.
-- KEYS: 1 the pause, 2 fence
-- ARGV: 1 the pause to keep unless there is one, or '' to resume
-- This needs no memory: a full server refuses more of it, except to a script that has written already.
local first = redis.pcall('DEL', KEYS[2])
if type(first) == 'table' then return unchanged(first) end
if ARGV[1] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1], 'NX') end
-- WAIT waits for what its client wrote last, and where nothing changed it may have written nothing else.
redis.call('SET', KEYS[2], '')
return 1
