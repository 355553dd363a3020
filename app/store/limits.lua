-- Write the accounts with the limits of calls in one step, so that none of the two is there alone.
-- KEYS  1 the accounts   2 the limits   3 the limits that may have room   4 the format number
-- ARGV  1 '1' to write only where the limits are missing   2 the mark: a word that no other had
--       3 the accounts' document, '' to leave them   4 whether they are the demo's   5 the format
--       6 the limits but for those of switches, a JSON object of texts
-- Returns whether it wrote.
local ACCOUNTS, LIMITS, ROOM, FORMAT = unpack(KEYS)
if ARGV[1] == '1' and redis.call('HEXISTS', LIMITS, 'mark') == 1 then return 0 end
local given, changed = cjson.decode(ARGV[6]), {}
local known = redis.call('HGETALL', LIMITS)
for place = 1, #known, 2 do
  local name, text = known[place], known[place + 1]
  if given[name] == text then
    given[name] = nil
  elseif name ~= 'mark' and not given[name] and string.sub(name, 1, 7) ~= 'switch:' then
    redis.call('HDEL', LIMITS, name)
    changed[#changed + 1] = name
  end
end
for name, text in pairs(given) do
  redis.call('HSET', LIMITS, name, text)
  changed[#changed + 1] = name
end
-- What is held there may have room now. Nothing is held at a cap (caps:HOLDER).
for _, name in ipairs(changed) do
  if string.sub(name, 1, 5) ~= 'caps:' then redis.call('SADD', ROOM, name) end
end
redis.call('HSET', LIMITS, 'mark', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', ACCOUNTS, 'document', ARGV[3], 'demo', ARGV[4], 'version', ARGV[2])
end
redis.call('SET', FORMAT, ARGV[5], 'NX')
return 1
