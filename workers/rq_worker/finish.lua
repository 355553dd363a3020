-- Write for each job that ended what RQ writes at a job's end, in one round trip.
-- KEYS  1 the worker's hash   2 the worker's executions   3 the queue's StartedJobRegistry
--       4 its FinishedJobRegistry   5 its FailedJobRegistry
-- ARGV  1 the jobs, a JSON array of {id, execution, status, ended_at, seconds it took,
--         seconds to keep it (0: no change), score in its registry,
--         seconds to keep the result (0: no change, -1: for ever), result field, value, ...}
--       2 the prefix of jobs   3 of executions   4 of a job's executions   5 of results
-- Returns the places, from 1, of the jobs that RQ has to end itself.
local worker, executions, started, finished, failed = unpack(KEYS)
local job_prefix, execution_prefix = ARGV[2], ARGV[3]
local job_executions_prefix, result_prefix = ARGV[4], ARGV[5]

local left, members, hashes = {}, {}, {}
local successful, unsuccessful, working_time = 0, 0, 0
for place, ended in ipairs(cjson.decode(ARGV[1])) do
  local id, execution, status, ended_at = unpack(ended, 1, 4)
  local job, results = job_prefix .. id, result_prefix .. id
  local known = redis.call('HGET', job, 'ended_at')
  if known == ended_at then
    -- The client sent the script a second time, because the first reply was lost.
  elseif not known or redis.call('EXISTS', job .. ':dependents') == 1 then
    left[#left + 1] = place
  else
    redis.call('HSET', job, 'status', status, 'ended_at', ended_at, 'last_heartbeat', ended_at)
    if ended[6] > 0 then redis.call('EXPIRE', job, ended[6]) end
    redis.call('XADD', results, 'MAXLEN', 10, '*', unpack(ended, 9))
    if ended[8] > 0 then
      redis.call('EXPIRE', results, ended[8])
    elseif ended[8] < 0 then
      redis.call('PERSIST', results)
    end
    redis.call('ZREM', job_executions_prefix .. id, execution)
    members[#members + 1] = id .. ':' .. execution
    hashes[#hashes + 1] = execution_prefix .. id .. ':' .. execution
    working_time = working_time + ended[5]
    if status == 'finished' then
      successful = successful + 1
      redis.call('ZADD', finished, ended[7], id)
    else
      unsuccessful = unsuccessful + 1
      redis.call('ZADD', failed, ended[7], id)
    end
  end
end
if #members > 0 then
  redis.call('DEL', unpack(hashes))
  redis.call('ZREM', started, unpack(members))
  redis.call('SREM', executions, unpack(members))
  if successful > 0 then redis.call('HINCRBY', worker, 'successful_job_count', successful) end
  if unsuccessful > 0 then redis.call('HINCRBY', worker, 'failed_job_count', unsuccessful) end
  redis.call('HINCRBYFLOAT', worker, 'total_working_time', string.format('%.6f', working_time))
  if redis.call('EXISTS', executions) == 0 then redis.call('HSET', worker, 'state', 'idle') end
end
return left
