-- Count what processes saw of switches and their gateways, and eject what fails while the others do not.
-- A field of both hashes is 'SWITCH' or 'SWITCH GATEWAY' ('*' for legs through no gateway).
-- KEYS  1 what is ejected: field -> JSON {until, since, why, times, probing, trial}, in epoch seconds
--       2 the counts: field -> 'good:bad:bad in a row:at:times:back'
-- ARGV  1 a JSON array of reports {kind, switch, gateway or '', good, bad, bad in a row at the end, why}.
--         kind is outcome, owes (a command without a reply) or probe
--       2 a JSON array of the names of all switches
-- Returns a JSON array of {field, 'ejected', 'probing', 'returned' or 'carrier', why}.
local EJECTED, COUNTS = KEYS[1], KEYS[2]
-- Seconds in which a count falls to half, until the first trial by a call, and at most.
local HALF, FIRST, MOST = 30, 20, 40
-- Seconds for which a probe that failed keeps calls away.
local PROBED = 5
-- Fewer failures in a row eject nothing. So unlikely must they be, if the switch were like the others.
local RUN, UNLIKELY = 3, 0.00101
-- A switch that fails in part: after so many calls, half of them, and far more than the others.
local PART, SIGMAS = 20, 5
-- Seconds without an ejection after which one of the past counts no longer.
local FORGIVEN = 60

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local reports, names = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])

local told = {}
local function tell(field, what, why) told[#told + 1] = {field, what, why} end

local function field_of(name, gateway)
  return gateway == '' and name or name .. ' ' .. gateway
end

local entries = {}
local function entry(field)
  if entries[field] == nil then
    local text = redis.call('HGET', EJECTED, field)
    entries[field] = text and cjson.decode(text)
  end
  return entries[field]
end
local function set_entry(field, value)
  entries[field] = value or false
  if value then
    redis.call('HSET', EJECTED, field, cjson.encode(value))
  else
    redis.call('HDEL', EJECTED, field)
  end
end

local counts = {}
local function count(field)
  if not counts[field] then
    local good, bad, run, at, times, back = string.match(
      redis.call('HGET', COUNTS, field) or '0:0:0:0:0:0',
      '^([^:]+):([^:]+):([^:]+):([^:]+):([^:]+):([^:]+)$')
    local share = 0.5 ^ (math.max(0, now - tonumber(at)) / HALF)
    counts[field] = {
      good = good * share, bad = bad * share, run = tonumber(run),
      times = tonumber(times), back = tonumber(back)}
    -- What was long ago is no run.
    if share < 0.25 then counts[field].run = 0 end
  end
  return counts[field]
end
local function write(field)
  local of = count(field)
  redis.call('HSET', COUNTS, field, string.format('%.3f:%.3f:%.0f:%.3f:%.0f:%.3f',
    of.good, of.bad, of.run, now, of.times, of.back))
end

-- The share of failures of the other switches that get calls, and of how many.
local function others(name, gateway)
  local good, bad = 0, 0
  for _, other in ipairs(names) do
    local field = field_of(other, gateway)
    if other ~= name and not entry(field) then
      good, bad = good + count(field).good, bad + count(field).bad
    end
  end
  return (bad + 0.2) / (good + bad + 2)
end

local function is_outlier(name, gateway)
  local of = count(field_of(name, gateway))
  local share = others(name, gateway)
  if of.run >= RUN and share ^ of.run <= UNLIKELY then return true end
  local all = of.good + of.bad
  if all < PART or of.bad < all / 2 then return false end
  return of.bad - all * share >= SIGMAS * math.sqrt(all * share * (1 - share))
end

-- Whether all other switches fail too: then it is the carrier, or what is dialled.
local function all_fail(name, gateway)
  for _, other in ipairs(names) do
    local field = field_of(other, gateway)
    if other ~= name and not entry(field) and count(field).run < RUN then return false end
  end
  return true
end

local function ejected(gateway)
  local number = 0
  for _, name in ipairs(names) do
    if entry(field_of(name, gateway)) then number = number + 1 end
  end
  return number
end

local function eject(name, gateway, why)
  local field = field_of(name, gateway)
  local of, before = count(field), entry(field)
  if not before and ejected(gateway) + 1 > #names / 2 then
    if all_fail(name, gateway) then
      for _, other in ipairs(names) do
        local its = field_of(other, gateway)
        if entry(its) and entry(its).why ~= 'no reply' then
          set_entry(its, nil)
          tell(its, 'carrier', why)
        end
      end
    end
    return
  end
  of.times = math.max(0, of.times - math.floor(math.max(0, now - of.back) / FORGIVEN)) + 1
  local wait = math.min(MOST, FIRST * 2 ^ (of.times - 1))
  of.back = now + wait
  set_entry(field, {
    ['until'] = now + wait, since = before and before.since or now, why = why, times = of.times,
    probing = false})
  tell(field, 'ejected', why)
end

local function see(name, gateway, good, bad, run, why)
  local field = field_of(name, gateway)
  local of, its = count(field), entry(field)
  of.good, of.bad = of.good + good, of.bad + bad
  of.run = good > 0 and run or of.run + run
  if its then
    -- Before its trial, outcomes are of calls that it got before.
    if its.probing or now >= its['until'] then
      if run > 0 then
        eject(name, gateway, why)
      elseif good > 0 then
        of.bad, of.run, of.back = 0, 0, now
        set_entry(field, nil)
        tell(field, 'returned', '')
      end
    end
  elseif bad > 0 and is_outlier(name, gateway) then
    eject(name, gateway, why)
  end
  write(field)
end

for _, report in ipairs(reports) do
  local kind, name, gateway, good, bad, run, why = unpack(report)
  local field = field_of(name, gateway)
  local its = entry(field)
  if kind == 'outcome' then
    see(name, gateway, good, bad, run, why)
  elseif kind == 'owes' then
    if not its then
      eject(name, gateway, why)
    elseif its.probing or now >= its['until'] then
      eject(name, gateway, why)
    end
    write(field)
  elseif its and good > 0 and not its.probing then
    its.probing = true
    its['until'] = now
    set_entry(field, its)
    tell(field, 'probing', '')
  elseif its and bad > 0 then
    its.probing = false
    its['until'] = math.max(its['until'], now + PROBED)
    set_entry(field, its)
  end
end
redis.call('EXPIRE', COUNTS, 86400)
return cjson.encode(told)
