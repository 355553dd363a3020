-- Turn entries of the outbox into messages: a status callback into one, a call event into one for each
-- enabled PhoneCallEvent of its type that a holder of the entry has, a test into one. The same step
-- removes the entry, so that no message is lost or doubled.
-- KEYS  1 the outbox  2 the targets  3 the dead letters
-- ARGV  1 what the keys of holders' PhoneCallEvents begin with  2 the same of messages
--       3 how many entries at most  4 how many lanes a target may have  5 how many dead letters
--       6 after how many PhoneCallEvents the script begins no other entry: Redis does nothing else
--         while a script runs
-- Returns how many entries were taken.
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[3])
local looked_at, taken = 0, 0

-- Add a message to its lane.
local function add(call, app, target, message)
  local lane = call .. '|' .. app .. '|' .. target
  local full = redis.call('ZCARD', ARGV[2] .. 'due:' .. target) >= tonumber(ARGV[4])
  if full and redis.call('EXISTS', ARGV[2] .. 'lane:' .. lane) == 0 then
    bury(KEYS[3], ARGV[5], target, lane, cjson.encode(message), 'too many calls wait for this target')
  else
    put(KEYS[2], ARGV[2], target, lane, cjson.encode(message))
  end
end

for _, entry in ipairs(entries) do
  if looked_at >= tonumber(ARGV[6]) then break end
  taken = taken + 1
  local told = {}
  for i = 1, #entry[2], 2 do told[entry[2][i]] = entry[2][i + 1] end
  local extension, kind, holders, test = told.extension, told.type, told['for'], told.test
  told.extension, told.type, told['for'], told.test = nil, nil, nil, nil
  if told.callback then
    local callback = cjson.decode(told.callback)
    looked_at = looked_at + 1
    add(told.CallID, callback.app, callback.target, {
      id = told.CallID .. '-' .. told.event, attempts = 0, callback = callback,
      status = {event = told.event, time = told.time, call = told.call},
    })
  end
  -- An older Ringback names no holders: the extension is the only one.
  for holder in (holders or extension or ''):gmatch('%S+') do
    for _, text in ipairs(redis.call('HVALS', ARGV[1] .. holder)) do
      local event = cjson.decode(text)
      looked_at = looked_at + 1
      local wanted = event.status == 1 and event.type == tonumber(kind)
      if test then wanted = event.id == test end
      if wanted then
        add(told.CallID, event.app, event.target, {
          id = told.CallID .. '-' .. kind .. '-' .. extension .. '-' .. event.id,
          extension = extension, holder = holder, event = event.id, attempts = 0, parameters = told,
          test = test and true or nil,
        })
      end
    end
  end
  redis.call('XDEL', KEYS[1], entry[1])
end
return taken
