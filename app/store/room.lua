-- The room of limits: what is live at a time, and what is dialled per second. Calls that wait and
-- actions take from the same limits, by turns where both want the same.
-- Beside the keys of lines.lua, by the same prefix:
--   limits        'organization:3' and the like, 'legs per second:most at a time', 0 for none
--   pace          a hash: from which moment on each limit gives more legs; 'wants:LIMIT', until when
--                 the next room is an action's; 'acted:LIMIT', until when it is a call's; 'wanting'
--                 and 'acting', the last moments of any of these
--   live:LIMIT    what the limit counts
-- A limit that a look comes to this late (microseconds) still gives all that it owes. A limit that no
-- call took from for longer than IDLE owes nothing.
local SLACK, IDLE = 30000, 1000000
-- The most legs of one call that FreeSWITCH allows.
local MOST_LEGS = 128
-- Microseconds for which room is kept for an action that was told to come again, and for calls after an
-- action has taken.
local KEEP_FOR_ACTION, KEEP_FOR_CALLS = 250000, 1000000

local function rooms(prefix, now, queue)
  local LIMITS, PACE, WAKES = prefix .. 'limits', prefix .. 'pace', prefix .. 'wakes'
  local own = {}
  local function whole(number) return string.format('%.0f', number) end

  -- Whether something is held at a limit.
  local function holds_calls(name)
    return queue.holds_some() and redis.call('EXISTS', prefix .. 'held:' .. name) == 1
  end

  -- The texts of limits that were read together, false for one that is missing.
  own.texts = {}
  local limits = {}
  function own.is_known(name) return limits[name] ~= nil end

  local function limit(name)
    if limits[name] == nil then
      local text = own.texts[name]
      if text == nil then text = redis.call('HGET', LIMITS, name) end
      local rate, most = string.match(text or '', '^([^:]+):(%d+)$')
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
  own.limit = limit

  local function has_room(of, name, places, promised)
    if of.rate > 0 and of.moment > now then return false end
    if of.most > 0 and places > 0 then
      local taken = redis.call('SCARD', prefix .. 'live:' .. name) + (promised or 0)
      -- A call that is larger than the limit gets the whole limit.
      return taken == 0 or taken + places <= of.most
    end
    return true
  end

  -- Whether room is kept anywhere, for an action or for calls. Mostly it is not.
  local kept
  local function keeps(kind)
    if not kept then
      local wanting, acting = unpack(redis.call('HMGET', PACE, 'wanting', 'acting'))
      kept = {wants = tonumber(wanting or 0) > now, acted = tonumber(acting or 0) > now}
    end
    return kept[kind]
  end

  -- Until when the next room of a limit is an action's, false if it is not.
  local function wanted(name)
    local till = keeps('wants') and redis.call('HGET', PACE, 'wants:' .. name)
    return till and tonumber(till) > now and tonumber(till)
  end

  -- Whether a limit has so many places for a call now, beside those that are `promised` to other
  -- lanes.
  function own.allows(name, places, promised)
    local of = limit(name)
    if of.rate == 0 and of.most == 0 then return true end
    return has_room(of, name, places, promised) and not wanted(name)
  end

  -- Notes when a limit has room for calls again, if time makes it.
  function own.wake_later(name)
    local of = limit(name)
    local moment = of.rate > 0 and of.moment > now and of.moment or wanted(name)
    if moment then redis.call('ZADD', WAKES, whole(moment), name) end
  end

  local function take(name, legs)
    local of = limit(name)
    if of.rate > 0 then
      local owed = of.moment > now - IDLE and SLACK or 0
      of.moment = math.max(of.moment, now - owed) + legs * 1000000 / of.rate
      redis.call('HSET', PACE, name, whole(of.moment))
    end
    return of
  end

  -- Takes legs from the rate of a limit for a call. The commands of the claim take the places.
  function own.take(name, legs)
    local of = take(name, legs)
    if of.rate == 0 and of.most == 0 then return end
    if keeps('acted') then redis.call('HDEL', PACE, 'acted:' .. name) end
    if holds_calls(name) then own.wake_later(name) end
  end

  -- Takes from limits for an action, from all or none; `takes` are as in a lane. Returns nil, or the
  -- limit that has no room, 'legs_per_second' or 'max_legs', what it has, what is taken, and the
  -- microseconds after which to come again.
  function own.take_for_action(takes)
    for _, each in ipairs(takes) do
      local name, places = unpack(each)
      local of = limit(name)
      local after = tonumber(redis.call('HGET', PACE, 'acted:' .. name) or 0)
      -- Calls that wait there have their turn.
      local is_calls = after > now and holds_calls(name)
      if is_calls or not has_room(of, name, places) then
        local full = of.rate == 0 or of.moment <= now
        local wait = full and 100000 or of.moment - now
        if not is_calls then
          local till = whole(now + wait + KEEP_FOR_ACTION)
          redis.call('HSET', PACE, 'wants:' .. name, till, 'wanting', till)
        end
        if of.most > 0 and places > 0 and full then
          return name, 'max_legs', of.most, redis.call('SCARD', prefix .. 'live:' .. name), wait
        end
        return name, 'legs_per_second', of.rate, of.rate, wait
      end
    end
    for _, each in ipairs(takes) do
      local name, _, legs = unpack(each)
      local of = take(name, legs)
      if of.rate > 0 or of.most > 0 then
        redis.call('HDEL', PACE, 'wants:' .. name)
        if holds_calls(name) then
          local till = whole(math.max(of.moment or 0, now) + KEEP_FOR_CALLS)
          redis.call('HSET', PACE, 'acted:' .. name, till, 'acting', till)
          own.wake_later(name)
        end
      end
    end
  end

  return own
end
