-- Take lanes whose first message is due, each under a lease. A process that dies loses its leases.
-- KEYS  1 the targets
-- ARGV  1 what the keys of holders' PhoneCallEvents begin with  2 the same of messages
--       3 the lease in seconds  4 how many lanes at most  5 how many of one target
--       6 how many messages the process is sending to each target, a JSON object
--       7 how many of one app  8 how many messages the process is sending for each app, a JSON object
-- Returns {target, lane, lease, message, the PhoneCallEvent or ''} for each.
local room, most, in_hand = tonumber(ARGV[4]), tonumber(ARGV[5]), cjson.decode(ARGV[6])
local most_of_app, of_app = tonumber(ARGV[7]), cjson.decode(ARGV[8])
local passed_over = 0
for _, count in pairs(in_hand) do
  if count >= most then passed_over = passed_over + 1 end
end
local now = clock()
local lease = seconds(now + ARGV[3])
local taken = {}
local targets = redis.call('ZRANGE', KEYS[1], '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0,
  room + passed_over + 1000)
for _, target in ipairs(targets) do
  local app = target:match('^(.*) ')
  local of_this = most_of_app - (of_app[app] or 0)
  local free = math.min(room, most - (in_hand[target] or 0), of_this)
  if room > 0 and of_this <= 0 then
    -- An app may call any number of hosts. Those beyond its share leave the front of the list.
    redis.call('ZADD', KEYS[1], seconds(now + 1), target)
  elseif free > 0 then
    local due = ARGV[2] .. 'due:' .. target
    local lanes = redis.call('ZRANGE', due, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, free)
    for _, lane in ipairs(lanes) do
      local message = redis.call('LINDEX', ARGV[2] .. 'lane:' .. lane, 0)
      local of = cjson.decode(message)
      -- A status callback has its URL in the message.
      local holder = of.holder or of.extension
      local event = of.event and redis.call('HGET', ARGV[1] .. holder, of.event) or ''
      redis.call('ZADD', due, lease, lane)
      taken[#taken + 1] = {target, lane, lease, message, event}
    end
    room = room - #lanes
    of_app[app] = (of_app[app] or 0) + #lanes
    settle(KEYS[1], due, target)
  end
end
return taken
