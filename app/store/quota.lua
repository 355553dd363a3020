-- Counts of caps (app/calls/quota.py). All keys begin with the prefix:
--   quota:DAY:HOLDER          what a holder has used on a day, a hash: calls, seconds, cost (millionths)
--                             and the like; DAY counts from 1970-01-01 UTC
--   quota:window:HOLDER NAME OF   what was taken from a window, by time (microseconds)
--   quota:seen:HOLDER NAME    what was seen, by the last time
--   quota:new:DAY:HOLDER NAME what was seen for the first time on a day
--   quota:alert:…             a mark: this crossing was told
--   running:HOLDER            the legs that talk now and cost or use minutes, a hash:
--                             'answered per_minute per_call increment', seconds and millionths
--   alerts                    the crossings of caps, a stream
local DAY, KEPT_DAYS = 86400, 3
-- Seconds for which a country is known.
local SEEN = 30 * DAY
local ALERTS_KEPT = 10000

-- What running legs have used by now: whole seconds, and their cost.
local function running_amounts(prefix, holder, now)
  local seconds, cost = 0, 0
  for _, text in ipairs(redis.call('HVALS', prefix .. 'running:' .. holder)) do
    local answered, per_minute, per_call, increment =
      string.match(text, '^(%S+) (%d+) (%d+) (%d+)$')
    -- As app/calls/cost.py counts.
    local of = math.max(0, math.floor(now / 1000000) - math.floor(answered))
    local billed = math.ceil(of / increment) * increment
    seconds = seconds + of
    cost = cost + per_call + math.ceil(billed * per_minute / 60)
  end
  return seconds, cost
end

local function whole(number) return string.format('%.0f', number) end

-- Says once for its day or window that so many percent of a cap are used. Returns 1 if it is news.
local function alert(prefix, now, check, percent, used, lasts)
  local mark = prefix .. 'quota:alert:' .. percent .. ':' .. check.holder .. ' ' .. check.name
  if check.of ~= '' then mark = mark .. ' ' .. check.of end
  if not redis.call('SET', mark, 1, 'NX', 'EX', lasts) then return end
  redis.call('XADD', prefix .. 'alerts', 'MAXLEN', '~', ALERTS_KEPT, '*',
    'at', string.format('%.6f', now / 1000000), 'holder', check.holder, 'cap', check.name,
    'of', check.of, 'percent', percent, 'used', whole(used), 'limit', whole(check.limit))
  return 1
end

