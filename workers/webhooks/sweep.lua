-- Remove dead letters that are too old.
-- KEYS  1 the stream of an older version, with those of all apps
-- ARGV  1 what the keys of messages begin with  2 how many seconds a dead letter is kept
--       3 how many at most this step removes
-- Returns how many were removed.
local oldest = string.format('%d', math.max(0, (clock() - ARGV[2]) * 1000))
local before = redis.call('XLEN', KEYS[1])
redis.call('XTRIM', KEYS[1], 'MINID', oldest)
if before > 0 and redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1]) end
local removed = 0
for _, app in ipairs(redis.call('HKEYS', ARGV[1] .. 'sizes')) do
  local old = redis.call('XRANGE', ARGV[1] .. 'dead:' .. app, '-', '(' .. oldest, 'COUNT',
    ARGV[3] - removed)
  for _, entry in ipairs(old) do unbury(ARGV[1], app, entry) end
  removed = removed + #old
  if removed >= tonumber(ARGV[3]) then break end
end
return removed
