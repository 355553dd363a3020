-- The one way in which a call's hash is written: compare the version, then apply.
-- KEYS  1 the call's hash, 2 its timeline, 3 the stream of every call's changes,
--       4 the deadlines, 5.. ARGV[6] indexes of live calls, then keys kept as long as the call
-- ARGV  1 the version the change was made from, '0' for a new call
--       2 the call's id           3 its time of acceptance, its place in the indexes
--       4 its deadline, '' once it has ended     5 seconds to keep it once it has ended
--       6 how many indexes        7 the changed hash fields, a JSON array of name, value, ...
--       8 timeline entries, a JSON array of such arrays
--       9 the event for the stream, such an array, or ''       10 entries kept in the stream
-- Returns 1, or the hash as it stands where another change came first.
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then
  return redis.call('HGETALL', KEYS[1])
end
redis.call('HSET', KEYS[1], unpack(cjson.decode(ARGV[7])))
for _, entry in ipairs(cjson.decode(ARGV[8])) do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', unpack(entry))
end
if ARGV[9] ~= '' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], '*', unpack(cjson.decode(ARGV[9])))
end
local live = ARGV[4] ~= ''
if live then
  redis.call('ZADD', KEYS[4], ARGV[4], ARGV[2])
else
  redis.call('ZREM', KEYS[4], ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
  redis.call('EXPIRE', KEYS[2], ARGV[5])
end
for i = 5, #KEYS do
  if i > 4 + ARGV[6] then
    -- A nonce may stand for several calls: a day more, the longest that another may last.
    if not live then redis.call('EXPIRE', KEYS[i], ARGV[5] + 90000) end
  elseif live then
    redis.call('ZADD', KEYS[i], ARGV[3], ARGV[2])
  else
    redis.call('ZREM', KEYS[i], ARGV[2])
  end
end
return 1
