-- Take jobs from a queue and write for each what RQ writes at a job's start, in one round trip.
-- A job that asks for more stays in the intermediate queue, and RQ's own code starts it.
-- KEYS  1 the queue   2 its intermediate queue   3 its StartedJobRegistry
--       4 the worker's hash   5 the worker's executions   6 what suspends all workers
--       7 the queue's FailedJobRegistry
-- ARGV  1 the batch's id: the ids of its executions begin with it
--       2 the job that the worker has moved to the intermediate queue already, '' for none
--       3 the most jobs to take
--       4 the worker's name   5 the queue's name   6 now, in RQ's format
--       7 now, in seconds     8 seconds that the worker counts as alive
--       9 seconds that a job without a time limit counts as alive
--       10 the prefix of jobs   11 of executions   12 of a job's executions
--       13 the most seconds that any job counts as alive, '' for no such limit
--       14 the score of a job that fails now   15 '1' if no job of another queue is run
-- Returns {whether workers are suspended, {{job id, execution id or '', the job's hash}, ...},
-- {the ids that are dropped}}.
local queue, intermediate, started, worker, executions, suspension, failed = unpack(KEYS)
local batch, awaited, most, name, origin, stamp = unpack(ARGV)
local now, alive, unlimited = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local job_prefix, execution_prefix, job_executions_prefix = ARGV[10], ARGV[11], ARGV[12]
local longest = tonumber(ARGV[13]) or math.huge

-- The fields of a job that asks only to be run. RQ writes some other fields empty.
local plain = {}
for _, field in ipairs({
  'created_at', 'data', 'description', 'ended_at', 'enqueue_at_front', 'enqueued_at',
  'failure_ttl', 'last_heartbeat', 'meta', 'origin', 'result_ttl', 'started_at', 'status',
  'timeout', 'ttl', 'worker_name',
}) do plain[field] = true end

-- Seconds that the job's execution counts as alive, as in SimpleWorker; nil for a job that RQ has to
-- start itself.
local function heartbeat_ttl(hash)
  local job = {}
  for i = 1, #hash, 2 do
    if not plain[hash[i]] and hash[i + 1] ~= '' then return nil end
    job[hash[i]] = hash[i + 1]
  end
  if job.status ~= 'queued' or job.origin ~= origin or not job.data then return nil end
  local timeout = 0
  if job.timeout and job.timeout ~= '' then timeout = tonumber(job.timeout) end
  if not timeout then return nil end
  if timeout == -1 then return math.min(unlimited, longest) end
  return math.min(math.floor(timeout == 0 and unlimited or timeout) + 60, longest)
end

local suspended = redis.call('EXISTS', suspension)
local taken = {}

-- The client sent the script a second time, because the first reply was lost. No job must be lost
-- with it: return the same jobs.
local last = redis.call('HGET', worker, 'batch')
if last then
  last = cjson.decode(last)
  if last[1] == batch then
    for i = 2, #last, 2 do
      local hash = redis.call('HGETALL', job_prefix .. last[i])
      if #hash > 0 then taken[#taken + 1] = {last[i], last[i + 1], hash} end
    end
    return {suspended, taken, {}}
  end
end

local ids = {}
if awaited ~= '' then ids[1] = awaited end
local more = tonumber(most) - #ids
if suspended == 0 and more > 0 then
  for _, id in ipairs(redis.call('LPOP', queue, more) or {}) do ids[#ids + 1] = id end
end

local record, members, scores, dropped = {batch}, {}, {}, {}
for i, id in ipairs(ids) do
  local job = job_prefix .. id
  -- Another program may have put anything into the queue: what has no id of RQ's, or no hash under
  -- its key, is not run. What has a key fails.
  local hash = string.find(id, '^[%w_-]+$') and redis.pcall('HGETALL', job) or {}
  -- A program that may only enqueue must not have another queue's job changed.
  if ARGV[15] == '1' then
    for at = 1, #hash, 2 do
      if hash[at] == 'origin' and hash[at + 1] ~= '' and hash[at + 1] ~= origin then
        hash = {}
        break
      end
    end
  end
  local ttl = heartbeat_ttl(hash)
  if #hash == 0 then
    -- Without a key, the job was deleted after it was enqueued.
    dropped[#dropped + 1] = id
    if redis.call('EXISTS', job) == 1 then redis.call('ZADD', failed, ARGV[14], id) end
    if id == awaited then redis.call('LREM', intermediate, 1, id) end
  elseif not ttl then
    if id ~= awaited then redis.call('RPUSH', intermediate, id) end
    taken[#taken + 1] = {id, '', hash}
  else
    local execution = batch .. i
    local member = id .. ':' .. execution
    redis.call('HSET', job, 'status', 'started', 'started_at', stamp, 'last_heartbeat', stamp,
      'worker_name', name)
    redis.call('PERSIST', job)
    redis.call('HSET', execution_prefix .. member, 'id', execution, 'job_id', id,
      'created_at', ARGV[7], 'last_heartbeat', ARGV[7], 'worker_name', name)
    redis.call('EXPIRE', execution_prefix .. member, ttl)
    redis.call('ZADD', job_executions_prefix .. id, math.floor(now) + ttl + 60, execution)
    redis.call('EXPIRE', job_executions_prefix .. id, ttl + 60)
    members[#members + 1] = member
    scores[#scores + 1] = math.floor(now) + ttl
    scores[#scores + 1] = member
    if id == awaited then redis.call('LREM', intermediate, 1, id) end
    if ttl + 60 > alive then alive = ttl + 60 end
    taken[#taken + 1] = {id, execution, hash}
  end
end
if #taken > 0 then
  for _, entry in ipairs(taken) do
    record[#record + 1] = entry[1]
    record[#record + 1] = entry[2]
  end
  redis.call('HSET', worker, 'batch', cjson.encode(record), 'last_heartbeat', stamp,
    'state', 'busy')
  redis.call('EXPIRE', worker, alive)
end
if #members > 0 then
  redis.call('ZADD', started, unpack(scores))
  redis.call('SADD', executions, unpack(members))
  redis.call('EXPIRE', executions, alive)
end
return {suspended, taken, dropped}
