-- Find the queued calls that the watchdog has to end or to put in line. It checks each waiting call once
-- after its acceptance, then when the call has waited too long.
-- KEYS  1 when each queued call is looked at next (epoch seconds)   2 the claims of waiting calls
-- ARGV  1 seconds that the calls returned are left to the caller   2 how many calls at most
-- Returns how many were due, and the ids of those that have waited too long or stand in no line.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.6f', now), 'LIMIT', 0, ARGV[2])
local found = {}
for _, id in ipairs(due) do
  local claim = redis.call('HGET', KEYS[2], id)
  local till = claim and tonumber(string.match(claim, '^%[([^,]+),'))
  if not till or till <= now then
    found[#found + 1] = id
    till = now + ARGV[1]
  end
  redis.call('ZADD', KEYS[1], string.format('%.6f', till), id)
end
return {#due, found}