-- Takes what all checks ask for, or nothing.
-- prefix   of all keys
-- now      microseconds of this server's clock
-- text     the checks, a JSON array of Check as in app/calls/quota.py; '' for none
-- ask      whether to take nothing, and only to say which check has no room
-- Returns nil and the crossings that are news, each {place of its check, percent, used}; or the place
-- of the check that has no room, how much is used, and the microsecond at which there is room, -1 for
-- none. Places count from 0.
local function take_quota(prefix, now, text, ask)
  if text == '' then return nil, {} end
  local today = math.floor(now / 1000000 / DAY)
  local midnight = (today + 1) * DAY
  local until_midnight = midnight - math.floor(now / 1000000)
  local todo, told = {}, {}
  -- What earlier checks of this request take from the same count.
  local before = {}
  local checks = cjson.decode(text)

  local function window(check)
    local key = prefix .. 'quota:window:' .. check.holder .. ' ' .. check.name
    if check.of ~= '' then key = key .. ' ' .. check.of end
    local span = check.seconds * 1000000
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now - span))
    local known, used, more = redis.call('ZCARD', key), 0, #check.members
    used = known + (before[key] or 0)
    if used + more > check.limit then
      -- Room comes when the oldest entries leave the window.
      local place = used + more - check.limit
      local oldest = place <= known and redis.call('ZRANGE', key, place - 1, place - 1, 'WITHSCORES')[2]
      return {used = used, free = oldest and tonumber(oldest) + span or -1}
    end
    before[key] = (before[key] or 0) + more
    todo[#todo + 1] = function()
      for _, member in ipairs(check.members) do redis.call('ZADD', key, whole(now), member) end
      redis.call('EXPIRE', key, check.seconds)
    end
    return {used = used, more = more, lasts = check.seconds}
  end

  local function day(check)
    local key = prefix .. 'quota:' .. today .. ':' .. check.holder
    local name = key .. ' ' .. check.name
    local used = tonumber(redis.call('HGET', key, check.name) or 0) + (before[name] or 0)
    if used + check.taken > check.limit then
      return {used = used, free = check.taken <= check.limit and midnight * 1000000 or -1}
    end
    before[name] = (before[name] or 0) + check.taken
    todo[#todo + 1] = function()
      redis.call('HINCRBY', key, check.name, check.taken)
      redis.call('EXPIRE', key, KEPT_DAYS * DAY)
    end
    return {used = used, more = check.taken, lasts = until_midnight}
  end

  local function spent(check)
    local field = check.name == 'minutes_per_day' and 'seconds' or 'cost'
    local key = prefix .. 'quota:' .. today .. ':' .. check.holder
    local seconds, cost = running_amounts(prefix, check.holder, now)
    local used = tonumber(redis.call('HGET', key, field) or 0)
    used = used + (field == 'seconds' and seconds or cost)
    return {used = used, more = 0, free = used >= check.limit and midnight * 1000000 or nil}
  end

  local function size(check)
    local used
    if check.count == 'set' then
      used = redis.call('SCARD', prefix .. 'live:' .. check.of)
    else
      used = redis.call('ZCARD', prefix .. 'waiting:' .. check.of)
    end
    local name = check.count .. ' ' .. check.of
    used = used + (before[name] or 0)
    if used + check.taken > check.limit then return {used = used, free = -1} end
    before[name] = (before[name] or 0) + check.taken
    return {used = used, more = 0}
  end

  -- A record stands in the index from the end of its call; those that live are counted apart.
  local function kept(check)
    local records, since = prefix .. 'cdr:organization:' .. check.of, now / 1000000 - check.seconds
    local used = redis.call('ZCOUNT', records, since, '+inf')
      + redis.call('ZCARD', prefix .. 'calls:organization:' .. check.of)
    if used + check.taken > check.limit then
      local oldest = redis.call('ZRANGEBYSCORE', records, since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
      return {used = used, free = oldest and (tonumber(oldest) + check.seconds) * 1000000 or -1}
    end
    return {used = used, more = check.taken, lasts = until_midnight}
  end

  local function fresh(check)
    local seen = prefix .. 'quota:seen:' .. check.holder .. ' ' .. check.name
    local key = prefix .. 'quota:new:' .. today .. ':' .. check.holder .. ' ' .. check.name
    local used, new = redis.call('SCARD', key) + (before[key] or 0), 0
    for _, member in ipairs(check.members) do
      local at = before[key .. member] and now / 1000000 or redis.call('ZSCORE', seen, member)
      if not at or tonumber(at) < now / 1000000 - SEEN then new = new + 1 end
    end
    if new > 0 and used + new > check.limit then
      return {used = used, free = new <= check.limit and midnight * 1000000 or -1}
    end
    before[key] = (before[key] or 0) + new
    for _, member in ipairs(check.members) do before[key .. member] = true end
    todo[#todo + 1] = function()
      for _, member in ipairs(check.members) do
        local at = redis.call('ZSCORE', seen, member)
        if not at or tonumber(at) < now / 1000000 - SEEN then redis.call('SADD', key, member) end
        redis.call('ZADD', seen, whole(now / 1000000), member)
      end
      redis.call('EXPIRE', key, KEPT_DAYS * DAY)
      redis.call('EXPIRE', seen, SEEN)
    end
    return {used = used, more = new, lasts = until_midnight}
  end

  -- Each says how much is used; then when there is room, if there is none, or how much more it takes,
  -- and the seconds after which the count begins anew.
  local counts = {window = window, day = day, spent = spent, set = size, line = size, kept = kept, new = fresh}
  for place, check in ipairs(checks) do
    local found = counts[check.count](check)
    if found.free then return place - 1, found.used, found.free end
    local after = found.used + found.more
    for _, percent in ipairs({80, 100}) do
      local level = check.limit * percent / 100
      if found.used < level and after >= level then
        told[#told + 1] = function()
          if alert(prefix, now, check, percent, after, found.lasts) then
            return {place - 1, percent, whole(after)}
          end
        end
      end
    end
  end
  if ask then return nil, {} end
  for _, take in ipairs(todo) do take() end
  local news = {}
  for _, tell in ipairs(told) do news[#news + 1] = tell() end
  return nil, news
end
