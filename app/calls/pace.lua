-- Which of the calls that wait may be dialled now. Calls wait in a line for each organization, in
-- the order in which they were accepted; the organization that was given the least comes first.
-- KEYS  1 what each waiting call takes, a hash of JSON {user, legs, gateways}
--       2 the organizations that wait, by their turn: the legs they were given
--       3 the limits: 'organization:3' and the like, 'legs per second:most at a time', 0 for none
--       4 the pace: from which moment on each of them is given more, and how it goes
-- ARGV  1 what the keys of the lines begin with     2 those of what is live
--       3 those of the calls' hashes                4 those of the marks of switches that refuse
--       5 how many calls at most                    6 the switches, a JSON array of names
--       7 the ids of calls that are new here, a JSON array
--       8 what the keys of reserved places begin with
--       9 what the keys of the switches' hashes begin with
-- Returns how many microseconds later to ask again, -1 where no call waits; then of each call that
-- may be dialled, in order, the switch and its hash.
local lines, live, calls, reserved = ARGV[1], ARGV[2], ARGV[3], ARGV[8]
-- A limit that was looked at this late (microseconds) still gives all that it owes; one that was
-- not asked for longer than IDLE owes nothing.
local SLACK, IDLE = 30000, 1000000
-- When to look again for what no moment is known of: a call that ends makes room.
local LOOK = 100000
-- A place on a switch or a gateway is kept so long for a call that may be dialled; from its claim
-- on it is the call's.
local RESERVED = 10000000
-- Of one call, which FreeSWITCH itself allows.
local MOST_LEGS = 128
-- What a switch without a limit can have at a time, where it is compared with others.
local UNLIMITED = 10000
-- How far into a line another's place is looked for when the first has to wait for its own limits.
local DEPTH, CHUNK = 500, 50

local function hash(id) return calls .. '{' .. id .. '}' end
local names = cjson.decode(ARGV[6])

-- What a call takes: a leg for each party, at its first gateway.
local function takes(call, user, legs)
  local found = {user = user, legs = {}, gateways = {}}
  for leg in string.gmatch(legs, '[^,]+') do
    if not string.find(leg, '.', 1, true) then
      local uuid, gateway, dial_string = unpack(redis.call('HMGET', call, 'leg:' .. leg .. ':uuid',
        'leg:' .. leg .. ':gateway', 'leg:' .. leg .. ':dial_string'))
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

-- It may have been allowed before, and whoever was told so did not claim it.
local function give_back(id, organization, taking)
  if redis.call('SREM', live .. 'organization:' .. organization, id) == 0 then return end
  redis.call('SREM', live .. 'user:' .. taking.user, id)
  for name, uuids in pairs(taking.gateways) do
    redis.call('ZREM', reserved .. 'gateway:' .. name, unpack(uuids))
  end
  for _, name in ipairs(names) do
    if #taking.legs > 0 then redis.call('ZREM', reserved .. 'switch:' .. name, unpack(taking.legs)) end
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

for _, id in ipairs(cjson.decode(ARGV[7])) do
  local call = hash(id)
  local state, organization, accepted, user, legs = unpack(redis.call(
    'HMGET', call, 'state', 'organization', 'accepted', 'user', 'legs'))
  -- It may have been cancelled, or come twice.
  if state == 'queued' and redis.call('HEXISTS', KEYS[1], id) == 0 then
    local taking = takes(call, user, legs or '')
    give_back(id, organization, taking)
    redis.call('HSET', KEYS[1], id, cjson.encode(taking))
    redis.call('ZADD', lines .. organization, accepted, id)
    if not redis.call('ZSCORE', KEYS[2], organization) then
      redis.call('ZADD', KEYS[2], redis.call('HGET', KEYS[4], 'turn') or 0, organization)
    end
  end
end

local limits = {}
local function limit(name)
  if limits[name] == nil then
    local text = redis.call('HGET', KEYS[3], name)
    local rate, most = string.match(text or '', '^([%d.]+):(%d+)$')
    limits[name] = {rate = tonumber(rate) or 0, most = tonumber(most) or 0}
    if limits[name].rate > 0 then
      local moment = tonumber(redis.call('HGET', KEYS[4], name) or 0)
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
    redis.call('ZREMRANGEBYSCORE', reserved .. name, '-inf', now)
    redis.call('ZREMRANGEBYSCORE', reserved .. name,
      string.format('(%.0f', now + RESERVED), '+inf')
    local taken = redis.call('SCARD', live .. name) + redis.call('ZCARD', reserved .. name)
    -- What is more than all there is gets all there is. Who finds no room keeps what there is
    -- from those after him.
    of.full = taken > 0 and taken + places > of.most
    return not of.full
  end
  return true
end

