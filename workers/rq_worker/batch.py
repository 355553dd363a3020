"""An RQ worker on gevent that takes, runs and ends many jobs at a time."""

import json
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib.resources import files
from typing import Any
from uuid import uuid4

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from redis.client import Pipeline
from redis.commands.core import Script
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, SimpleWorker
from rq.command import parse_payload
from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_WORKER_TTL, RQ_KEY_PREFIX
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.job_lifecycle import format_exc_info
from rq.results import Result
from rq.suspension import WORKERS_SUSPENDED
from rq.timeouts import BaseDeathPenalty, JobTimeoutException
from rq.utils import current_timestamp, get_version, now, utcformat
from rq.worker import WorkerStatus
from rq.worker_registration import register

from app.store.jobs import text
from workers.rq_worker.ours import OurJob

log = logging.getLogger(__name__)

_START = files("workers.rq_worker").joinpath("start.lua").read_text()
_FINISH = files("workers.rq_worker").joinpath("finish.lua").read_text()
# The first version of Redis whose LPOP takes several jobs at once, and that has BLMOVE for RQ.
_REDIS_VERSION = (6, 2, 0)
# Seconds after which a worker without a job looks whether it should stop.
_IDLE_LOOK = 2
# Seconds that the end of a job waits for other ends, to be written together.
_GATHER = 0.05
# The prefixes of an execution, of a job's executions, and of its results.
_EXECUTION = f"{RQ_KEY_PREFIX}:execution:"
_JOB_EXECUTIONS = f"{RQ_KEY_PREFIX}:executions:"
_RESULTS = f"{RQ_KEY_PREFIX}:results:"
# RQ's maintenance looks for abandoned jobs at intervals.
_ABANDONED = "cannot write the end of job %s: RQ will find it abandoned"


class GeventDeathPenalty(BaseDeathPenalty):
    """A job's time limit. RQ's own raises from SIGALRM in whatever greenlet runs, even the hub."""

    def setup_death_penalty(self) -> None:
        self._timer = gevent.Timeout.start_new(
            self._timeout if self._timeout > 0 else None,
            self._exception(f"Task exceeded maximum timeout value ({self._timeout} seconds)"),
        )

    def cancel_death_penalty(self) -> None:
        self._timer.close()


@dataclass
class Taken:
    """A job that this worker took, with its value or error once it has run."""

    job: Job
    queue: Queue
    # None for a job that RQ has to start and finish itself.
    execution: Execution | None
    value: Any = None
    error: BaseException | None = None

    @property
    def name(self) -> str | None:
        """The name of the job's function; None if the job cannot be read."""
        try:
            return self.job.func_name
        except Exception:
            # Running the job raises this error again, and writes it.
            return None


