-- Takes records out of Redis that the database of records has, unless they have changed since.
--
-- KEYS  1 the index of all records; then for each record its own key, the index of its organization and that of its user
-- ARGV  1 seconds for which readers may still want the records; then for each record its id and the SHA-1 of its JSON
--
-- Returns how many records are gone from the indexes.
local gone = 0
for number = 1, (#KEYS - 1) / 3 do
  local record = KEYS[3 * number - 1]
  local text = redis.call('GET', record)
  if not text or redis.sha1hex(text) == ARGV[2 * number + 1] then
    local id = ARGV[2 * number]
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[3 * number], id)
    redis.call('ZREM', KEYS[3 * number + 1], id)
    if text then
      redis.call('EXPIRE', record, ARGV[1])
    end
    gone = gone + 1
  end
end
return gone
