-- The lines of waiting calls (docs/internals/lines.md). The calls of one organization that take the same
-- of the same limits wait in one lane, in the order of their acceptance. A lane is ready, or it is held
-- at one limit: the first one that was found full.
-- All keys begin with the prefix of `waiting`:
--   waiting            the lane of each waiting call, a hash
--   claims             the claim of each, a hash: a JSON array of until when it waits, the version
--                      that it fits, its commands, and {not: SWITCH} if that has refused the call
--   waiting:ORG        the waiting calls of an organization, by acceptance
--   turns              the organizations that have waiting calls, by turn: the legs they were given
--   lane:LANE          the calls of a lane, by acceptance
--   ready:ORG          the lanes of an organization that are ready, by their first call
--   ready              the organizations that have such and are not held, by turn
--   lanes              where each lane that is held is held, a hash of limits
--   held:LIMIT         the organizations that have lanes held there, by turn. An organization that
--                      is held at its own limit stands in held:organization:ORG alone
--   held:ORG LIMIT     these lanes, by their first call
--   out:ORG            limits where an organization that is itself held has lanes held
--   room               limits that may have room for what is held there
--   wakes              limits of what is dialled per second, by when they have room (microseconds)
--   looks              limits where something is held, by when they were looked at last
-- LANE is a JSON array of the organization, the legs that are dialled, and the limits, each an array
-- of its name, how much it takes of what is live at a time, and its legs.
local made
local function lines(waiting)
  if made then return made end
  local prefix = string.sub(waiting, 1, -1 - #'waiting')
  local claims, turns, ready = prefix .. 'claims', prefix .. 'turns', prefix .. 'ready'
  local lanes, room, wakes, looks = prefix .. 'lanes', prefix .. 'room', prefix .. 'wakes', prefix .. 'looks'
  local own = {}

  local function lane_key(lane) return prefix .. 'lane:' .. lane end
  local function ready_key(organization) return prefix .. 'ready:' .. organization end
  local function held_key(limit) return prefix .. 'held:' .. limit end
  local function lanes_key(organization, limit)
    return prefix .. 'held:' .. organization .. ' ' .. limit
  end
  local function own_limit(organization) return 'organization:' .. organization end

  -- The parts of a lane's name.
  local parsed = {}
  function own.parts(lane)
    parsed[lane] = parsed[lane] or cjson.decode(lane)
    return unpack(parsed[lane])
  end

  -- Whether anything is held anywhere. Most calls find nothing held, and no look at it is needed then.
  local holding
  function own.holds_some()
    if holding == nil then holding = redis.call('EXISTS', looks) == 1 end
    return holding
  end

  -- Whether an organization is held at its own limit.
  function own.is_held(organization)
    return own.holds_some() and redis.call('EXISTS', held_key(own_limit(organization))) == 1
  end

  function own.turn(organization) return redis.call('ZSCORE', turns, organization) or '0' end

  -- A limit may have room: the next look checks what is held there.
  function own.room(limit)
    if own.holds_some() and redis.call('EXISTS', held_key(limit)) == 1 then
      redis.call('SADD', room, limit)
    end
  end

  local function all_may_have_room(limits)
    for _, limit in ipairs(limits) do own.room(limit[1]) end
  end

  local function first_score(key)
    return redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  end

  -- Makes a lane ready; `first` is when its first call was accepted.
  local function make_ready(organization, lane, first)
    redis.call('ZADD', ready_key(organization), first, lane)
    if not own.is_held(organization) then
      redis.call('ZADD', ready, own.turn(organization), organization)
    end
  end

  local function take_from_ready(organization, lane)
    local key = ready_key(organization)
    redis.call('ZREM', key, lane)
    if redis.call('EXISTS', key) == 0 then redis.call('ZREM', ready, organization) end
  end

  local function forget_limit(limit)
    if redis.call('EXISTS', held_key(limit)) == 0 then
      redis.call('ZREM', looks, limit)
      redis.call('ZREM', wakes, limit)
      redis.call('SREM', room, limit)
    end
  end

  local function take_from_held(organization, lane, limit)
    local key = lanes_key(organization, limit)
    redis.call('HDEL', lanes, lane)
    redis.call('ZREM', key, lane)
    if redis.call('EXISTS', key) == 0 then
      redis.call('ZREM', held_key(limit), organization)
      redis.call('SREM', prefix .. 'out:' .. organization, limit)
      forget_limit(limit)
    end
  end

  -- Holds a ready lane at a limit. Its other limits may have room for others now.
  function own.hold(organization, lane, limit, limits, now)
    take_from_ready(organization, lane)
    redis.call('HSET', lanes, lane, limit)
    redis.call('ZADD', lanes_key(organization, limit), first_score(lane_key(lane)), lane)
    redis.call('ZADD', held_key(limit), own.turn(organization), organization)
    redis.call('ZADD', looks, 'NX', now, limit)
    holding = true
    for _, other in ipairs(limits) do
      if other[1] ~= limit then own.room(other[1]) end
    end
  end

  -- Holds an organization, with all its lanes, at its own limit.
  function own.hold_organization(organization, now)
    local limit = own_limit(organization)
    redis.call('ZREM', ready, organization)
    redis.call('ZADD', held_key(limit), own.turn(organization), organization)
    redis.call('ZADD', looks, 'NX', now, limit)
    holding = true
  end

  function own.release_organization(organization)
    local limit, out = own_limit(organization), prefix .. 'out:' .. organization
    redis.call('DEL', held_key(limit))
    forget_limit(limit)
    for _, other in ipairs(redis.call('SMEMBERS', out)) do
      redis.call('ZADD', held_key(other), own.turn(organization), organization)
      redis.call('ZADD', looks, 'NX', 0, other)
      redis.call('SADD', room, other)
    end
    redis.call('DEL', out)
    if redis.call('EXISTS', ready_key(organization)) == 1 then
      redis.call('ZADD', ready, own.turn(organization), organization)
    end
  end

  -- The organization whose turn it is among those that have lanes held at a limit, its turn, and the
  -- first of these lanes. A turn only grows, so the place in held:LIMIT may be too early: each
  -- correction of one counts as a step.
  function own.first_held(limit, step)
    if not own.holds_some() then return end
    local key = held_key(limit)
    while true do
      local organization, score = unpack(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES'))
      if not organization then return end
      local turn = own.turn(organization)
      if own.is_held(organization) then
        redis.call('ZREM', key, organization)
        redis.call('SADD', prefix .. 'out:' .. organization, limit)
        forget_limit(limit)
      elseif tonumber(turn) > tonumber(score) then
        redis.call('ZADD', key, turn, organization)
      else
        local lane, first = unpack(
          redis.call('ZRANGE', lanes_key(organization, limit), 0, 0, 'WITHSCORES'))
        return organization, tonumber(turn), lane, tonumber(first)
      end
      if not step() then return end
    end
  end

  -- A lane that is held there is ready again.
  function own.release(organization, lane, limit)
    take_from_held(organization, lane, limit)
    make_ready(organization, lane, first_score(lane_key(lane)))
  end

  -- Puts a lane in order by its first call, which is another one now.
  local function order(organization, lane, limit)
    local of = limit and lanes_key(organization, limit) or ready_key(organization)
    redis.call('ZADD', of, 'XX', first_score(lane_key(lane)), lane)
  end

  -- Takes a call out of its lane.
  local function quit(id, lane)
    local organization, _, limits = own.parts(lane)
    local key = lane_key(lane)
    local limit = own.holds_some() and redis.call('HGET', lanes, lane)
    redis.call('ZREM', key, id)
    if redis.call('EXISTS', key) == 1 then
      order(organization, lane, limit)
    elseif limit then
      take_from_held(organization, lane, limit)
      -- Others may take what it waited for.
      own.room(limit)
    else
      take_from_ready(organization, lane)
      all_may_have_room(limits)
    end
  end

  function own.enter(id, accepted, lane, claim)
    redis.call('HSET', claims, id, claim)
    local before
    if redis.call('HSETNX', waiting, id, lane) == 0 then
      before = redis.call('HGET', waiting, id)
      if before == lane then return end
      redis.call('HSET', waiting, id, lane)
    end
    local organization = own.parts(lane)
    redis.call('ZADD', prefix .. 'waiting:' .. organization, accepted, id)
    redis.call('ZADD', turns, 'NX', redis.call('HGET', prefix .. 'pace', 'turn') or 0, organization)
    local is_new = redis.call('EXISTS', lane_key(lane)) == 0
    redis.call('ZADD', lane_key(lane), accepted, id)
    if is_new then
      make_ready(organization, lane, accepted)
    elseif redis.call('ZRANK', lane_key(lane), id) == 0 then
      -- A call that has lost a party is older than the others.
      order(organization, lane, redis.call('HGET', lanes, lane))
    end
    if before then quit(id, before) end
  end

  function own.leave(id)
    local lane = redis.call('HGET', waiting, id)
    if not lane then return end
    local organization = own.parts(lane)
    redis.call('HDEL', waiting, id)
    redis.call('HDEL', claims, id)
    local all = prefix .. 'waiting:' .. organization
    redis.call('ZREM', all, id)
    local others = redis.call('EXISTS', all) == 1
    if others or own.holds_some() then
      quit(id, lane)
    else
      redis.call('DEL', lane_key(lane), ready_key(organization))
      redis.call('ZREM', ready, organization)
    end
    if not others then
      redis.call('ZREM', turns, organization)
      if own.holds_some() then
        local limit = own_limit(organization)
        redis.call('DEL', held_key(limit), prefix .. 'out:' .. organization)
        forget_limit(limit)
      end
    end
    -- Whether other calls of the organization wait.
    own.others_wait = others
  end

  made = own
  return own
end
