"""The processes of Ringback: the API, a worker, a listener, webhooks, the simulator.

The command line applies gevent's patches before it imports anything else.
"""

import atexit
import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import gevent
from gevent.event import Event as Flag
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.http import message as http_message
from gunicorn.workers.ggevent import GeventWorker

from app import create_app
from app.accounts.store import AccountStore
from app.errors import ApiError, api_error, http_error
from app.health.parts import OtherListeners, impatient_store, listener_parts, worker_parts
from app.records.opening import LONG, open_archive
from app.services import prepare_accounts
from app.settings import Settings, SettingsError, parse_networks
from app.store.client import connect
from app.store.format import check_at_start
from app.store.keys import Keys
from app.store.queue import ACTIONS, CALLS, REQUESTS
from app.stream.services import CallStream
from app.telemetry import counting, logs, tracing
from app.telemetry.request_ids import HEADER, UPPER, request_id
from app.web.proxies import client, is_proxy, told_in
from app.web.services import EXTENSION
from freeswitch.address import SwitchAddress
from freeswitch.pool import SwitchPool
from workers import jobs, side_page
from workers.claiming import ClaimingWorker
from workers.connections import Addresses, HeadersTimeout, Limits, limited, most_of_one, places
from workers.dispatch import Dispatcher
from workers.following import Following
from workers.housekeeping import keep_house
from workers.listener.common import CommonWatchdog
from workers.listener.unwritten import listen
from workers.listeners import Listeners
from workers.reporting import keep_reporting
from workers.requests import RequestJob, Requests, RequestWorker
from workers.rq_worker import QueueRunner
from workers.runtime import Runtime, tell_ready
from workers.side_page import telling
from workers.webhooks.delivery import Delivery

log = logging.getLogger(__name__)

# The most seconds that a process takes to stop after SIGTERM.
GRACE = 10
# The seconds of these in which it sends the spans that are left.
_FLUSH = 3.0
# The most bytes of the first line of an HTTP request.
_MOST_REQUEST_LINE = 64 * 1024
# Seconds after which a client with too many connections may retry.
_RETRY_AFTER = 1
# The most connections to Redis of the process that delivers call events.
_WEBHOOK_CONNECTIONS = 32


class _GunicornLogger(Logger):  # type: ignore[misc]
    """A logger for gunicorn that leaves its lines to the process's own handler."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for each in (self.error_log, self.access_log):
            each.handlers.clear()
            each.propagate = True
        self.access_log.setLevel(logging.NOTSET)

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Log a request at DEBUG, since clients poll. The line omits the query, which may hold a
        token."""
        if self.access_log.isEnabledFor(logging.DEBUG):
            # The environment of a request that gunicorn refuses has no path.
            asked = req.method, req.path
            seconds = request_time.total_seconds()
            self.access_log.debug("%s %s: %s in %.3f s", *asked, resp.status, seconds)


