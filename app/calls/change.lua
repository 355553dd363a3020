-- The one way in which a call's hash is written: compare the version, then apply.
-- (accept.lua and store.py say what calls this function.)
-- keys  1 the call's hash, 2 its timeline, 3 the stream of every call's changes,
--       4 the deadlines, 5.. argv[6] indexes of live calls, then keys kept as long as the call
-- argv  1 the version the change was made from and its stamp, 'version:stamp', '' for a new call
--       2 the call's id           3 its time of acceptance, its place in the indexes
--       4 its deadline, '' once it has ended     5 seconds to keep it once it has ended
--       6 how many indexes        7 the changed hash fields, a JSON array of name, value, ...
--       8 timeline entries, a JSON array of such arrays
--       9 the event for the stream, such an array, or ''       10 entries kept in the stream
-- Returns 1, or the hash as it stands where another change came first.
local function change(keys, argv)
  local version, stamp = unpack(redis.call('HMGET', keys[1], 'version', 'stamp'))
  if (version and version .. ':' .. (stamp or '') or '') ~= argv[1] then
    -- Written again, unchanged: the first attempt may have made the change and lost its answer,
    -- and whoever waits for replicas waits for what his connection has written.
    if version then redis.call('HSET', keys[1], 'version', version) end
    return redis.call('HGETALL', keys[1])
  end
  redis.call('HSET', keys[1], unpack(cjson.decode(argv[7])))
  for _, entry in ipairs(cjson.decode(argv[8])) do
    redis.call('XADD', keys[2], 'MAXLEN', '~', 1000, '*', unpack(entry))
  end
  if argv[9] ~= '' then
    redis.call('XADD', keys[3], 'MAXLEN', '~', argv[10], '*', unpack(cjson.decode(argv[9])))
  end
  local live = argv[4] ~= ''
  if live then
    redis.call('ZADD', keys[4], argv[4], argv[2])
  else
    redis.call('ZREM', keys[4], argv[2])
    redis.call('EXPIRE', keys[1], argv[5])
    redis.call('EXPIRE', keys[2], argv[5])
  end
  for i = 5, #keys do
    if i > 4 + argv[6] then
      -- A nonce may stand for several calls: a day more, the longest that another may last.
      if not live then redis.call('EXPIRE', keys[i], argv[5] + 90000) end
    elseif live then
      redis.call('ZADD', keys[i], argv[3], argv[2])
    else
      redis.call('ZREM', keys[i], argv[2])
    end
  end
  return 1
end
