-- Find the waiting calls that may be dialled now, and claim them. This is one step, so that no call is
-- claimed twice, or claimed and forgotten. The organization with the lowest turn comes first. The cost
-- of a look grows with what it claims and with the limits that changed, not with what waits
-- (docs/internals/lines.md).
-- KEYS  1 the lanes of the waiting calls (lines.lua)
--       2 the limits: 'organization:3' and the like, 'legs per second:most at a time', 0 for none
--       3 the pace: from which moment on each limit gives more legs, the last turn, the time a call
--         takes
--       4 the answer to this request, if the request came before and its answer was lost
--       5 the mark that suspends RQ's workers
-- ARGV  1 the prefix of the sets that limits count    2 the prefix of calls' hashes
--       3 the hash of what is ejected (ejection.lua)   4 the prefix of switches' hashes
--       5 the most calls to claim    6 the switches, a JSON array of {name, run}
--       7 the name of the worker     8 the claims' stamp
--       9 the last moment at which anything is claimed, in microseconds of this server's clock:
--         a worker that stood still for longer could not send the call any more
-- Returns the clock; after how many microseconds to ask again, -1 if no call waits; the ids of calls
-- that have waited too long, or whose home takes no calls; an 'id: why' for each call that cannot be claimed; then the hash of each
-- claimed call, in order.
local WAITING, LIMITS, PACE, ANSWERED, SUSPENDED = unpack(KEYS)
local live, calls = ARGV[1], ARGV[2]
local prefix = string.sub(WAITING, 1, -1 - #'waiting')
local TURNS, READY, ROOM = prefix .. 'turns', prefix .. 'ready', prefix .. 'room'
local WAKES, LOOKS = prefix .. 'wakes', prefix .. 'looks'
-- When to look again if no moment is known: a call that ends makes room.
local LOOK = 100000
-- Less than SLACK, so that a rate is kept, and enough that many workers do not look all the time.
local SOONEST = 20000
-- A limit at which something is held is checked after this time, though nothing said that it has room.
-- Each look checks so many of them.
local RECHECK, RECHECKED = 3000000, 2
-- The most steps of one look. A step claims or takes out one call, or moves one lane or organization.
local STEPS = 64
-- Seconds for which an answer is kept, because it may be lost.
local KEPT = 30
-- Seconds for which it is known that a home takes no calls, once no call asks any more, and the
-- microseconds after which to look again at a home that takes none. Of the lanes that wait for a home
-- some are made ready at a time.
local AWAY, AWAY_LOOK, AT_HOME = 10, 500000, 16
-- Seconds for which a switch that is tried after its ejection gets no second call.
local TRIAL = 5
-- The legs that a switch without a limit counts as able to carry, when it is compared with others.
local UNLIMITED = 10000
-- Seconds after which the word of a leader is so old that a leader of the version before, which says
-- nothing, must have the lease if somebody has it.
local SILENT = 10
-- Seconds for which a call counts as being set up at most, and microseconds after which to look again
-- while the window of a switch is full.
local SETUP, FULL = 30, 50000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local clock = string.format('%.0f', now)
local queue = lines(WAITING)

local function hash(id) return calls .. '{' .. id .. '}' end

-- An answer that claimed nothing is remembered too: a late copy of the request must not claim what
-- nobody dials.
local answered = redis.call('GET', ANSWERED)
if answered then
  local again = {clock, 0, {}, {}}
  for id in string.gmatch(answered, '[^,]+') do
    again[#again + 1] = redis.call('HGETALL', hash(id))
  end
  return again
end

-- A bad call does not affect the others. A script that fails undoes nothing that it has written, and the
-- worker has to be told of the calls that are claimed already.
local wrong = {}
local function try(id, work, ...)
  local ok, found = pcall(work, ...)
  if ok then return found end
  wrong[#wrong + 1] = id .. ': ' .. tostring(type(found) == 'table' and found.err or found)
end

local steps = STEPS
local function step()
  steps = steps - 1
  return steps > 0
end

local room = rooms(prefix, now, queue)
local limit, allows, take, wake_later = room.limit, room.allows, room.take, room.wake_later

local switches, runs = {}, {}
-- What the leader of each switch says of it (app/store/steering.py).
local steers = {}
-- Nothing is claimed while RQ's workers are suspended or Ringback is in maintenance.
local may_claim = now <= tonumber(ARGV[9])
  and redis.call('EXISTS', SUSPENDED, prefix .. 'maintenance') == 0
local given = may_claim and cjson.decode(ARGV[6]) or {}
local function read_limits(names)
  if #names == 0 then return end
  for place, text in ipairs(redis.call('HMGET', LIMITS, unpack(names))) do
    room.texts[names[place]] = text
  end
end
local first_limits = {'mark'}
for place, switch in ipairs(given) do first_limits[place + 1] = 'switch:' .. switch[1] end
read_limits(first_limits)
-- A Redis that came back empty has no limits until their writers have seen it.
may_claim = may_claim and room.texts.mark and true

-- What the leaders of switches say, by name; false of a switch that nobody leads.
local words = {}
local function hear(name, text)
  local fine, of = pcall(cjson.decode, text)
  if not fine or type(of) ~= 'table' then of = {} end
  local left = (tonumber(of['until']) or 0) - now / 1000000
  if left < -SILENT and redis.call('EXISTS', ARGV[4] .. name .. ':lease') == 1 then
    of, left = {}, 1
  end
  words[name] = left > 0 and of
  return words[name]
end

-- What the leader of a switch says of it; false if nobody leads it.
local function word_of(name)
  if words[name] == nil then hear(name, redis.call('HGET', prefix .. 'steer', name)) end
  return words[name]
end

-- Reads what the leaders say. A switch that nobody leads, or that its leader closes, gets no call.
local function open_switches()
  local names, open = {}, {}
  for place, switch in ipairs(given) do names[place] = switch[1] end
  if #names == 0 then return open end
  for place, text in ipairs(redis.call('HMGET', prefix .. 'steer', unpack(names))) do
    local steer = hear(names[place], text)
    if steer and (steer.closed or '') == '' then
      steers[names[place]] = {
        weight = math.max(tonumber(steer.weight) or 100, 0.001),
        room = tonumber(steer.room),
        window = tonumber(steer.window),
      }
      open[#open + 1] = given[place]
    end
  end
  return open
end

for _, switch in ipairs(may_claim and open_switches() or {}) do
  local name, run = unpack(switch)
  -- A switch that an operator has paused gets no new call, and neither does a switch whose limit no
  -- listener has set yet.
  if room.texts['switch:' .. name] and redis.call('HEXISTS', ARGV[4] .. name, 'paused') == 0 then
    switches[#switches + 1] = name
    runs[name] = run
  end
end

-- What is ejected, by 'SWITCH' and 'SWITCH GATEWAY'.
local ejected = {}
local flat = #switches > 0 and redis.call('HGETALL', ARGV[3]) or {}
for place = 1, #flat, 2 do
  local ok, entry = pcall(cjson.decode, flat[place + 1])
  if ok and type(entry) == 'table' then ejected[flat[place]] = entry end
end

-- What of a switch a call needs: the switch itself, the gateways, '*' for legs through none.
local function needs(name, legs, takes)
  local found = {name}
  for _, each in ipairs(takes) do
    local gateway = string.match(each[1], '^gateway:(.*)$')
    if gateway then
      found[#found + 1] = name .. ' ' .. gateway
      legs = legs - each[3]
    end
  end
  if legs > 0 then found[#found + 1] = name .. ' *' end
  return found
end

-- Whether a switch gets no call with these legs now. While it is tried, it gets one call at a time.
local function is_ejected(name, legs, takes)
  for _, field in ipairs(needs(name, legs, takes)) do
    local entry = ejected[field]
    if entry then
      local tried = entry.probing or now / 1000000 >= (tonumber(entry['until']) or 0)
      if not tried or (tonumber(entry.trial) or 0) > now / 1000000 then return true end
    end
  end
  return false
end

-- Notes that a switch which is tried has a call now.
local function try_out(name, legs, takes)
  for _, field in ipairs(needs(name, legs, takes)) do
    local entry = ejected[field]
    if entry then
      entry.trial = now / 1000000 + TRIAL
      redis.call('HSET', ARGV[3], field, cjson.encode(entry))
    end
  end
end

-- The home that a limit of this name stands for (app/calls/homes.py), with the switch that has its
-- room; nil for any other limit.
local function home_of(name)
  if string.sub(name, 1, 5) ~= 'home:' then return end
  local home = cjson.decode(string.sub(name, 6))
  if home.room then
    -- All calls in a room are on one switch.
    local at = redis.call('HRANDFIELD', prefix .. 'conference:' .. home.room, 1, 'WITHVALUES')[2]
    if at then home = {switch = at, strict = true, wait = home.wait} end
  end
  return home
end

-- Whether a switch is this home.
local function fits(name, home)
  if home.switch then return home.switch == name end
  local of = word_of(name)
  local has = {}
  for _, tag in ipairs(of and of.tags or {}) do has[tag] = true end
  for _, tag in ipairs(home.tags or {}) do
    if not has[tag] then return false end
  end
  return true
end

-- The switches that may get a call, with a home those that are it. Where all of them are ejected, all
-- may: a call that waits for one gains nothing. `refused_by` is the switch that has refused the call.
local function candidates(legs, takes, refused_by, home)
  local found, all = {}, {}
  for _, name in ipairs(switches) do
    if name ~= refused_by and (not home or fits(name, home)) then
      all[#all + 1] = name
      if not is_ejected(name, legs, takes) then found[#found + 1] = name end
    end
  end
  return #found > 0 and found or all, #found > 0
end

local again = LOOK
-- The legs that Ringback has on a switch. They are counted once in a look.
local function legs_on(name)
  local steer = steers[name]
  steer.legs = steer.legs or redis.call('SCARD', live .. 'switch:' .. name)
  return steer.legs
end

-- Whether a switch has a place for another call that is being set up.
local function has_window(name)
  local steer = steers[name]
  if not steer.window then return true end
  if not steer.setups then
    steer.setups = redis.call(
      'ZCOUNT', prefix .. 'setup:' .. name, string.format('(%.0f', now - SETUP * 1000000), '+inf')
  end
  if steer.setups < steer.window then return true end
  again = math.min(again, FULL)
  return false
end

-- Whether so many legs fit beside the sessions of other programs. A call that is larger than the room
-- gets all of it.
local function has_place(name, legs)
  local most = steers[name].room
  return not most or (most > 0 and legs_on(name) == 0) or legs_on(name) + legs <= most
end

-- The part of a switch that is taken, by its weight.
local function load_of(name)
  local most = limit('switch:' .. name).most
  if most == 0 then most = UNLIMITED end
  most = math.max(math.min(most, steers[name].room or most), 1)
  return (legs_on(name) + 1) / (steers[name].weight * most)
end

-- The switch that has the most room, and whether one has room within a second.
local function choose(legs, among)
  local best, least
  local soon = false
  for _, name in ipairs(among) do
    local of = limit('switch:' .. name)
    if not allows('switch:' .. name, legs) then
      if of.rate > 0 and of.moment > now then
        again = math.min(again, of.moment - now)
        soon = soon or of.moment - now < 1000000
      end
    elseif has_place(name, legs) then
      if has_window(name) then
        local load = #among > 1 and load_of(name) or 0
        if not best or load < least then best, least = name, load end
      else
        soon = true
      end
    end
  end
  return best, soon
end

-- Notes that a switch sets a call up. Its leader takes the call out again.
local function begin_setup(name, id, legs)
  local steer = steers[name]
  if steer.legs then steer.legs = steer.legs + legs end
  if not steer.window then return end
  local key = prefix .. 'setup:' .. name
  redis.call('ZADD', key, clock, id)
  redis.call('EXPIRE', key, SETUP)
  if steer.setups then steer.setups = steer.setups + 1 end
end

-- Whether any switch that is this home takes calls, of whichever worker.
local function is_open(home)
  for _, name in ipairs(home.switch and {home.switch} or redis.call('HKEYS', prefix .. 'steer')) do
    local of = fits(name, home) and word_of(name)
    if of and (of.closed or '') == '' and redis.call('HEXISTS', ARGV[4] .. name, 'paused') == 0 then
      return true
    end
  end
  return false
end

-- The switch that takes a call with a home, and whether one has room within a second. Without a switch:
-- whether the call is not to wait any longer, and when to look again.
local function choose_at_home(legs, takes, refused_by)
  local name = takes[#takes][1]
  local home = home_of(name)
  local at_home, is_fine = candidates(legs, takes, refused_by, home)
  local before = again
  again = LOOK
  local switch, soon = choose(legs, at_home)
  local later = now + again
  again = math.min(before, again)
  if not home.strict and not (switch and is_fine) then
    local other, other_soon = choose(legs, candidates(legs, takes, refused_by))
    switch, soon = other or switch, soon or other_soon
  end
  if switch or #at_home > 0 or is_open(home) then return switch, soon, false, later end
  local key = prefix .. 'away:' .. name
  redis.call('SET', key, clock, 'EX', AWAY, 'NX')
  local since = redis.call('GET', key)
  redis.call('EXPIRE', key, AWAY)
  return nil, false, now - since >= home.wait * 1000000, now + AWAY_LOOK
end

-- Makes lanes ready that wait for a home, some at a time: which of them finds room is not known yet.
local function wake_home(name)
  local soon
  for _ = 1, AT_HOME do
    local organization, _, lane = queue.first_held(name, step)
    if not organization then return end
    local _, legs, takes = queue.parts(lane)
    local switch, _, is_over, later = choose_at_home(legs, takes)
    if not switch and not is_over then
      soon = later
      break
    end
    queue.release(organization, lane, name)
    if not step() then break end
  end
  if redis.call('EXISTS', prefix .. 'held:' .. name) == 1 then
    redis.call('ZADD', WAKES, string.format('%.0f', soon or now + SOONEST), name)
  end
end

-- Makes lanes ready that are held at a limit, by turn, as many as its room takes.
local function wake(name)
  if string.sub(name, 1, 5) == 'home:' then return wake_home(name) end
  local own = string.match(name, '^organization:(.*)$')
  if own then
    step()
    if not queue.is_held(own) then return end
    if allows(name, 1) then queue.release_organization(own) else wake_later(name) end
    return
  end
  local promised = 0
  while step() do
    local organization, _, lane = queue.first_held(name, step)
    if not organization then return end
    local _, _, takes = queue.parts(lane)
    local places = 0
    for _, each in ipairs(takes) do
      if each[1] == name then places = each[2] end
    end
    if not allows(name, places, promised) then
      wake_later(name)
      return
    end
    promised = promised + places
    queue.release(organization, lane, name)
    -- After one call the next has its own moment.
    if limit(name).rate > 0 then return end
  end
  queue.room(name)
end

-- The limit that holds a lane: one that is full, or at which others come first.
local function holds(organization, turn, lane, takes)
  local first
  for place = 2, #takes do
    local name, places = unpack(takes[place])
    if not allows(name, places) then
      wake_later(name)
      return name
    end
    local other, others_turn, _, accepted = queue.first_held(name, step)
    if other then
      first = first or tonumber(
        redis.call('ZSCORE', prefix .. 'ready:' .. organization, lane))
      local earlier = others_turn < turn or (others_turn == turn and other < organization)
      if other == organization then earlier = accepted < first end
      if earlier then return name end
    end
  end
end

-- A word of a claim, with what is known now in place of the marks (app/store/marks.py).
local function word(of, marks)
  if type(of) ~= 'table' then return of end
  if of.is then return marks[of.is] end
  if of.after then return string.format('%.6f', now / 1000000 + of.after) end
  local words = {}
  for name, each in pairs(of.join or of.json) do words[name] = word(each, marks) end
  return of.join and table.concat(words) or cjson.encode(words)
end

local claimed, ids = {}, {}
local function claim(id, commands, legs, takes, switch)
  local key = hash(id)
  local marks = {worker = ARGV[7], switch = switch, run = runs[switch], stamp = ARGV[8]}
  carry_out_all(commands, function(command)
    local words = {}
    for place = 2, #command do words[place - 1] = word(command[place], marks) end
    return unpack(words)
  end)
  take('switch:' .. switch, legs)
  begin_setup(switch, id, legs)
  for _, each in ipairs(takes) do take(each[1], each[3]) end
  claimed[#claimed + 1] = redis.call('HGETALL', key)
  ids[#ids + 1] = id
end

-- Claims the first call of a lane. Returns false if no switch takes it now, and others have to wait.
local late = {}
local turn, last, seconds = unpack(redis.call('HMGET', PACE, 'turn', 'last', 'seconds'))
turn = tonumber(turn or 0)
local function serve(id, organization, own_turn, legs, takes, lane)
  local till, fits_hash, commands, where = unpack(cjson.decode(redis.call('HGET', prefix .. 'claims', id)))
  local state, version, stamp = unpack(redis.call('HMGET', hash(id), 'state', 'version', 'stamp'))
  local waits = state == 'queued' or state == 'dialing'
  if not waits or version .. ':' .. (stamp or '') ~= fits_hash then
    -- The hash counts, not the entry in line. The watchdog puts a call in line again that is queued.
    queue.leave(id)
    return true
  end
  local refused_by = where and where['not']
  local has_home = string.sub(takes[#takes][1], 1, 5) == 'home:'
  local switch, soon, is_over, later
  if has_home then
    switch, soon, is_over, later = choose_at_home(legs, takes, refused_by)
  else
    switch, soon = choose(legs, candidates(legs, takes, refused_by))
  end
  if now / 1000000 >= till or is_over or (refused_by and not switch and not soon) then
    -- The client does not expect it to ring any more; or its home takes no calls; or a switch has refused
    -- the call, and no other has room. It must not hold up the calls behind it.
    queue.leave(id)
    late[#late + 1] = id
    return true
  end
  if not switch and has_home then
    -- Others need not wait for its home.
    queue.hold(organization, lane, takes[#takes][1], takes, clock)
    redis.call('ZADD', WAKES, string.format('%.0f', later), takes[#takes][1])
    return true
  end
  if not switch then return false end
  claim(id, commands, legs, takes, switch)
  try_out(switch, legs, takes)
  -- An organization that its own limits held is not given what others got meanwhile.
  turn = math.max(turn, own_turn)
  if queue.others_wait then
    local next_turn = string.format('%.0f', turn + legs)
    redis.call('ZADD', TURNS, 'XX', next_turn, organization)
    redis.call('ZADD', READY, 'XX', next_turn, organization)
  end
  return true
end

-- Looks at the organization whose turn it is. Returns whether to go on: not if none is ready, and not if
-- no switch takes the call whose turn it is, because no other call passes it.
local function look()
  local organization, score = unpack(redis.call('ZRANGE', READY, 0, 0, 'WITHSCORES'))
  if not organization then return false end
  local own_turn = queue.turn(organization)
  if tonumber(own_turn) ~= tonumber(score) then
    redis.call('ZADD', READY, own_turn, organization)
    return true
  end
  own_turn = tonumber(own_turn)
  local lane = redis.call('ZRANGE', prefix .. 'ready:' .. organization, 0, 0)[1]
  local _, legs, takes = queue.parts(lane)
  local names = {}
  for _, each in ipairs(takes) do
    if not room.is_known(each[1]) then names[#names + 1] = each[1] end
  end
  read_limits(names)
  if not allows(takes[1][1], takes[1][2]) then
    queue.hold_organization(organization, clock)
    wake_later(takes[1][1])
    return true
  end
  local held_at = holds(organization, own_turn, lane, takes)
  if held_at then
    queue.hold(organization, lane, held_at, takes, clock)
    return true
  end
  local id = redis.call('ZRANGE', prefix .. 'lane:' .. lane, 0, 0)[1]
  local before = #wrong
  local found = try(id, serve, id, organization, own_turn, legs, takes, lane)
  if #wrong > before then
    queue.leave(id)
    return true
  end
  return found
end

local function look_at_limits()
  while steps > 0 and queue.holds_some() do
    local name = redis.call('SPOP', ROOM)
    if not name then return end
    wake(name)
  end
end

local function find_room()
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', WAKES, '-inf', clock, 'LIMIT', 0, STEPS)) do
    redis.call('ZREM', WAKES, name)
    redis.call('SADD', ROOM, name)
  end
  -- If a wake was lost, it costs seconds.
  local unseen = string.format('%.0f', now - RECHECK)
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', LOOKS, '-inf', unseen, 'LIMIT', 0, RECHECKED)) do
    redis.call('ZADD', LOOKS, clock, name)
    redis.call('SADD', ROOM, name)
  end
end
if queue.holds_some() then find_room() end
while may_claim and steps > 0 and #claimed < tonumber(ARGV[5]) do
  look_at_limits()
  if not look() then break end
  step()
end
if #claimed > 0 then
  -- The seconds that one call takes, of the last ten or so.
  local since = math.max(0, math.min((now - (last or now)) / 1000000, 60)) / #claimed
  redis.call('HSET', PACE, 'turn', string.format('%.0f', turn), 'last', clock,
    'seconds', 0.9 * (seconds or since) + 0.1 * since)
end
redis.call('SET', ANSWERED, table.concat(ids, ','), 'EX', KEPT)
local first_wake = queue.holds_some() and redis.call('ZRANGE', WAKES, 0, 0, 'WITHSCORES')[2]
if first_wake then again = math.min(again, first_wake - now) end
again = math.max(again, SOONEST)
if steps <= 0 or #claimed >= tonumber(ARGV[5]) then again = 0 end
if redis.call('EXISTS', TURNS) == 0 then again = -1 end
return {clock, math.ceil(again), late, wrong, unpack(claimed)}
