-- Write a change of the limits of calls, and with it a change of the accounts, in one step, so that
-- none of the two is there alone.
-- KEYS  1 the limits   2 the limits that may have room   3 the format number, and to change the
--       accounts: 4 the accounts
--       5 the history of the accounts   6 the imported files
-- ARGV  1 '1' to write only where the limits are missing   2 the mark: a word that no other had
--       3 the format   4 what changes in the limits, a JSON object of texts, '' to remove one
--       then, to change the accounts:
--       5 the state of their rows that the change is made of, '' where Redis has none
--       6 their new fields, a JSON object of texts   7 the entry of the history, '' for none
--       8 the most entries that the history keeps   9 the digest of the imported file, '' for none
-- Returns 1 if it wrote, 0 if the limits are there, -1 if the accounts are in another state.
local LIMITS, ROOM, FORMAT, ACCOUNTS, HISTORY, FILES = unpack(KEYS)
if ARGV[1] == '1' and redis.call('HEXISTS', LIMITS, 'mark') == 1 then return 0 end
if ARGV[5] and (redis.call('HGET', ACCOUNTS, 'rows') or '') ~= ARGV[5] then return -1 end
for name, text in pairs(cjson.decode(ARGV[4])) do
  if text == '' then
    redis.call('HDEL', LIMITS, name)
  else
    redis.call('HSET', LIMITS, name, text)
  end
  -- What is held there may have room now. Nothing is held at a cap (caps:HOLDER).
  if string.sub(name, 1, 5) ~= 'caps:' then redis.call('SADD', ROOM, name) end
end
redis.call('HSET', LIMITS, 'mark', ARGV[2])
if ARGV[5] then
  for name, text in pairs(cjson.decode(ARGV[6])) do redis.call('HSET', ACCOUNTS, name, text) end
  -- A version before this one kept all accounts there.
  redis.call('HDEL', ACCOUNTS, 'document', 'next')
  redis.call('HSET', ACCOUNTS, 'version', ARGV[2])
  if ARGV[7] ~= '' then
    redis.call('LPUSH', HISTORY, ARGV[7])
    redis.call('LTRIM', HISTORY, 0, ARGV[8] - 1)
  end
  if ARGV[9] ~= '' then redis.call('HSET', FILES, ARGV[9], ARGV[2]) end
end
redis.call('SET', FORMAT, ARGV[3], 'NX')
return 1