local function take(name, legs, uuids)
  local of = limit(name)
  if of.most > 0 then
    for _, uuid in ipairs(uuids or {}) do
      redis.call('ZADD', reserved .. name, now + RESERVED, uuid)
    end
  end
  if of.rate > 0 then
    local owed = of.moment > now - IDLE and SLACK or 0
    of.moment = math.max(of.moment, now - owed) + legs * 1000000 / of.rate
    redis.call('HSET', KEYS[4], name, string.format('%.0f', of.moment))
  end
end

local switches, refusing = {}, {}
for _, name in ipairs(names) do
  -- Paused by an operator: no new call, whoever else is left.
  if redis.call('HEXISTS', ARGV[9] .. name, 'paused') == 0 then
    local list = redis.call('EXISTS', ARGV[4] .. name) == 1 and refusing or switches
    list[#list + 1] = name
  end
end
if #switches == 0 then switches = refusing end

-- The switch that has the most room.
local given = {}
local function choose(legs)
  local best, least
  for _, name in ipairs(switches) do
    if allows('switch:' .. name, legs) then
      local most = limit('switch:' .. name).most
      local load = redis.call('SCARD', live .. 'switch:' .. name) + (given[name] or 0)
      load = load / (most > 0 and most or UNLIMITED)
      if not best or load < least then best, least = name, load end
    end
  end
  return best
end

-- The first call of a line that its own limits allow.
local function first(organization)
  if not allows('organization:' .. organization, 1) then return end
  local line = lines .. organization
  for from = 0, DEPTH - 1, CHUNK do
    local ids = redis.call('ZRANGE', line, from, from + CHUNK - 1)
    if #ids == 0 then return end
    for i, taking in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do
      if not taking or redis.call('HGET', hash(ids[i]), 'state') ~= 'queued' then
        -- Somebody who was allowed it before has claimed it after all.
        redis.call('HDEL', KEYS[1], ids[i])
        redis.call('ZREM', line, ids[i])
      else
        local call = cjson.decode(taking)
        local may = allows('user:' .. call.user, 1)
        for name, uuids in pairs(call.gateways) do
          may = may and allows('gateway:' .. name, #uuids)
        end
        if may then return ids[i], call end
      end
    end
  end
end

local waiting = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
-- The next comes last, from where it is taken.
local turns = {}
for i = #waiting - 1, 1, -2 do
  turns[#turns + 1] = {organization = waiting[i], turn = tonumber(waiting[i + 1])}
end

local allowed = {}
local function allow(organization, id, call, switch)
  take('switch:' .. switch, #call.legs, call.legs)
  take('organization:' .. organization, #call.legs)
  for name, uuids in pairs(call.gateways) do take('gateway:' .. name, #uuids, uuids) end
  -- Taken back when the call ends, whatever becomes of it until then.
  redis.call('SADD', live .. 'organization:' .. organization, id)
  redis.call('SADD', live .. 'user:' .. call.user, id)
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', lines .. organization, id)
  allowed[#allowed + 1] = {switch, redis.call('HGETALL', hash(id))}
end

local turn = tonumber(redis.call('HGET', KEYS[4], 'turn') or 0)
while #turns > 0 and #allowed < tonumber(ARGV[5]) do
  local of = table.remove(turns)
  local id, call = first(of.organization)
  local switch = id and choose(#call.legs)
  -- Nobody passes the one whose turn it is.
  if id and not switch then break end
  if id then
    -- Who had to wait for his own limits is not given what the others got meanwhile.
    turn = math.max(turn, of.turn)
    of.turn = turn + #call.legs
    given[switch] = (given[switch] or 0) + #call.legs
    allow(of.organization, id, call, switch)
  end
  if redis.call('EXISTS', lines .. of.organization) == 0 then
    redis.call('ZREM', KEYS[2], of.organization)
  elseif id then
    redis.call('ZADD', KEYS[2], of.turn, of.organization)
    local place = #turns + 1
    while place > 1 and turns[place - 1].turn <= of.turn do place = place - 1 end
    table.insert(turns, place, of)
  end
end
redis.call('HSET', KEYS[4], 'turn', turn)

if #allowed > 0 then
  -- The seconds that one call takes, of the last ten or so.
  local last, seconds = unpack(redis.call('HMGET', KEYS[4], 'last', 'seconds'))
  local since = math.max(0, math.min((now - (last or now)) / 1000000, 60)) / #allowed
  redis.call('HSET', KEYS[4], 'last', string.format('%.0f', now),
    'seconds', 0.9 * (seconds or since) + 0.1 * since)
end
if redis.call('EXISTS', KEYS[2]) == 0 then again = -1 end
table.insert(allowed, 1, math.ceil(again))
return allowed
