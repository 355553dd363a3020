-- Send a dead letter again, at the end of its lane.
-- KEYS  1 the dead letters  2 the targets
-- ARGV  1 the letter's id  2 what the keys of messages begin with
-- Returns 1, or 0 if there is no such letter.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return 0 end
local letter = {}
for i = 1, #found[2], 2 do letter[found[2][i]] = found[2][i + 1] end
local message = cjson.decode(letter.message)
message.attempts = 0
put(KEYS[2], ARGV[2], letter.target, letter.lane, cjson.encode(message))
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
