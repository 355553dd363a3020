-- Take new calls with their nonce and their jobs, all or none, and not after a moment: what waits
-- before a Redis that stands still is refused when it goes on, for its client was told so.
-- KEYS  1 the nonce's key, that of the limits for none: a Redis user may have no empty key
--       2 the limits   then those of change() for each call, in order
-- ARGV  1 the last moment, in microseconds of this server's clock
--       2 a nonce's value that no longer counts: its calls are not kept any more
--       3 the nonce's new value, the calls' ids
--       4 for each call how many keys it has and its argv, a JSON array of {n, argv}
--       5 the checks of caps (quota.lua), '' for none
--       6.. the commands that enqueue the jobs, each after the number of its words
-- Returns {'accepted' | 'late' | 'unlimited' | 'maintenance', the clock} or {'seen', the clock, the
-- nonce's value}; 'unlimited' where the limits are missing, 'maintenance' where an operator has switched
-- it on: nothing is accepted then. After 'accepted' come the
-- crossings of caps that are news. If a cap has no room: {'quota', the clock, the place of its check,
-- what is used, the microsecond at which there is room}.
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local clock = string.format('%.0f', now)
local nonce = KEYS[1] ~= KEYS[2] and redis.call('GET', KEYS[1])
if nonce and nonce ~= ARGV[2] then
  -- Write it again, so that a WAIT for replicas covers it.
  redis.call('SET', KEYS[1], nonce, 'KEEPTTL')
  return {'seen', clock, nonce}
end
local calls = cjson.decode(ARGV[4])
local first = 3
for _, call in ipairs(calls) do
  local version = redis.call('HGET', KEYS[first], 'version')
  if version then
    -- Sent a second time, because the answer to the first was lost.
    redis.call('HSET', KEYS[first], 'version', version)
    return {'accepted', clock}
  end
  first = first + call[1]
end
if now > tonumber(ARGV[1]) then return {'late', clock} end
if redis.call('HEXISTS', KEYS[2], 'mark') == 0 then return {'unlimited', clock} end
local prefix = string.sub(KEYS[2], 1, -1 - #'limits')
if redis.call('EXISTS', prefix .. 'maintenance') == 1 then return {'maintenance', clock} end
local full, news, free = take_quota(prefix, now, ARGV[5])
if full then return {'quota', clock, full, string.format('%.0f', news), string.format('%.0f', free)} end
first = 3
for _, call in ipairs(calls) do
  change({unpack(KEYS, first, first + call[1] - 1)}, call[2])
  first = first + call[1]
end
if KEYS[1] ~= KEYS[2] then redis.call('SET', KEYS[1], ARGV[3]) end
each_command(ARGV, 6, redis.call)
return {'accepted', clock, unpack(news)}
