"""The worker of Ringback's queues. It outlives times in which Redis is unavailable."""

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from gevent.event import Event as Flag
from rq.serializers import JSONSerializer

from app.settings import Settings
from app.store.client import connect, is_unavailable
from workers.rq_worker.batch import BatchWorker
from workers.rq_worker.cleaning import set_aside
from workers.rq_worker.ours import OurJob, job_class

log = logging.getLogger(__name__)


class CallWorker(BatchWorker):
    """The worker of one queue. A process runs one for each of its queues."""

    log_result_lifespan = False
    # Seconds between attempts while Redis is unavailable. RQ's own grow to a minute.
    max_connection_wait_time = 2.0
    # Seconds that the worker waits for a reply of Redis. RQ's own are minutes, because its blocking
    # commands take as long.
    connection_timeout = 10

    def procline(self, message: str) -> None:
        """Leave the process its name, ``ringback worker``: RQ renames it for each job."""

    def clean_registries(self) -> None:
        """Clean the registries of all that RQ cannot read, then as RQ does."""
        for queue in self.queues:
            if queue.acquire_maintenance_lock():
                set_aside(queue)
                queue.release_maintenance_lock()  # type: ignore[no-untyped-call]
        super().clean_registries()  # type: ignore[no-untyped-call]

    def _install_signal_handlers(self) -> None:
        """Do nothing: the process has several workers, and stops them itself."""


class QueueRunner:
    """Keeper of a worker on one queue. A worker of RQ gives up at most errors of Redis."""

    def __init__(
        self,
        settings: Settings,
        queue: str,
        process: str,
        functions: Mapping[str, Callable[..., Any]],
        worker: Callable[..., CallWorker] = CallWorker,
        jobs: type[OurJob] = OurJob,
    ) -> None:
        """``functions`` are what the jobs of the queue may run, by name; ``jobs`` is the class of
        the jobs. ``worker`` makes a worker of RQ's arguments."""
        self._settings = settings
        self._make = worker
        self._queue = queue
        self._process = process
        self._jobs = job_class(functions, jobs)
        self._worker: CallWorker | None = None
        self._stopping = Flag()

    def run(self) -> None:
        """Work until :meth:`stop`. A new worker follows each that gave up, after a second."""
        # RQ logs every job at INFO. The calls' timelines tell more.
        level = "DEBUG" if self._settings.log_level == "DEBUG" else "WARNING"
        while not self._stopping.is_set():
            try:
                self._worker = self._new_worker()
                self._worker.work(logging_level=level)
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("the worker of queue %s failed", self._queue)
            if not self._stopping.wait(1.0):
                log.warning("queue %s: starting another worker", self._queue)

    def stop(self) -> None:
        """Finish the jobs under way and take no more."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.stop()

    def _new_worker(self) -> CallWorker:
        return self._make(
            [self._queue],
            # In a container, host and process id are the same after a restart: the random part
            # keeps the name apart from a dead worker's, which Redis may still know.
            name=f"{self._process}.{self._queue}.{secrets.token_hex(3)}",
            # A connection of its own: RQ sets a time limit of minutes on it.
            connection=connect(self._settings.require_redis()),
            serializer=JSONSerializer,
            job_class=self._jobs,
            # A description may hold a token.
            log_job_description=False,
        )
