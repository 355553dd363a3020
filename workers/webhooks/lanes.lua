-- Functions that the scripts on messages share.
-- A lane is a list with the messages of one call to one target, for one app, in their order. The
-- first message is sent first. Each target has a sorted set of its lanes by the time when their
-- first message is due. While a process sends that message, this is the end of its lease. The
-- targets are in a sorted set by the earliest of these times. A lane without messages is in no set.
-- Times are epoch seconds of this server's clock.
local function clock()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end

local function seconds(at)
  return string.format('%.6f', at)
end

-- Set a target's time to the time of its earliest lane.
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