class BatchWorker(SimpleWorker):
    """A worker that takes up to ``batch_size`` jobs in a round trip, and writes what RQ writes.

    ``concurrency`` batches run at a time. The process must be patched by gevent.

    A job's function may have an attribute ``many``. It gets the list of the arguments of each job,
    and returns a list with None or an exception for each. One call of it runs all jobs of a batch
    that have no keyword arguments, within the longest of their time limits. There
    ``get_current_job()`` knows no job. Each other job runs in a greenlet of its own.

    RQ's own code runs jobs that ask for more (callbacks, retries, dependents, groups, …). It also
    does everything in a worker of several queues or of another job class. docs/internals/rq.md
    names what this class relies on inside RQ.
    """

    death_penalty_class = GeventDeathPenalty
    batch_size = 32
    concurrency = 2
    # The most seconds for which a job counts as alive that no heartbeat was written for. None for
    # RQ's own limit, the job's time limit and a minute.
    unheard_limit: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start = self.connection.register_script(_START)
        self._finish = self.connection.register_script(_FINISH)
        self._batches = Pool(self.concurrency)
        self._most = self.batch_size
        # Jobs that were taken and have not begun. RQ's loop knows only the first of them.
        self._batch: list[Taken] = []
        # Jobs that have ended and wait to be written, each with its entry for finish.lua.
        self._ended: list[tuple[Taken, list[Any]]] = []
        self._some_ended = Flag()
        self._writing = BoundedSemaphore()
        self._batch_id = uuid4().hex
        # The job that blmove brought into the intermediate queue, until start.lua has taken it.
        self._awaited: Any = ""
        # Whether the queue may hold another job now.
        self._more = True
        self._perhaps_suspended = True
        # When Redis was last told all about this worker.
        self._registered: datetime | None = None

    def stop(self) -> None:
        """Finish the jobs under way and take no more."""
        self._stop_requested = True

    def work(self, *args: Any, **kwargs: Any) -> bool:
        self._most = 1 if kwargs.get("max_jobs") is not None else self.batch_size
        return super().work(*args, **kwargs)

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        super().bootstrap(*args, **kwargs)
        self._helpers = [gevent.spawn(self._keep_alive), gevent.spawn(self._keep_writing)]

    def teardown(self) -> None:
        if not isinstance(sys.exception(), SystemExit):
            self._batches.join()
            self._write_ended()
        gevent.killall(self._helpers)
        super().teardown()  # type: ignore[no-untyped-call]

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Write the heartbeat at intervals, and with it what RQ writes only at the worker's birth.

        RQ calls this with every job, whose start writes a heartbeat. In an outage that is longer
        than its time to live, Redis forgets the worker.
        """
        interval = timedelta(seconds=self.job_monitoring_interval)
        if pipeline is not None:
            self._register(timeout, pipeline)
        elif timeout or not self._registered or now() - self._registered > interval:
            with self.connection.pipeline() as pipe:
                self._register(timeout, pipe)
                pipe.execute()

    def _register(self, timeout: int | None, pipeline: Pipeline) -> None:
        super().heartbeat(timeout, pipeline)
        self._registered = self.last_heartbeat
        if self.birth_date is not None:
            pipeline.hset(self.key, mapping=self.serialize())
            pipeline.hsetnx(self.key, "state", self._state)
            register(self, pipeline)

    def check_for_suspension(self, burst: bool) -> None:
        """Look for the suspension at first, when idle, and when start.lua has seen it."""
        if self._perhaps_suspended or not self._takes_batches():
            super().check_for_suspension(burst)
            self._perhaps_suspended = False

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Take a batch and return its first job.

        Returns None if there is no job: at once without a ``timeout``, else after
        ``max_idle_time`` seconds or when the worker must stop.
        """
        if not self._takes_batches():
            found: tuple[Job, Queue] | None
            found = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
            return found
        idle_since = time.monotonic()
        pause = 1.0
        # It runs a job in the intermediate queue even if it must stop.
        while not self._stop_requested or self._awaited:
            try:
                self._batches.wait_available()
                if self._take(blocking=timeout is not None, limit=max_idle_time or _IDLE_LOOK):
                    first = self._batch[0]
                    return first.job, first.queue
                if timeout is None:
                    if len(self._batches) or self._ended or self._writing.locked():
                        # Jobs under way may enqueue others.
                        self._batches.join()
                        self._write_ended()
                        continue
                    return None
                if len(self._batches):
                    idle_since = time.monotonic()
                if max_idle_time is not None and time.monotonic() - idle_since >= max_idle_time:
                    return None
                self._perhaps_suspended = True
                self.check_for_suspension(burst=False)
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()  # type: ignore[no-untyped-call]
                pause = 1.0
            except (RedisConnectionError, RedisTimeoutError) as error:
                self.log.error("Worker %s: Redis is unavailable, retrying: %s", self.name, error)
                gevent.sleep(pause)
                pause = min(pause * self.exponential_backoff_factor, self.max_connection_wait_time)
        return None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Begin the batch of this job without waiting for it."""
        batch, self._batch = self._batch, []
        if batch and batch[0].job is job:
            self._batches.spawn(self._run, batch)
        else:
            super().execute_job(job, queue)

    def start_jobs(self, start: Script, keys: list[str], arguments: list[Any]) -> Any:
        """Run ``start``, the script start.lua, and return its reply.

        A subclass may send more in the same round trip. The first argument stands for this batch:
        the same comes again if the reply was lost.
        """
        return start(keys, arguments)

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        ttl: int = super().get_heartbeat_ttl(job, working_time)
        return ttl if self.unheard_limit is None else min(ttl, self.unheard_limit)

    def prepare(self, batch: list[Taken]) -> None:
        """Look at jobs that were just taken, before any of them runs."""

    def handle_payload(self, message: dict[Any, Any]) -> None:
        """Stop a job among all executions: RQ's own method looks at one execution only."""
        payload = parse_payload(message)
        if payload["command"] == "stop-job":
            for execution in list(self.executions.values()):
                if execution.job_id == payload.get("job_id"):
                    self.request_stop_execution(execution.id)
                    return
        super().handle_payload(message)  # type: ignore[no-untyped-call]

    def _shutdown(self) -> None:
        # A signal handler runs in any greenlet, where it must neither wait nor raise.
        self.stop()
        gevent.spawn(self.set_shutdown_requested_date)

    def _takes_batches(self) -> bool:
        # RQ promises an order of several queues, and other classes may do anything differently.
        return (
            len(self.queues) == 1
            and type(self.queues[0]) is Queue
            and (self.job_class is Job or issubclass(self.job_class, OurJob))
            and get_version(self.connection) >= _REDIS_VERSION
        )

    def _take(self, *, blocking: bool, limit: int) -> bool:
        """Take the jobs that are there, or wait up to ``limit`` seconds for one.

        The wait is short: a worker that dies in it could leave a job in the intermediate queue.
        """
        queue = self.queues[0]
        if blocking and not self._awaited and not self._more:
            awaited = self.connection.blmove(
                queue.key, queue.intermediate_queue_key, min(limit, _IDLE_LOOK)
            )
            if awaited is None:
                return False
            self._awaited = awaited
        at = now()
        keys = [
            queue.key,
            queue.intermediate_queue_key,
            queue.started_job_registry.key,
            self.key,
            self.executions_key,
            WORKERS_SUSPENDED,
            queue.failed_job_registry.key,
        ]
        arguments: list[Any] = [
            self._batch_id,
            self._awaited,
            1 if self._stop_requested else self._most,
            self.name,
            queue.name,
            utcformat(at),
            at.timestamp(),
            self.worker_ttl + 60,
            DEFAULT_WORKER_TTL,
            self.job_class.redis_job_namespace_prefix,
            _EXECUTION,
            _JOB_EXECUTIONS,
            self.unheard_limit or "",
            int(at.timestamp()) + DEFAULT_FAILURE_TTL,
            int(issubclass(self.job_class, OurJob)),
        ]
        suspended, taken, dropped = self.start_jobs(self._start, keys, arguments)
        # Only a reply ends the id: start.lua returns the same batch for the same id.
        self._batch_id = uuid4().hex
        self._awaited = ""
        self._more = len(taken) == self._most
        self._perhaps_suspended = bool(suspended)
        self._batch = []
        for job_id, execution_id, raw in taken:
            job = self.job_class(job_id.decode(), connection=self.connection)
            # RQ would look up both anew for every job.
            job.serializer = self.serializer
            job.redis_server_version = get_version(self.connection)
            execution, broken = None, None
            try:
                job.restore(dict(zip(raw[::2], raw[1::2], strict=True)))
            except Exception as error:
                if not execution_id:
                    # RQ's own code raises for such a job, too. The text of the error may show the
                    # whole hash, and a token in it.
                    log.error("job %s cannot be read: %s", job.id, type(error).__name__)
                job.origin, broken = queue.name, error
            if execution_id:
                execution = Execution(execution_id.decode(), job.id, self.connection, self.name)
                execution.created_at = execution.last_heartbeat = at
                execution._job = job
                job._status = JobStatus.STARTED
                job.worker_name = self.name
                job.started_at = job.last_heartbeat = at
                self.executions[execution.id] = execution
            said = f"{job.description} ({job.id})" if self.log_job_description else job.id
            self.log.info("Worker %s: %s: %s", self.name, queue.name, said)
            self._batch.append(Taken(job, queue, execution, error=broken))
        for job_id in dropped:
            log.warning(
                "queue %s: job %s is not run: it was deleted, its id is none of RQ, or it is"
                " another queue's",
                queue.name,
                text(job_id),
            )
        self.prepare(self._batch)
        # RQ's maintenance finds the others, and moves them to the failed jobs.
        self._batch = [each for each in self._batch if each.execution or each.error is None]
        if self._batch:
            self.last_heartbeat = at
            self._state = WorkerStatus.BUSY
        return bool(self._batch)

    def _run(self, batch: list[Taken]) -> None:
        """Run a batch to its end."""
        calls = self.calls_of(batch)
        if len(calls) == 1:
            self._end_jobs(calls[0]())
        else:
            waiting = {gevent.spawn(call) for call in calls}
            while waiting:
                gevent.wait(waiting, count=1)
                ended = {greenlet for greenlet in waiting if greenlet.ready()}
                waiting -= ended
                self._end_jobs([taken for greenlet in ended for taken in greenlet.get()])
        self._note_idle()

    def calls_of(self, batch: list[Taken]) -> list[Callable[[], list[Taken]]]:
        """The calls that run a batch; each returns the jobs that it ended."""
        calls: list[Callable[[], list[Taken]]] = []
        together: dict[str, list[Taken]] = defaultdict(list)
        for taken in batch:
            if taken.execution is not None and (name := self._name_of_many(taken)):
                together[name].append(taken)
            else:
                calls.append(partial(self.perform, taken))
        for group in together.values():
            if len(group) == 1:
                calls.append(partial(self.perform, group[0]))
            else:
                calls.append(partial(self._perform_many, group))
        return calls

    def _name_of_many(self, taken: Taken) -> str | None:
        """The name of the job's function if that has ``many``."""
        try:
            job = taken.job
            if taken.error is None and not job.kwargs and job.instance is None:
                return job.func_name if hasattr(job.func, "many") else None
        except Exception:
            # Running the job raises this error again, and writes it.
            pass
        return None

    def perform(self, taken: Taken) -> list[Taken]:
        """Run one job. Returns it if its end is to be written."""
        job = taken.job
        if taken.execution is None:
            try:
                super().execute_job(job, taken.queue)
            except Exception:
                log.exception(_ABANDONED, job.id)
            return []
        if taken.error is None:
            try:
                with self._time_limit(self._limit(job)):
                    taken.value = job.perform()
            except BaseException as error:
                taken.error = error
        job.ended_at = now()
        return [taken]

    def _perform_many(self, group: list[Taken]) -> list[Taken]:
        limits = [self._limit(taken.job) for taken in group]
        limit = -1 if min(limits) < 0 else max(limits)
        errors: Iterable[BaseException | None]
        try:
            with self._time_limit(limit):
                errors = group[0].job.func.many([tuple(taken.job.args) for taken in group])
                for taken, error in zip(group, errors, strict=True):
                    taken.error = error
        except BaseException as error:
            for taken in group:
                taken.error = error
        ended_at = now()
        for taken in group:
            taken.job.ended_at = ended_at
        return group

    def _limit(self, job: Job) -> float:
        return job.timeout or self.queue_class.DEFAULT_TIMEOUT

    def _time_limit(self, seconds: float) -> BaseDeathPenalty:
        return self.death_penalty_class(seconds, JobTimeoutException)  # type: ignore[no-untyped-call]

    def _end_jobs(self, ended: list[Taken]) -> None:
        """Queue the ends of jobs to be written; RQ's own code writes those that ask for more."""
        for taken in ended:
            if (entry := self._entry(taken)) is not None:
                self._ended.append((taken, entry))
                self._some_ended.set()
            else:
                self._end_by_rq(taken)

    def _keep_writing(self) -> None:
        """Write ends together: nothing waits for them, and each write costs a round trip."""
        while True:
            self._some_ended.wait()
            gevent.sleep(_GATHER)
            self._some_ended.clear()
            self._write_ended()

    def _write_ended(self) -> None:
        with self._writing:
            ended, self._ended = self._ended, []
            if ended:
                for taken in self._write_plain(ended):
                    self._end_by_rq(taken)
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.executions:
            self._state = WorkerStatus.IDLE

    def _write_plain(self, plain: list[tuple[Taken, list[Any]]]) -> list[Taken]:
        """Write the ends of jobs; return the jobs that RQ has to end itself after all."""
        queue = plain[0][0].queue
        left = []
        try:
            left = self._finish(
                keys=[
                    self.key,
                    self.executions_key,
                    queue.started_job_registry.key,
                    queue.finished_job_registry.key,
                    queue.failed_job_registry.key,
                ],
                args=[
                    json.dumps([entry for _, entry in plain]),
                    self.job_class.redis_job_namespace_prefix,
                    _EXECUTION,
                    _JOB_EXECUTIONS,
                    _RESULTS,
                ],
            )
        except Exception:
            log.exception(_ABANDONED, ", ".join(taken.job.id for taken, _ in plain))
        for place, (taken, _) in enumerate(plain, 1):
            if taken.execution is not None and place not in left:
                self.executions.pop(taken.execution.id, None)
        return [plain[place - 1][0] for place in left]

    def _entry(self, taken: Taken) -> list[Any] | None:
        """The entry of a job for finish.lua; None for a job that RQ has to end itself."""
        job, execution = taken.job, taken.execution
        assert execution and job.started_at and job.ended_at
        if taken.error is None:
            if isinstance(taken.value, Retry):
                return None
            ttl = job.get_result_ttl(self.default_result_ttl)
            status, kind, exc_string = JobStatus.FINISHED, Result.Type.SUCCESSFUL, None
            kept, result_kept = max(ttl, 0), ttl
            score = "+inf" if ttl < 0 else str(current_timestamp() + ttl)
        else:
            if (
                self._exc_handlers
                or self.disable_default_exception_handler
                or self._stopped_job_id == job.id
            ):
                return None
            ttl = DEFAULT_FAILURE_TTL if job.failure_ttl is None else job.failure_ttl
            status, kind = JobStatus.FAILED, Result.Type.FAILED
            exc_info = (type(taken.error), taken.error, taken.error.__traceback__)
            exc_string = format_exc_info(exc_info)
            kept, result_kept = max(ttl, 0), job.failure_ttl or 0
            # RQ gives a job that it keeps for ever the score -1.
            score = "-1" if ttl < 0 else str(current_timestamp() + ttl)
        if ttl == 0 or ttl < -1:
            return None
        if taken.error is not None:
            self.handle_exception(job, *exc_info)
        result = Result(
            job.id,
            kind,
            self.connection,
            return_value=taken.value,
            exc_string=exc_string,
            worker_name=self.name,
            execution_id=execution.id,
            execution_started_at=execution.created_at,
            execution_ended_at=job.ended_at,
        )
        result.serializer = job.serializer
        job._status = status
        return [
            job.id,
            execution.id,
            status.value,
            utcformat(job.ended_at),
            (job.ended_at - job.started_at).total_seconds(),
            kept,
            score,
            result_kept,
            *(str(word) for item in result.serialize().items() for word in item),
        ]

    def _end_by_rq(self, taken: Taken) -> None:
        job, error, execution = taken.job, taken.error, taken.execution
        assert execution is not None
        job._result = taken.value
        try:
            if error is None:
                self._finalize_success(job, taken.queue, execution, taken.value)
            else:
                exc_info = (type(error), error, error.__traceback__)
                self._finalize_failure(job, taken.queue, execution, exc_info)
            if not self.executions:
                self.set_state(WorkerStatus.IDLE)
        except Exception:
            log.exception(_ABANDONED, job.id)
        self.executions.pop(execution.id, None)

    def _keep_alive(self) -> None:
        """Write heartbeats for jobs that run longer than the worker may be silent."""
        while True:
            gevent.sleep(self.job_monitoring_interval)
            for execution in list(self.executions.values()):
                try:
                    if execution.id in self.executions:
                        self.maintain_heartbeats(execution.job, execution)
                except RedisError as error:
                    self.log.error("Worker %s: no heartbeat: %s", self.name, error)
