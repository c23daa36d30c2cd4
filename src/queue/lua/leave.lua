-- A consumer says goodbye: its name goes, but never with entries it still holds (DELCONSUMER would drop them from the group).
-- KEYS: 1 stream
-- ARGV: 1 group, 2 consumer
-- Returns 1 when it is gone, 0 when it still holds something
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