class _GunicornWorker(GeventWorker):  # type: ignore[misc]
    """A server process that limits connections. Its lines name the request that they are about,
    until the next request on the same connection."""

    settings: Settings

    def run(self) -> None:
        settings = self.settings
        self.limits = Limits(settings.body_timeout, settings.send_timeout)
        self.proxies = parse_networks(settings.proxies or "")
        self.addresses = Addresses(most_of_one(settings, self.worker_connections))
        super().run()

    def timeout_ctx(self) -> gevent.Timeout:
        return gevent.Timeout(self.cfg.keepalive, HeadersTimeout())

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        if listener.fileno() < 0:
            # The process stops, and has closed its listener since it took the connection.
            util.close(client)
            return
        if is_proxy(addr[0], self.proxies):
            super().handle(listener, limited(client, self.limits), addr)
            return
        with self.addresses.counted(addr[0]) as has_room:
            if has_room:
                super().handle(listener, limited(client, self.limits), addr)
            else:
                _refuse(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        sock.begin(req)
        # Clients take turns, whatever they send at once.
        gevent.sleep(self.addresses.pause(addr[0]) if sock.is_pipelined else 0)
        try:
            if not is_proxy(addr[0], self.proxies):
                super().handle_request(listener_name, req, sock, addr)
            else:
                # A proxy has connections for many clients.
                address = client(addr[0], told_in(req.headers), self.proxies).address
                with self.addresses.counted(address) as has_room:
                    if not has_room:
                        logs.bind(request_id=request_id(dict(req.headers).get(UPPER)))
                        _answer(sock, api_error("connections_exceeded", retry_after=_RETRY_AFTER))
                        raise StopIteration
                    super().handle_request(listener_name, req, sock, addr)
            logs.unbind_request()
        finally:
            sock.end()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request in place of the application, which has perhaps not seen it."""
        if isinstance(exc, HeadersTimeout):
            if client.begun:
                _answer(client, api_error("request_timeout"))
            return
        if logs.bound("request_id") is None:
            sent = dict(req.headers).get(UPPER) if req is not None else None
            logs.bind(request_id=request_id(sent))
        super().handle_error(req, client, addr, exc)
        logs.unbind_request()


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Made once, before the server processes are.
        self._side = side_page.listen(settings)
        super().__init__()

    def load_config(self) -> None:
        # inArray takes 500 values. gunicorn takes no setting above this constant.
        http_message.MAX_REQUEST_LINE = _MOST_REQUEST_LINE
        self.cfg.set("limit_request_line", _MOST_REQUEST_LINE)
        host, port = self._settings.http_address
        self.cfg.set("bind", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        # One process answers many requests at once. WEB_CONCURRENCY sets the number of processes.
        _GunicornWorker.settings = self._settings
        self.cfg.set("worker_class", _GunicornWorker)
        # A process that stops waits for idle connections too, so this is short. It is the time for
        # the headers of a request too.
        self.cfg.set("keepalive", 5)
        self.cfg.set("worker_connections", places())
        # It would send without a time limit.
        self.cfg.set("sendfile", False)
        # Ringback reads what proxies say by itself: app/web/proxies.py.
        self.cfg.set("forwarded_allow_ips", "")
        self.cfg.set("post_worker_init", _end_streams)
        self.cfg.set("worker_exit", lambda arbiter, worker: tracing.stop(_FLUSH))
        # A process that stops answers its requests first. None waits longer for the switch.
        self.cfg.set("graceful_timeout", max(GRACE, int(self._settings.action_timeout) + 2))
        # All servers of one user would share the path of this socket.
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("loglevel", self._settings.log_level.lower())
        self.cfg.set("logger_class", _GunicornLogger)

    def load(self) -> Any:
        try:
            tracing.start(self._settings, "api")
            app = create_app(self._settings)
        except SettingsError as error:
            # Otherwise gunicorn would print the stack and start another server process.
            log.critical("%s", error)
            sys.exit(Arbiter.APP_LOAD_ERROR)
        if self._side is not None:
            side_page.tell_beside(self._settings, self._side)
        _keep_loaded()
        gevent.spawn(counting.keep_written)
        accounts = app.extensions[EXTENSION][AccountStore]
        gevent.spawn(accounts.keep_current)
        gevent.spawn(keep_house, self._settings, accounts)
        return app


def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT. Raises SettingsError before it listens."""
    # It reads the URL, and the files that the URL names, and opens no connection.
    connect(settings.require_redis())
    # The master checks the file too, or each server process would fail by itself.
    prepare_accounts(settings)
    tracing.check(settings)
    # gunicorn's own answer to a request that it refuses is a page in HTML.
    util.write_error = _write_error
    # `ps` must show `ringback api`, but gunicorn and RQ rename their processes if setproctitle is
    # installed.
    util._setproctitle = lambda title: None
    _Gunicorn(settings).run()


def _end_streams(worker: Any) -> None:
    """End the streams of a server process when it stops."""
    worker.wsgi.extensions[EXTENSION][CallStream].feed.ends_when(lambda: not worker.alive)


def _write_error(socket: Any, status: int, reason: str, message: str) -> None:
    """Answer what gunicorn refuses, in the form that all errors have."""
    error = http_error(status)
    error.details["reason"] = message or reason
    _answer(socket, error)


def _refuse(socket: Any) -> None:
    """Answer a connection that is one too many, and close it."""
    try:
        _answer(socket, api_error("connections_exceeded", retry_after=_RETRY_AFTER))
    finally:
        util.close(socket)


def _answer(socket: Any, error: ApiError) -> None:
    """Answer in place of the application. What does not go out at once does not go out: the client
    may read nothing."""
    named = logs.bound("request_id") or request_id(None)
    about = {"code": error.code, "message": error.message, **error.details}
    # The request named no host that could be trusted.
    about |= {"doc": f"/errors#{error.code}", "request_id": named}
    body = json.dumps({"error": about})
    retry = "" if error.retry_after is None else f"Retry-After: {error.retry_after}\r\n"
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nConnection: close\r\n"
        f"{HEADER}: {named}\r\nCache-Control: no-store\r\n{retry}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with suppress(OSError):
        socket.send((head + body).encode(), timeout=0.0)


def run_worker(settings: Settings) -> None:
    """Take jobs until SIGTERM or SIGINT, then finish those under way. Raises SettingsError."""
    runtime = Runtime.create(settings)
    tracing.start(settings, "worker")
    pool = SwitchPool(
        (),
        on_up=lambda _: dispatcher.look(),
        on_down=lambda name: counting.disconnected(name, "worker"),
        on_unknown=lambda: following.look(),
    )

    def follow(addresses: list[SwitchAddress]) -> None:
        runtime.outcomes.follow(address.name for address in addresses)
        pool.follow(addresses)

    following = Following(runtime, follow)
    dispatcher = Dispatcher(runtime, pool)
    jobs.bind(jobs.JobContext(runtime, pool, dispatcher))
    requests = Requests(settings)
    queue = runtime.keys.queue
    # A worker for each queue: actions never wait behind new calls, and RQ takes jobs from a
    # single queue in a way that loses none.
    queues = [
        QueueRunner(
            *(settings, queue(CALLS), runtime.name, jobs.OF_CALLS),
            partial(ClaimingWorker, dispatcher),
        ),
        QueueRunner(settings, queue(ACTIONS), runtime.name, jobs.OF_ACTIONS),
        QueueRunner(
            *(settings, queue(REQUESTS), runtime.name, requests.functions),
            *(partial(RequestWorker, requests), RequestJob),
        ),
    ]
    following.begin()
    pool.start()
    follows = gevent.spawn(following.run)
    # What is about to be dialled waits for no rows of the accounts.
    looks = gevent.spawn(runtime.accounts.keep_current)

    def stop() -> None:
        for runner in queues:
            runner.stop()
        dispatcher.stop()

    runners = [gevent.spawn(runner.run) for runner in queues]

    def finish() -> None:
        gevent.joinall(runners)
        dispatcher.finish()

    reporting = gevent.spawn(keep_reporting, runtime.outcomes)
    with telling(settings, "worker", lambda: pool.connected, worker_parts):
        _until_signal(stop, [*runners, gevent.spawn(dispatcher.run), gevent.spawn(finish)])
    reporting.kill()
    # What is under way may still need a switch that was added a moment ago.
    follows.kill()
    looks.kill()
    pool.stop()


def run_listener(settings: Settings) -> None:
    """Follow the switches' events until SIGTERM or SIGINT. Raises SettingsError."""
    runtime = Runtime.create(settings)
    tracing.start(settings, "listener")
    listeners, common = Listeners(runtime), CommonWatchdog(runtime)
    unwritten = gevent.spawn(listen, runtime, listeners.links)
    reporting = gevent.spawn(keep_reporting, runtime.outcomes)
    others = OtherListeners(impatient_store(settings), runtime.name)
    parts = partial(listener_parts, heard_by_others=others)

    def stop() -> None:
        common.stop()
        listeners.stop()

    with telling(settings, "listener", listeners.hear, parts):
        _until_signal(stop, [gevent.spawn(listeners.run), gevent.spawn(common.run)])
    unwritten.kill()
    reporting.kill()


def run_webhooks(settings: Settings) -> None:
    """Deliver call events until SIGTERM or SIGINT. Raises SettingsError."""
    redis = connect(settings.require_redis(), connections=_WEBHOOK_CONNECTIONS)
    keys = Keys(settings.key_prefix)
    check_at_start(redis, keys)
    delivery = Delivery(settings, redis, keys)
    tracing.start(settings, "webhooks")
    with telling(settings, "webhooks"):
        _until_signal(delivery.stop, [gevent.spawn(delivery.run)])


def run_records_export(settings: Settings, *, once: bool = False) -> None:
    """Export records into the database of RINGBACK_RECORDS_URL until SIGTERM or SIGINT, or ``once``
    all that there are. Raises SettingsError, and with ``once`` RecordsUnavailable."""
    archive = open_archive(settings, timeout=LONG)
    if archive is None:
        raise SettingsError(
            "RINGBACK_RECORDS_URL is not set: give postgresql://USER:PASSWORD@HOST/DATABASE or "
            "sqlite:////PATH."
        )
    # It loads SQLAlchemy, which only the extra `records` brings.
    from workers.records import Export

    redis = connect(settings.require_redis(), connections=2)
    keys = Keys(settings.key_prefix)
    check_at_start(redis, keys)
    export = Export(settings, redis, keys, archive)
    if once:
        export.once()
        return
    export.prepare()
    with telling(settings, "records"):
        _until_signal(export.stop, [gevent.spawn(export.run)])


def run_simulator_process(settings: Settings) -> None:
    """Serve the simulated switch until SIGTERM or SIGINT."""
    # The import stands here because no other process needs the simulator.
    from freeswitch.simulator import run

    host, port = settings.simulator_address
    run(host, port, "ClueCon", speed=settings.simulator_speed, seed=settings.simulator_seed)


def _keep_loaded() -> None:
    """Keep the garbage collector away from all that is loaded by now. A look through all of it
    stops a process for a tenth of a second."""
    gc.collect()
    gc.freeze()
    # Without this the interpreter clears modules away at its end in an order that breaks gevent.
    atexit.register(gc.unfreeze)


def _until_signal(stop: Callable[[], None], greenlets: list[gevent.Greenlet]) -> None:
    """Run until SIGTERM, SIGINT or the end of all greenlets. ``stop`` asks the greenlets to end,
    and they have GRACE seconds for it."""
    stopping = Flag()
    _keep_loaded()

    def stop_soon() -> None:
        log.info("asked to stop")
        stopping.set()
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop_soon)
    gevent.spawn(gevent.joinall, greenlets).link(lambda _: stopping.set())
    tell_ready()
    stopping.wait()
    end = time.monotonic() + GRACE
    gevent.joinall(greenlets, timeout=GRACE)
    if not all(greenlet.dead for greenlet in greenlets):
        log.warning("stops with unfinished work after %s s", GRACE)
    tracing.stop(min(_FLUSH, max(1.0, end - time.monotonic())))
