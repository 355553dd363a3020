-- Take lanes whose first message is due, each under a lease. A process that dies loses its leases.
-- KEYS  1 the targets
-- ARGV  1 what the keys of extensions' PhoneCallEvents begin with  2 the same of messages
--       3 the lease in seconds  4 how many lanes at most  5 how many of one target
--       6 how many messages the process is sending to each target, a JSON object
-- Returns {target, lane, lease, message, the PhoneCallEvent or ''} for each.
local room, most, in_hand = tonumber(ARGV[4]), tonumber(ARGV[5]), cjson.decode(ARGV[6])
local passed_over = 0
for _, count in pairs(in_hand) do
  if count >= most then passed_over = passed_over + 1 end
end
local now = clock()
local lease = seconds(now + ARGV[3])
local taken = {}
local targets = redis.call('ZRANGE', KEYS[1], '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0,
  room + passed_over)
for _, target in ipairs(targets) do
  local free = math.min(room, most - (in_hand[target] or 0))
  if free > 0 then
    local due = ARGV[2] .. 'due:' .. target
    local lanes = redis.call('ZRANGE', due, '-inf', seconds(now), 'BYSCORE', 'LIMIT', 0, free)
    for _, lane in ipairs(lanes) do
      local message = redis.call('LINDEX', ARGV[2] .. 'lane:' .. lane, 0)
      local of = cjson.decode(message)
      -- A status callback has its URL in the message.
      local event = of.event and redis.call('HGET', ARGV[1] .. of.extension, of.event) or ''
      redis.call('ZADD', due, lease, lane)
      taken[#taken + 1] = {target, lane, lease, message, event}
    end
    room = room - #lanes
    settle(KEYS[1], due, target)
  end
end
return taken
