-- Turn entries of the outbox into messages: a status callback into one, a call event into one for each
-- enabled PhoneCallEvent of its type that a holder of the entry has, a test into one. The same step
-- removes the entry, so that no message is lost or doubled.
-- An entry with many PhoneCallEvents costs much, so organizations take turns: the step first moves
-- entries to a list for each organization that is charged for their calls, in their order. It keeps
-- the organizations that have such in a sorted set, by the time when the first of them came.
-- KEYS  1 the outbox
-- ARGV  1 what the keys of holders' PhoneCallEvents begin with  2 the same of messages
--       3 how many entries at most  4 how many messages of one app may wait
--       5 how many dead letters an app may have  6 how many bytes of them
--       7 after how many PhoneCallEvents the script begins no other entry: Redis does nothing else
--         while a script runs  8 with which of the organizations to begin
-- Returns how many entries were taken.
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[3])
local incoming = ARGV[2] .. 'incoming'
local looked_at, taken = 0, 0

local function list_of(organization)
  return ARGV[2] .. 'in:' .. organization
end

for _, entry in ipairs(entries) do
  local told = {arrived = entry[1]:match('^%d+')}
  for i = 1, #entry[2], 2 do told[entry[2][i]] = entry[2][i + 1] end
  -- An older Ringback names none.
  local organization = told.organization or ''
  if redis.call('RPUSH', list_of(organization), cjson.encode(told)) == 1 then
    redis.call('ZADD', incoming, seconds(told.arrived / 1000), organization)
  end
  redis.call('XDEL', KEYS[1], entry[1])
end

-- Add a message to its lane.
local function add(call, app, target, message)
  local lane = call .. '|' .. app .. '|' .. target
  local count = tonumber(redis.call('HGET', ARGV[2] .. 'counts', app_of(target)) or 0)
  if count >= tonumber(ARGV[4]) then
    bury(ARGV[2], ARGV[5], ARGV[6], target, lane, cjson.encode(message),
      'too many messages of app ' .. app_of(target) .. ' wait')
  else
    put(ARGV[2], target, lane, cjson.encode(message))
  end
end

local function route(told)
  local extension, kind, holders, test = told.extension, told.type, told['for'], told.test
  local owner = told.owner
  for _, name in ipairs({'extension', 'type', 'for', 'test', 'owner', 'organization', 'arrived'}) do
    told[name] = nil
  end
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
      -- An extension may have had another owner when the event was created, or has another one since
      -- the call was placed. An older Ringback names no owner.
      if holder == extension and (event.owner or '') ~= '' and (owner or '') ~= '' then
        wanted = wanted and event.owner == owner
      end
      if test then wanted = event.id == test end
      if wanted then
        add(told.CallID, event.app, event.target, {
          id = told.CallID .. '-' .. kind .. '-' .. extension .. '-' .. event.id,
          extension = extension, holder = holder, event = event.id, attempts = 0, parameters = told,
          owner = owner, test = test and true or nil,
        })
      end
    end
  end
end

local organizations = redis.call('ZRANGE', incoming, 0, 999)
local left, turn = #organizations, tonumber(ARGV[8])
while left > 0 and taken < tonumber(ARGV[3]) and looked_at < tonumber(ARGV[7]) do
  local place = turn % #organizations + 1
  local organization = organizations[place]
  turn = turn + 1
  if organization then
    local text = redis.call('LPOP', list_of(organization))
    if text then
      taken = taken + 1
      route(cjson.decode(text))
    end
    local first = redis.call('LINDEX', list_of(organization), 0)
    if first then
      redis.call('ZADD', incoming, seconds(cjson.decode(first).arrived / 1000), organization)
    else
      redis.call('ZREM', incoming, organization)
      organizations[place], left = false, left - 1
    end
  end
end
return taken
