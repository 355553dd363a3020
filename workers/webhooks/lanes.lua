-- What the scripts on messages share.
-- A lane is a list with the messages of one call to one target, for one app, in their order; the
-- first is the one that is sent. Each target has a sorted set of its lanes by the time when their
-- first message is due, which for one that is being sent is when its lease ends; and the targets
-- are in a sorted set by the earliest of these. A lane without messages is in none of them.
-- Times are epoch seconds of this server's clock.
local function clock()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end

local function seconds(at)
  return string.format('%.6f', at)
end

-- Keep the target where its earliest lane says.
local function settle(targets, due, target)
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', targets, first[2], target)
  else redis.call('ZREM', targets, target) end
end

-- Add a message at the end of its lane.
local function put(targets, prefix, target, lane, message)
  local due = prefix .. 'due:' .. target
  if redis.call('RPUSH', prefix .. 'lane:' .. lane, message) == 1 then
    redis.call('ZADD', due, seconds(clock()), lane)
    settle(targets, due, target)
  end
end

local function bury(dead, most, target, lane, message, reason)
  redis.call('XADD', dead, 'MAXLEN', most, '*', 'target', target, 'lane', lane,
    'message', message, 'reason', reason)
end
