"""An RQ worker whose jobs run in this process, on gevent, and keep its switch connections."""

from typing import Any

import gevent
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.timeouts import BaseDeathPenalty

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
