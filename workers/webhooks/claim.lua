-- Take lanes whose first message is due, each under a lease. A process that dies loses its leases.
-- KEYS  1 the apps  2 the targets of an older version
-- ARGV  1 what the keys of holders' PhoneCallEvents begin with  2 the same of messages
--       3 the lease in seconds  4 how many lanes at most  5 how many of one target
--       6 how many messages the process is sending to each target, a JSON object
--       7 how many messages the process can send beyond these  8 one app may send one part of what
--         is free, of so many  9 the same as 6 for each app  10 with which of the apps to begin
-- Returns {target, lane, lease, message, the PhoneCallEvent or ''} for each.
local room, most, in_hand = tonumber(ARGV[4]), tonumber(ARGV[5]), cjson.decode(ARGV[6])
local free, part, of_app = tonumber(ARGV[7]), tonumber(ARGV[8]), cjson.decode(ARGV[9])
local now = clock()
local lease = seconds(now + ARGV[3])
local taken = {}

-- An older version has the targets of all apps in one set.
for _, target in ipairs(redis.call('ZRANGE', KEYS[2], 0, 999)) do
  settle(ARGV[2], target)
  redis.call('ZREM', KEYS[2], target)
end

-- The targets of each app that have as many as they may have.
local full = {}
local function count(target, more)
  local before = in_hand[target] or 0
  in_hand[target] = before + more
  if before < most and before + more >= most then
    local app = app_of(target)
    full[app] = (full[app] or 0) + 1
  end
end
for target, number in pairs(in_hand) do
  in_hand[target] = 0
  count(target, number)
end

local function take_of(target, number)
  local due = ARGV[2] .. 'due:' .. target
  local lanes = redis.call('ZRANGE', due, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, number)
  for _, lane in ipairs(lanes) do
    local message = redis.call('LINDEX', ARGV[2] .. 'lane:' .. lane, 0)
    local of = cjson.decode(message)
    -- A status callback has its URL in the message.
    local holder = of.holder or of.extension
    local event = of.event and redis.call('HGET', ARGV[1] .. holder, of.event) or ''
    redis.call('ZADD', due, lease, lane)
    taken[#taken + 1] = {target, lane, lease, message, event}
  end
  settle(ARGV[2], target)
  return #lanes
end

-- Take up to `wanted` messages of an app, and no more than its share leaves.
local function take(app, wanted)
  local share = math.max(1, math.floor(free / part)) - (of_app[app] or 0)
  wanted = math.min(wanted, room, free, share)
  if wanted < 1 then return end
  local targets = redis.call('ZRANGE', ARGV[2] .. 'targets:' .. app, '-inf', seconds(now), 'BYSCORE',
    'LIMIT', 0, wanted + (full[app] or 0))
  for _, target in ipairs(targets) do
    local number = math.min(wanted, most - (in_hand[target] or 0))
    if number > 0 then
      local found = take_of(target, number)
      count(target, found)
      wanted, room, free = wanted - found, room - found, free - found
      of_app[app] = (of_app[app] or 0) + found
    end
  end
end

local apps = redis.call('ZRANGE', KEYS[1], '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, 1000)
-- First the same number for each app, then what the others have left.
for _, wanted in ipairs({math.max(1, math.floor(room / math.max(1, #apps))), room}) do
  for i = 1, #apps do
    take(apps[(i + ARGV[10]) % #apps + 1], wanted)
  end
end
return taken
