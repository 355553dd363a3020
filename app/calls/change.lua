-- The one way in which a call's hash is written: compare the version, then apply.
-- (accept.lua and store.py say what calls this function.)
-- keys  1 the call's hash, then those that the commands name
-- argv  1 the version the change was made from and its stamp, 'version:stamp', '' for a new call
--       2 the commands, a JSON array of {name, number of its key, further words ...}
-- Returns 1, or the hash as it stands where another change came first.
local function change(keys, argv)
  local version, stamp = unpack(redis.call('HMGET', keys[1], 'version', 'stamp'))
  if (version and version .. ':' .. (stamp or '') or '') ~= argv[1] then
    -- Written again, unchanged: the first attempt may have made the change and lost its answer,
    -- and whoever waits for replicas waits for what his connection has written.
    if version then redis.call('HSET', keys[1], 'version', version) end
    return redis.call('HGETALL', keys[1])
  end
  for _, command in ipairs(cjson.decode(argv[2])) do
    redis.call(command[1], keys[command[2]], unpack(command, 3))
  end
  return 1
end
