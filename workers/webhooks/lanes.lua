-- Functions that the scripts on messages share.
-- A lane is a list with the messages of one call to one target, for one app, in their order. The
-- first message is sent first. Each target has a sorted set of its lanes by the time when their
-- first message is due. While a process sends that message, this is the end of its lease. Each app
-- has a sorted set of its targets by the earliest of these times, and the apps are in a sorted set
-- by the earliest time of their targets. So an app with any number of targets is one entry there. A
-- lane without messages is in no set. A hash counts the messages of each app.
-- The dead letters of an app are a stream, and a hash has the bytes of each of these streams.
-- Times are epoch seconds of this server's clock.
local function clock()
  local now = redis.call('TIME')
  return now[1] + now[2] / 1000000
end

local function seconds(at)
  return string.format('%.6f', at)
end

local function app_of(target)
  return target:match('^(.*) ')
end

-- Set a member's time in a sorted set to the earliest time of another one; false if that is empty.
local function follow(set, member, of)
  local first = redis.call('ZRANGE', of, 0, 0, 'WITHSCORES')
  if first[2] then redis.call('ZADD', set, first[2], member)
  else redis.call('ZREM', set, member) end
  return first[2] ~= nil
end

-- Set the times of a target and of its app to the time of their earliest lane.
local function settle(prefix, target)
  local app = app_of(target)
  local targets = prefix .. 'targets:' .. app
  follow(targets, target, prefix .. 'due:' .. target)
  if not follow(prefix .. 'apps', app, targets) then
    -- No message is left, whatever an older version did not count.
    redis.call('HDEL', prefix .. 'counts', app)
  end
end

-- Add a message at the end of its lane.
local function put(prefix, target, lane, message)
  redis.call('HINCRBY', prefix .. 'counts', app_of(target), 1)
  if redis.call('RPUSH', prefix .. 'lane:' .. lane, message) == 1 then
    redis.call('ZADD', prefix .. 'due:' .. target, seconds(clock()), lane)
    settle(prefix, target)
  end
end

-- Remove an entry of the dead letters of an app. Its id and its fields are as XRANGE has them.
local function unbury(prefix, app, entry)
  local dead, bytes = prefix .. 'dead:' .. app, 0
  for _, word in ipairs(entry[2]) do bytes = bytes + #word end
  redis.call('XDEL', dead, entry[1])
  if redis.call('XLEN', dead) == 0 then
    redis.call('DEL', dead)
    redis.call('HDEL', prefix .. 'sizes', app)
  else
    redis.call('HINCRBY', prefix .. 'sizes', app, -bytes)
  end
end

-- Make a message a dead letter. While its app has more dead letters or bytes of them than it may
-- have, the oldest of its own go.
local function bury(prefix, most, most_bytes, target, lane, message, reason)
  local app = app_of(target)
  local dead, words = prefix .. 'dead:' .. app,
    {'target', target, 'lane', lane, 'message', message, 'reason', reason}
  -- The ids come from one stream, so that no two dead letters have the same.
  local id = redis.call('XADD', prefix .. 'ids', 'MAXLEN', 1, '*', 'of', app)
  redis.call('XADD', dead, id, unpack(words))
  local bytes = 0
  for _, word in ipairs(words) do bytes = bytes + #word end
  bytes = redis.call('HINCRBY', prefix .. 'sizes', app, bytes)
  while redis.call('XLEN', dead) > tonumber(most) or bytes > tonumber(most_bytes) do
    local first = redis.call('XRANGE', dead, '-', '+', 'COUNT', 1)[1]
    -- The newest stays, however long it is.
    if first[1] == id then break end
    unbury(prefix, app, first)
    bytes = tonumber(redis.call('HGET', prefix .. 'sizes', app))
  end
end
