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
-- Returns how many microseconds later to ask again, -1 where no call waits; then of each call that
-- may be dialled, in order, the switch and its hash.
local lines, live, calls, reserved = ARGV[1], ARGV[2], ARGV[3], ARGV[8]
-- A limit that was looked at this late (microseconds) still gives all that it owes.
local SLACK = 30000
-- When to look again for what no moment is known of: a call that ends makes room.
local LOOK = 100000
-- A place on a switch or a gateway is kept so long for a call that may be dialled; from its claim
-- on it is the call's.
local RESERVED = 10000000
-- Of one call, which FreeSWITCH itself allows.
local MOST_LEGS = 128
-- How far into a line another's place is looked for when the first has to wait for its own limits.
local DEPTH = 20

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
  return cjson.encode(found)
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

for _, id in ipairs(cjson.decode(ARGV[7])) do
  local call = calls .. '{' .. id .. '}'
  local state, organization, accepted, user, legs = unpack(redis.call(
    'HMGET', call, 'state', 'organization', 'accepted', 'user', 'legs'))
  -- It may have been cancelled, or come twice.
  if state == 'queued' and redis.call('HEXISTS', KEYS[1], id) == 0 then
    redis.call('HSET', KEYS[1], id, takes(call, user, legs or ''))
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
-- Whether it may be given that many now, of legs and of places.
local function allows(name, places)
  local of = limit(name)
  if of.rate > 0 and of.moment > now then
    again = math.min(again, of.moment - now)
    return false
  end
  if of.most > 0 then
    redis.call('ZREMRANGEBYSCORE', reserved .. name, '-inf', now)
    local taken = redis.call('SCARD', live .. name) + redis.call('ZCARD', reserved .. name)
    -- What is more than all there is gets all there is.
    return taken == 0 or taken + places <= of.most
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
    of.moment = math.max(of.moment, now - SLACK) + legs * 1000000 / of.rate
    redis.call('HSET', KEYS[4], name, string.format('%.0f', of.moment))
  end
end

local switches, refusing = {}, {}
for _, name in ipairs(cjson.decode(ARGV[6])) do
  local list = redis.call('EXISTS', ARGV[4] .. name) == 1 and refusing or switches
  list[#list + 1] = name
end
if #switches == 0 then switches = refusing end

-- The switch that has the most room.
local function choose(legs)
  local best, least
  for _, name in ipairs(switches) do
    if allows('switch:' .. name, legs) then
      local load = redis.call('SCARD', live .. 'switch:' .. name)
      local most = limit('switch:' .. name).most
      if most > 0 then load = load / most end
      if not best or load < least then best, least = name, load end
    end
  end
  return best
end

-- The first call of a line that its own limits allow.
local function first(organization)
  if not allows('organization:' .. organization, 1) then return end
  for _, id in ipairs(redis.call('ZRANGE', lines .. organization, 0, DEPTH)) do
    local call = cjson.decode(redis.call('HGET', KEYS[1], id))
    local may = allows('user:' .. call.user, 1)
    for name, uuids in pairs(call.gateways) do
      may = may and allows('gateway:' .. name, #uuids)
    end
    if may then return id, call end
  end
end

local waiting = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
local turns = {}
for i = 1, #waiting, 2 do
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
  allowed[#allowed + 1] = {switch, redis.call('HGETALL', calls .. '{' .. id .. '}')}
end

while #turns > 0 and #allowed < tonumber(ARGV[5]) do
  local next = 1
  for i = 2, #turns do
    if turns[i].turn < turns[next].turn then next = i end
  end
  local of = turns[next]
  local id, call = first(of.organization)
  local switch = id and choose(#call.legs)
  if switch then
    redis.call('HSET', KEYS[4], 'turn', of.turn)
    allow(of.organization, id, call, switch)
    of.turn = of.turn + #call.legs
    if redis.call('EXISTS', lines .. of.organization) == 1 then
      redis.call('ZADD', KEYS[2], of.turn, of.organization)
    else
      redis.call('ZREM', KEYS[2], of.organization)
      table.remove(turns, next)
    end
  else
    if redis.call('EXISTS', lines .. of.organization) == 0 then
      -- Its last call was cancelled.
      redis.call('ZREM', KEYS[2], of.organization)
    end
    table.remove(turns, next)
  end
end

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
