-- Which of the calls that wait are dialled now, and claim them: one step, so that none is taken
-- twice nor taken and forgotten. Calls wait in a line for each organization, in the order in which
-- they were accepted; the organization that was given the least comes first.
-- keys  1 what each waiting call takes, a hash of JSON {user, legs, gateways}
--       2 the organizations that wait, by their turn: the legs they were given
--       3 the limits: 'organization:3' and the like, 'legs per second:most at a time', 0 for none
--       4 the pace: from which moment on each of them is given more, and how it goes
--       5 what this very request was answered before, if its answer was lost
--       6 the stream of all calls' changes          7 when to look at calls again
-- argv  1 what the keys of the lines begin with     2 those of what is live
--       3 those of the calls' hashes                4 those of the marks of switches that refuse
--       5 those of the switches' hashes             6 those of the calls of a switch
--       7 how many calls at most                    8 the switches, a JSON array of {name, run}
--       9 who claims them                           10 the claims' stamp
--       11 seconds after which to look at them      12 how many changes the stream keeps
--       13 the last moment at which anything is claimed, in microseconds of this server's clock:
--          who stood still for longer could not send it any more
-- new   the ids of calls that are new here
-- Returns the clock, how many microseconds later to ask again, -1 where no call waits; the ids of
-- calls that have waited too long; what is wrong with calls that cannot be claimed, 'id: why'; then
-- of each call that was claimed, in order, its hash.
local function pace(keys, argv, new)
local WAITING, TURNS, LIMITS, PACE, ANSWERED, EVENTS, DEADLINES = unpack(keys)
local lines, live, calls = argv[1], argv[2], argv[3]
-- A limit that was looked at this late (microseconds) still gives all that it owes; one that was
-- not asked for longer than IDLE owes nothing.
local SLACK, IDLE = 30000, 1000000
-- When to look again for what no moment is known of: a call that ends makes room.
local LOOK = 100000
-- Seconds for which an answer is kept that may have been lost.
local KEPT = 30
-- Of one call, which FreeSWITCH itself allows.
local MOST_LEGS = 128
-- What a switch without a limit can have at a time, where it is compared with others.
local UNLIMITED = 10000
-- How far into a line another's place is looked for when the first has to wait for its own limits.
local DEPTH, CHUNK = 500, 50

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local clock = string.format('%.0f', now)

local function hash(id) return calls .. '{' .. id .. '}' end

