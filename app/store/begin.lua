-- Begin an action that brings legs into a call: take what they need from limits and caps, and write
-- them into the call; all or nothing.
-- KEYS  1 the lanes of the waiting calls (lines.lua)   then those of change()
-- ARGV  1 what is taken from limits, a JSON array of {limit, places, legs}
--       2 the checks of caps (quota.lua), '' for none
--       3.. the argv of change()
-- Returns {'done', crossings ...}; {'changed', the hash} if another change came first; {'wait', the
-- limit, its kind, what it has, what is taken, after how many microseconds to come again}; or
-- {'quota', the place of its check, what is used, the microsecond at which there is room}.
local prefix = string.sub(KEYS[1], 1, -1 - #'waiting')
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local keys, argv = {unpack(KEYS, 2)}, {ARGV[3], ARGV[4]}
local version, stamp = unpack(redis.call('HMGET', keys[1], 'version', 'stamp'))
if not version or version .. ':' .. (stamp or '') ~= argv[1] then
  return {'changed', change(keys, argv)}
end
local full, news, free = take_quota(prefix, now, ARGV[2], true)
if full then return {'quota', full, string.format('%.0f', news), string.format('%.0f', free)} end
local room = rooms(prefix, now, lines(KEYS[1]))
local name, kind, most, taken, wait = room.take_for_action(cjson.decode(ARGV[1]))
if name then
  return {'wait', name, kind, tostring(most), tostring(taken), string.format('%.0f', wait)}
end
local _, crossings = take_quota(prefix, now, ARGV[2])
change(keys, argv)
return {'done', unpack(crossings)}
