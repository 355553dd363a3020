-- How a call's hash is written, but for the claim (pace.lua): compare the version, then apply.
-- (accept.lua and store.py say what calls this function.)
-- keys  1 the call's hash, then those that the commands name
-- argv  1 the version the change was made from and its stamp, 'version:stamp', '' for a new call
--       2 the commands, a JSON array of {name, number of its key, further words ...};
--         after HOOK, the next one only where the set holds the word
-- Returns 1, or the hash as it stands where another change came first.
local function change(keys, argv)
  local version, stamp = unpack(redis.call('HMGET', keys[1], 'version', 'stamp'))
  if (version and version .. ':' .. (stamp or '') or '') ~= argv[1] then
    -- Written again, unchanged: the first attempt may have made the change and lost its answer,
    -- and whoever waits for replicas waits for what his connection has written.
    if version then redis.call('HSET', keys[1], 'version', version) end
    return redis.call('HGETALL', keys[1])
  end
  local hooked = true
  for _, command in ipairs(cjson.decode(argv[2])) do
    local name, key = command[1], keys[command[2]]
    if name == 'HOOK' then
      hooked = redis.call('SISMEMBER', key, command[3]) == 1
    elseif hooked then
      redis.call(name, key, unpack(command, 3))
    else
      hooked = true
    end
  end
  return 1
end
