-- Change a call's hash if the version is the expected one. A claim is the same commands, stored with
-- the waiting call (pace.lua).

-- Carries out one command. Four are not of Redis:
--   HOOK   a condition: the next command runs only if the set has one of the words
--   ENTER  puts a waiting call in line, or again if it has changed: its id, the time of its acceptance
--          (epoch seconds), its lane, its claim
--   LEAVE  takes a call out of line: its id
--   ROOM   a limit may have room: its name
-- Returns whether the next command runs.
local function carry_out(name, key, ...)
  if name == 'HOOK' then
    for _, word in ipairs({...}) do
      if redis.call('SISMEMBER', key, word) == 1 then return true end
    end
    return false
  end
  if name == 'ENTER' then
    lines(key).enter(...)
  elseif name == 'LEAVE' then
    lines(key).leave(...)
  elseif name == 'ROOM' then
    lines(key).room(...)
  else
    redis.call(name, key, ...)
  end
  return true
end

-- Carries out commands in order. read(command) returns the key and the further words of one.
local function carry_out_all(commands, read)
  local wanted = true
  for _, command in ipairs(commands) do
    if wanted then
      wanted = carry_out(command[1], read(command))
    else
      wanted = true
    end
  end
end

-- accept.lua and scripts.py call this function.
-- keys  1 the call's hash, then those that the commands name
-- argv  1 the version the change was made from and its stamp, 'version:stamp', '' for a new call
--       2 the commands, a JSON array of {name, number of its key, further words ...}
-- Returns 1, or the present hash if another change came first.
local function change(keys, argv)
  local version, stamp = unpack(redis.call('HMGET', keys[1], 'version', 'stamp'))
  if (version and version .. ':' .. (stamp or '') or '') ~= argv[1] then
    -- Write the version again, unchanged. The first attempt may have made the change and lost the
    -- answer, and WAIT covers only the writes of its own connection.
    if version then redis.call('HSET', keys[1], 'version', version) end
    return redis.call('HGETALL', keys[1])
  end
  carry_out_all(cjson.decode(argv[2]), function(command)
    return keys[command[2]], unpack(command, 3)
  end)
  return 1
end
