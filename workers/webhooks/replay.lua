-- Send a dead letter again, at the end of its lane, or drop it.
-- KEYS  1 the stream that has it
-- ARGV  1 the letter's id  2 what the keys of messages begin with  3 again, or drop
-- Returns 1, or 0 if there is no such letter.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return 0 end
local letter = {}
for i = 1, #found[2], 2 do letter[found[2][i]] = found[2][i + 1] end
if ARGV[3] == 'again' then
  local message = cjson.decode(letter.message)
  message.attempts = 0
  put(ARGV[2], letter.target, letter.lane, cjson.encode(message))
end
if KEYS[1] == ARGV[2] .. 'dead' then
  -- An older version has those of all apps in one stream.
  redis.call('XDEL', KEYS[1], ARGV[1])
else
  unbury(ARGV[2], app_of(letter.target), found)
end
return 1
