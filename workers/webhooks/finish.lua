-- Record the result of an attempt at a lane's first message, unless its lease ended and another
-- process took the lane.
-- KEYS  1 the target's lanes  2 the lane
-- ARGV  1 the target  2 the lane's name  3 the lease
--       4 done: remove the message; later: retry it; dead: make it a dead letter
--       5 the new text of the message  6 later: in how many seconds  7 dead: why
--       8 what the keys of messages begin with
--       9 how many dead letters an app may have  10 how many bytes of them
-- Returns 1, or 0 if the process lost the lease.
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or 0) ~= tonumber(ARGV[3]) then return 0 end
local now = clock()
if ARGV[4] == 'later' then
  redis.call('LSET', KEYS[2], 0, ARGV[5])
  redis.call('ZADD', KEYS[1], seconds(now + ARGV[6]), ARGV[2])
else
  if ARGV[4] == 'dead' then
    bury(ARGV[8], ARGV[9], ARGV[10], ARGV[1], ARGV[2], ARGV[5], ARGV[7])
  end
  redis.call('LPOP', KEYS[2])
  redis.call('HINCRBY', ARGV[8] .. 'counts', app_of(ARGV[1]), -1)
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('ZADD', KEYS[1], seconds(now), ARGV[2])
  else redis.call('ZREM', KEYS[1], ARGV[2]) end
end
settle(ARGV[8], ARGV[1])
return 1
