-- Change a call's hash if the version is the expected one. Claims alone go through pace.lua.
-- accept.lua and scripts.py call this function.
-- keys  1 the call's hash, then those that the commands name
-- argv  1 the version the change was made from and its stamp, 'version:stamp', '' for a new call
--       2 the commands, a JSON array of {name, number of its key, further words ...};
--         after HOOK, the next one runs only if the set has the word
-- Returns 1, or the present hash if another change came first.
local function change(keys, argv)
  local version, stamp = unpack(redis.call('HMGET', keys[1], 'version', 'stamp'))
  if (version and version .. ':' .. (stamp or '') or '') ~= argv[1] then
    -- Write the version again, unchanged. The first attempt may have made the change and lost the
    -- answer, and WAIT covers only the writes of its own connection.
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
