"""An RQ worker whose jobs run in this process, on gevent, and keep its switch connections."""

import logging
import secrets
from typing import Any

import gevent
from gevent.event import Event as Flag
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import BaseDeathPenalty

from app.redis_client import connect, is_unavailable
from app.settings import Settings

log = logging.getLogger(__name__)

# Seconds without a job after which a worker looks whether it should stop.
_IDLE_LOOK = 2


class GeventDeathPenalty(BaseDeathPenalty):
    """A job's time limit: RQ's own raises from SIGALRM in whatever greenlet runs, the hub too."""

    def setup_death_penalty(self) -> None:
        self._timer = gevent.Timeout.start_new(
            self._timeout if self._timeout > 0 else None,
            self._exception(f"Task exceeded maximum timeout value ({self._timeout} seconds)"),
        )

    def cancel_death_penalty(self) -> None:
        self._timer.close()


class CallWorker(SimpleWorker):
    """One queue's jobs, one after the other. A process runs one for each queue."""

    death_penalty_class = GeventDeathPenalty
    log_result_lifespan = False
    log_job_description = False
    # Seconds between attempts while Redis is away; RQ's own grow to a minute.
    max_connection_wait_time = 2.0

    def stop(self) -> None:
        """Finish the job under way, take no more."""
        self._stop_requested = True

    def _install_signal_handlers(self) -> None:
        """The process has several workers, and stops them itself."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Look up from waiting now and then: a worker killed while it waits could take a job
        from the queue with it."""
        result: Any = None
        while result is None and not self._stop_requested:
            result = super().dequeue_job_and_maintain_ttl(timeout, max_idle_time or _IDLE_LOOK)
            if timeout is None or max_idle_time is not None:
                break
        found: tuple[Job, Queue] | None = result
        return found


class QueueRunner:
    """Keeps a worker on one queue: RQ's own gives up at most errors of Redis."""

    def __init__(self, settings: Settings, queue: str, process: str) -> None:
        self._settings = settings
        self._queue = queue
        self._process = process
        self._worker: CallWorker | None = None
        self._stopping = Flag()

    def run(self) -> None:
        """Work, with a new worker and a pause after each that gave up, until :meth:`stop`."""
        # RQ tells of every job at INFO; the calls' timelines do it better.
        level = "DEBUG" if self._settings.log_level == "DEBUG" else "WARNING"
        while not self._stopping.is_set():
            try:
                self._worker = self._new_worker()
                self._worker.work(logging_level=level)
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("the worker of queue %s failed", self._queue)
            if not self._stopping.wait(1.0):
                log.warning("queue %s gets another worker", self._queue)

    def stop(self) -> None:
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()

    def _new_worker(self) -> CallWorker:
        return CallWorker(
            [self._queue],
            # Never a name that a dead process may still hold: in a container host and process
            # id are the same again after a restart.
            name=f"{self._process}.{self._queue}.{secrets.token_hex(3)}",
            # Its own: RQ gives its connections a time limit of minutes.
            connection=connect(self._settings.require_redis()),
            serializer=JSONSerializer,
        )