-- What is wrong with one call costs no other anything: nothing that a script has written is undone
-- when it fails, and who is claimed already has to be told.
local wrong = {}
local function try(id, work, ...)
  local ok, found = pcall(work, ...)
  if ok then return found end
  wrong[#wrong + 1] = id .. ': ' .. tostring(type(found) == 'table' and found.err or found)
end

local runs, names = {}, {}
for i, switch in ipairs(cjson.decode(argv[8])) do
  names[i] = switch[1]
  runs[switch[1]] = switch[2]
end
if now > tonumber(argv[13]) then names = {} end

-- What a call takes: a leg for each party, at its first gateway.
local function takes(call, user, legs)
  local found = {user = user, legs = {}, gateways = {}}
  for leg in string.gmatch(legs, '[^,]+') do
    if not string.find(leg, '.', 1, true) then
      local uuid, gateway, dial_string = unpack(redis.call('HMGET', call, 'leg:' .. leg .. ':uuid',
        'leg:' .. leg .. ':gateway', 'leg:' .. leg .. ':dial_string'))
      if not uuid then error('leg ' .. leg .. ' has no uuid') end
      gateway = gateway or string.match(dial_string or '', '^sofia/gateway/([^/]+)/.')
      table.insert(found.legs, uuid)
      if gateway then
        found.gateways[gateway] = found.gateways[gateway] or {}
        table.insert(found.gateways[gateway], uuid)
      end
    end
  end
  return found
end

local function put_in_line(id)
  local call = hash(id)
  local state, organization, accepted, user, legs, version, timeout, extension, app = unpack(
    redis.call('HMGET', call, 'state', 'organization', 'accepted', 'user', 'legs', 'version',
      'queue_timeout', 'extension', 'app'))
  -- It may have been cancelled, or come twice.
  if state == 'queued' and redis.call('HEXISTS', WAITING, id) == 0 then
    if not (organization and user and legs and extension and app and tonumber(accepted)
        and tonumber(version) and tonumber(timeout)) then
      error('a field is missing')
    end
    local taking = takes(call, user, legs)
    -- A worker of an earlier version may have allowed it, and died before the claim.
    redis.call('SREM', live .. 'organization:' .. organization, id)
    redis.call('SREM', live .. 'user:' .. user, id)
    redis.call('HSET', WAITING, id, cjson.encode(taking))
    redis.call('ZADD', lines .. organization, accepted, id)
    if not redis.call('ZSCORE', TURNS, organization) then
      redis.call('ZADD', TURNS, redis.call('HGET', PACE, 'turn') or 0, organization)
    end
  end
end
for _, id in ipairs(new) do try(id, put_in_line, id) end

local answered = redis.call('GET', ANSWERED)
if answered then
  local again = {clock, 0, {}, {}}
  for id in string.gmatch(answered, '[^,]+') do
    again[#again + 1] = redis.call('HGETALL', hash(id))
  end
  return again
end

local limits = {}
local function limit(name)
  if limits[name] == nil then
    local text = redis.call('HGET', LIMITS, name)
    local rate, most = string.match(text or '', '^([%d.]+):(%d+)$')
    limits[name] = {rate = tonumber(rate) or 0, most = tonumber(most) or 0}
    if limits[name].rate > 0 then
      local moment = tonumber(redis.call('HGET', PACE, name) or 0)
      -- Later than any call can have made it: the clock was stepped back, or the rate raised.
      if moment > now + MOST_LEGS * 1000000 / limits[name].rate then moment = now end
      limits[name].moment = moment
    end
  end
  return limits[name]
end

local again = LOOK
-- Whether it may be given that many places now.
local function allows(name, places)
  local of = limit(name)
  if of.full then return false end
  if of.rate > 0 and of.moment > now then
    again = math.min(again, of.moment - now)
    return false
  end
  if of.most > 0 then
    local taken = redis.call('SCARD', live .. name)
    -- What is more than all there is gets all there is. Who finds no room keeps what there is
    -- from those after him.
    of.full = taken > 0 and taken + places > of.most
    return not of.full
  end
  return true
end

-- Taken back when the call ends, whatever becomes of it until then.
local function take(name, legs, members)
  if #members > 0 then redis.call('SADD', live .. name, unpack(members)) end
  local of = limit(name)
  if of.rate > 0 then
    local owed = of.moment > now - IDLE and SLACK or 0
    of.moment = math.max(of.moment, now - owed) + legs * 1000000 / of.rate
    redis.call('HSET', PACE, name, string.format('%.0f', of.moment))
  end
end

local switches, refusing = {}, {}
for _, name in ipairs(names) do
  -- Paused by an operator: no new call, whoever else is left.
  if redis.call('HEXISTS', argv[5] .. name, 'paused') == 0 then
    local list = redis.call('EXISTS', argv[4] .. name) == 1 and refusing or switches
    list[#list + 1] = name
  end
end
if #switches == 0 then switches = refusing end

-- The switch that has the most room.
local function choose(legs)
  local best, least
  for _, name in ipairs(switches) do
    if allows('switch:' .. name, legs) then
      local most = limit('switch:' .. name).most
      local load = redis.call('SCARD', live .. 'switch:' .. name)
      load = load / (most > 0 and most or UNLIMITED)
      if not best or load < least then best, least = name, load end
    end
  end
  return best
end

local function leave(organization, id)
  redis.call('HDEL', WAITING, id)
  redis.call('ZREM', lines .. organization, id)
end

-- What a call in line takes, unless it has left, is too late or has to wait for its own limits.
local late = {}
local function ready(organization, id, taking)
  local state, accepted, timeout = unpack(redis.call(
    'HMGET', hash(id), 'state', 'accepted', 'queue_timeout'))
  if not taking or state ~= 'queued' then
    leave(organization, id)
  elseif now / 1000000 >= accepted + timeout then
    -- Nobody expects them to ring any more.
    leave(organization, id)
    late[#late + 1] = id
  else
    local call = cjson.decode(taking)
    local may = allows('user:' .. call.user, 1)
    for name, uuids in pairs(call.gateways) do
      may = may and allows('gateway:' .. name, #uuids)
    end
    return may and call
  end
end

-- The first call of a line that its own limits allow.
local function first(organization)
  if not allows('organization:' .. organization, 1) then return end
  local line = lines .. organization
  for from = 0, DEPTH - 1, CHUNK do
    local ids = redis.call('ZRANGE', line, from, from + CHUNK - 1)
    if #ids == 0 then return end
    for i, taking in ipairs(redis.call('HMGET', WAITING, unpack(ids))) do
      local before = #wrong
      local call = try(ids[i], ready, organization, ids[i], taking)
      if #wrong > before then leave(organization, ids[i]) end
      if call then return ids[i], call end
    end
  end
end

local waiting = redis.call('ZRANGE', TURNS, 0, -1, 'WITHSCORES')
-- The next comes last, from where it is taken.
local turns = {}
for i = #waiting - 1, 1, -2 do
  turns[#turns + 1] = {organization = waiting[i], turn = tonumber(waiting[i + 1])}
end

-- As transitions.claim, and the store writes it.
local claimed, ids = {}, {}
local function claim(organization, id, taking, switch)
  take('switch:' .. switch, #taking.legs, taking.legs)
  take('organization:' .. organization, #taking.legs, {id})
  take('user:' .. taking.user, #taking.legs, {id})
  for name, uuids in pairs(taking.gateways) do take('gateway:' .. name, #uuids, uuids) end
  leave(organization, id)
  local key = hash(id)
  local flat, call = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do call[flat[i]] = flat[i + 1] end
  local at, version = string.format('%.6f', now / 1000000), string.format('%d', call.version + 1)
  local changed = {state = 'dialing', version = version, stamp = argv[10], worker = argv[9],
    switch = switch, core_uuid = runs[switch], claimed = at}
  local fields = {}
  for name, value in pairs(changed) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  redis.call('XADD', key .. ':timeline', '*', 'at', at, 'kind', 'command', 'name', 'claim',
    'data', argv[9] .. ' on ' .. switch)
  redis.call('XADD', key .. ':timeline', '*', 'at', at, 'kind', 'change', 'name', 'dialing')
  -- From here on nothing of its own can be wrong.
  redis.call('HSET', key, unpack(fields))
  redis.call('XADD', EVENTS, 'MAXLEN', '~', argv[12], '*', 'call', id, 'version', version, 'at', at,
    'state', 'dialing', 'user', call.user, 'organization', call.organization,
    'extension', call.extension, 'app', call.app, 'changed', cjson.encode(changed))
  redis.call('ZADD', DEADLINES, string.format('%.6f', now / 1000000 + argv[11]), id)
  redis.call('ZADD', argv[6] .. switch, call.accepted, id)
  -- What comes later in it counts.
  for _, word in ipairs(fields) do flat[#flat + 1] = word end
  claimed[#claimed + 1] = flat
  ids[#ids + 1] = id
end

local turn = tonumber(redis.call('HGET', PACE, 'turn') or 0)
while #turns > 0 and #claimed < tonumber(argv[7]) do
  local of = table.remove(turns)
  local id, call = first(of.organization)
  local switch = id and choose(#call.legs)
  -- Nobody passes the one whose turn it is.
  if id and not switch then break end
  if id then
    -- Who had to wait for his own limits is not given what the others got meanwhile.
    turn = math.max(turn, of.turn)
    of.turn = turn + #call.legs
    try(id, claim, of.organization, id, call, switch)
  end
  if redis.call('EXISTS', lines .. of.organization) == 0 then
    redis.call('ZREM', TURNS, of.organization)
  elseif id then
    redis.call('ZADD', TURNS, of.turn, of.organization)
    local place = #turns + 1
    while place > 1 and turns[place - 1].turn <= of.turn do place = place - 1 end
    table.insert(turns, place, of)
  end
end
redis.call('HSET', PACE, 'turn', turn)

if #claimed > 0 then
  -- The seconds that one call takes, of the last ten or so.
  local last, seconds = unpack(redis.call('HMGET', PACE, 'last', 'seconds'))
  local since = math.max(0, math.min((now - (last or now)) / 1000000, 60)) / #claimed
  redis.call('HSET', PACE, 'last', clock, 'seconds', 0.9 * (seconds or since) + 0.1 * since)
end
-- Also that nothing was claimed: a copy of the request may still come.
redis.call('SET', ANSWERED, table.concat(ids, ','), 'EX', KEPT)
if redis.call('EXISTS', TURNS) == 0 then again = -1 end
return {clock, math.ceil(again), late, wrong, unpack(claimed)}
end
