-- Takes from token buckets what a process has served since it came last, and says what they hold.
-- KEYS  the buckets, strings: 'level at', the tokens at a second of this server's clock
-- ARGV  for each bucket: tokens a second, the most tokens, the tokens that were taken
-- Returns the level of each bucket, below 0 for one that owes. None owes more than it holds when it is
-- full, so that it is never closed for long.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local levels = {}
for i, key in ipairs(KEYS) do
  local rate, size, taken =
    tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local level, at = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  level = level and math.min(size, level + math.max(0, now - at) * rate) or size
  level = math.max(level - taken, -size)
  -- A bucket that is full needs no key.
  local until_full = math.ceil((size - level) / rate * 1000)
  if until_full > 0 then
    redis.call('SET', key, string.format('%.3f %.6f', level, now), 'PX', until_full)
  else
    redis.call('DEL', key)
  end
  levels[i] = string.format('%.3f', level)
end
return levels
