-- Run commands, unless a request with this mark has run them before: redis-py sends a request again
-- when no answer comes in time, and Redis may have carried out the first copy.
-- KEYS  1 the mark
-- ARGV  1 the seconds that the mark is kept
--       2.. the commands, each after the number of its words
-- Runs every command, as MULTI does, also after an error of one. The mark comes first: a Redis that
-- refuses writes runs none of them.
-- Returns 1, 0 if they ran before, or the first error.
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[1]) then return 0 end
local failed
each_command(ARGV, 2, function(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then failed = failed or reply end
end)
return failed or 1
