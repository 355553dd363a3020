"""One process each: the API, a worker, a listener, the simulator.

What they need of gevent is patched by the command line before anything else is imported.
"""

import logging
import signal
from collections.abc import Callable
from typing import Any

import gevent
from gunicorn.app.base import BaseApplication
from rq.serializers import JSONSerializer

from app import create_app
from app.accounts.store import read_accounts
from app.calls.queue import ACTIONS, CALLS
from app.redis_client import connect
from app.settings import Settings
from freeswitch.pool import SwitchPool
from workers import jobs
from workers.listener import SwitchListener
from workers.rq_worker import CallWorker
from workers.runtime import Runtime, switch_addresses

log = logging.getLogger(__name__)


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        host, port = self._settings.http_address
        self.cfg.set("bind", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        # One process answers many at once; how many processes, WEB_CONCURRENCY says.
        self.cfg.set("worker_class", "gevent")
        self.cfg.set("keepalive", 30)
        # Its path is one for all of a user's servers.
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("loglevel", self._settings.log_level.lower())

    def load(self) -> Any:
        return create_app(self._settings)


def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT. Raises SettingsError before it listens."""
    settings.require_redis()
    # Here too, so that a bad file stops the start and not each server process.
    read_accounts(settings.accounts)
    _Gunicorn(settings).run()


def run_worker(settings: Settings) -> None:
    """Take jobs until SIGTERM or SIGINT, then finish those under way. Raises SettingsError."""
    runtime = Runtime.create(settings)
    pool = SwitchPool(switch_addresses(settings))
    jobs.bind(jobs.JobContext(runtime, pool))
    # A worker for each queue: actions never wait behind new calls, and RQ takes jobs from a
    # single queue in a way that loses none.
    workers = [
        CallWorker(
            [queue],
            name=f"{runtime.name}.{queue}",
            # Its own: RQ gives its connections a time limit of minutes.
            connection=connect(settings.require_redis()),
            serializer=JSONSerializer,
        )
        for queue in (CALLS, ACTIONS)
    ]
    pool.start()

    def stop() -> None:
        for worker in workers:
            worker.stop()
        pool.stop_waiting()

    greenlets = [gevent.spawn(worker.work, logging_level=settings.log_level) for worker in workers]
    _until_signal(stop, greenlets)
    pool.stop()


def run_listener(settings: Settings) -> None:
    """Follow the switches' events until SIGTERM or SIGINT. Raises SettingsError."""
    runtime = Runtime.create(settings)
    listeners = [SwitchListener(runtime, address) for address in switch_addresses(settings)]

    def stop() -> None:
        for listener in listeners:
            listener.stop()

    _until_signal(stop, [gevent.spawn(listener.run) for listener in listeners])


def run_simulator_process(settings: Settings) -> None:
    """Serve the simulated switch until SIGTERM or SIGINT."""
    # Only here: no other process needs it.
    from freeswitch.simulator import run

    host, port = settings.simulator_address
    run(host, port, "ClueCon", speed=settings.simulator_speed, seed=settings.simulator_seed)


def _until_signal(stop: Callable[[], None], greenlets: list[gevent.Greenlet]) -> None:
    """Run until all greenlets are done, which :func:`stop` asks of them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop)
    gevent.joinall(greenlets)
