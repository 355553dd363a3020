"""The worker of our queues: it keeps its switch connections, and outlives an absence of Redis."""

import logging
import secrets

from gevent.event import Event as Flag
from rq.serializers import JSONSerializer

from app.settings import Settings
from app.store.client import connect, is_unavailable
from workers.rq_worker.batch import BatchWorker, Companion

log = logging.getLogger(__name__)


class CallWorker(BatchWorker):
    """One queue's jobs. A process runs one for each queue."""

    log_result_lifespan = False
    log_job_description = False
    # Seconds between attempts while Redis is away; RQ's own grow to a minute.
    max_connection_wait_time = 2.0
    # Seconds until a Redis is given up that does not answer; RQ's own are minutes, for it blocks
    # as long.
    connection_timeout = 10

    def procline(self, message: str) -> None:
        """Leave the process its name, ``ringback worker``: RQ renames it for each job."""

    def _install_signal_handlers(self) -> None:
        """The process has several workers, and stops them itself."""


class QueueRunner:
    """Keeps a worker on one queue: RQ's own gives up at most errors of Redis."""

    def __init__(
        self, settings: Settings, queue: str, process: str, companion: Companion | None = None
    ) -> None:
        self._settings = settings
        self._companion = companion
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
            companion=self._companion,
        )
