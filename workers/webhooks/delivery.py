"""The process that delivers call events: it takes messages that are due and sends them.

Any number of processes may run. All state is in Redis. When a process dies, its messages are due
again at the end of their leases, so that every message is sent at least once.
"""

import logging
import random
from collections import Counter
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import gevent
from gevent.event import Event as Flag
from gevent.pool import Pool
from redis import Redis
from redis.exceptions import RedisError

from app.accounts import rights
from app.accounts.caller import COMMAND_LINE, Caller
from app.accounts.model import Accounts, App
from app.accounts.scopes import AppScope
from app.accounts.store import AccountStore
from app.calls.model import Call
from app.phone_call_events.holders import is_of_another, may_follow, owner_of
from app.phone_call_events.model import ENABLED, POST
from app.settings import Settings, parse_networks
from app.store.client import BLOCK_LIMIT
from app.store.keys import Keys
from app.telemetry import counting, logs, tracing
from app.web.look_ups import LookUps
from app.web.urls import app_of, is_callable, port
from workers.webhooks import status
from workers.webhooks.messages import Messages, Taken
from workers.webhooks.send import CONNECT_TIMEOUT, FORM, JSON, Failed, send
from workers.webhooks.target import connect

log = logging.getLogger(__name__)

# The most requests at one time: to all targets, to one target, and to a target that has just
# failed. A failing target gets one, so that hanging targets leave room for others.
_MOST = 500
_MOST_OF_TARGET = 16
# One app may have this part of what is free: each of its calls may name another host that hangs.
_PART_OF_APP = 4
# The most failing targets that a process remembers.
_MOST_FAILING = 1000
# Names looked up at a time: each takes a thread for as long as the name server does. The process
# has some more threads, so that it can reach Redis by name.
_LOOK_UPS = 48
_MORE_THREADS = 4
# Seconds between two looks for due messages, and seconds beyond the request's timeout until
# another process takes a message.
_LOOK = 0.5
_LEASE_MARGIN = 5.0
# Seconds between two removals of dead letters that are too old.
_SWEEP = 600.0
# The longest pause between two attempts in seconds, and the pause after an error of Redis.
_MOST_DELAY = 21_600.0
_REDIS_PAUSE = 1.0


class Delivery:
    def __init__(self, settings: Settings, redis: Redis, keys: Keys) -> None:
        self._settings = settings
        self._redis = redis
        self._outbox = keys.outbox
        self._call_key = keys.call
        self._messages = Messages(redis, keys)
        self._accounts = AccountStore(redis, keys, max_age=1.0)
        self._allow = parse_networks(settings.webhook_allow or "")
        self._look_ups = LookUps(
            _LOOK_UPS, min(settings.webhook_timeout, CONNECT_TIMEOUT), part=_PART_OF_APP
        )
        self._pool = Pool(_MOST)
        # The number of requests under way, by target.
        self._in_hand: Counter[str] = Counter()
        # Targets whose last request failed.
        self._failing: set[str] = set()
        self._wake = Flag()
        self._stopping = Flag()

    def stop(self) -> None:
        """Take no more messages; :meth:`run` returns when the requests under way have ended."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        gevent.get_hub().threadpool.maxsize = _LOOK_UPS + _MORE_THREADS
        others = [gevent.spawn(self._route), gevent.spawn(self._sweep)]
        while not self._stopping.is_set():
            try:
                taken = self._claim()
            except RedisError as error:
                self._pause(error)
                continue
            for one in taken:
                self._in_hand[one.target] += 1
                self._pool.spawn(self._attempt, one)
            if not taken:
                self._wake.wait(_LOOK)
            self._wake.clear()
        gevent.joinall([*others, *self._pool])

    def _route(self) -> None:
        while not self._stopping.is_set():
            try:
                # Wait for any entry: `route` removes the entries that it has turned into messages.
                # A process that has died may have left some on their way.
                block = int(BLOCK_LIMIT * 1000)
                self._redis.xread({self._outbox: "0"}, count=1, block=block)
                while self._messages.route() and not self._stopping.is_set():
                    self._wake.set()
            except RedisError as error:
                self._pause(error)

    def _sweep(self) -> None:
        while not self._stopping.is_set():
            try:
                self._messages.sweep()
            except RedisError as error:
                self._pause(error)
            else:
                self._stopping.wait(_SWEEP)

    def _pause(self, error: RedisError) -> None:
        log.error("a command of Redis failed: %s", error)
        self._stopping.wait(_REDIS_PAUSE)

    def _claim(self) -> list[Taken]:
        room = self._pool.free_count()
        if not room:
            return []
        return self._messages.claim(
            lease=self._settings.webhook_timeout + _LEASE_MARGIN,
            most=room,
            most_of_target=_MOST_OF_TARGET,
            in_hand=self._counted(),
            part=_PART_OF_APP,
            of_app=self._of_app(),
        )

    def _of_app(self) -> dict[str, int]:
        """The number of requests under way for each app."""
        found: Counter[str] = Counter()
        for target, count in self._in_hand.items():
            found[app_of(target)] += count
        return dict(found)

    def _counted(self) -> dict[str, int]:
        """The number of requests that each target counts as having."""
        counted = dict(+self._in_hand)
        for target in self._failing:
            counted[target] = counted.get(target, 0) + _MOST_OF_TARGET - 1
        return counted

    def _attempt(self, taken: Taken) -> None:
        try:
            try:
                # This greenlet handles one message.
                logs.bind(call=taken.call_id)
                self._deliver(taken)
            except RedisError:
                raise
            except Exception as error:
                # A fault of Ringback must not cause endless retries.
                log.exception("a message failed by an unexpected error")
                self._failed(taken, Failed(f"{type(error).__name__}: {error}"[:200]))
        except RedisError as error:
            # The message's lease ends, and a process sends it again.
            log.error("a command of Redis failed: %s", error)
        finally:
            self._in_hand[taken.target] -= 1
            if not self._in_hand[taken.target]:
                # The calls of an app may name any number of targets.
                del self._in_hand[taken.target]
            self._wake.set()

    def _deliver(self, taken: Taken) -> None:
        event = taken.event
        is_callback, is_test = "callback" in taken.message, "test" in taken.message
        # A test shows whether a disabled event would work.
        if not is_callback and (event is None or not (is_test or event["status"] == ENABLED)):
            # The PhoneCallEvent was deleted or disabled.
            counting.delivery("dropped")
            self._messages.done(taken)
            return
        try:
            if event is None:
                self._send_status(taken)
            else:
                self._send_event(taken, event)
        except Failed as error:
            if len(self._failing) >= _MOST_FAILING:
                self._failing.clear()
            self._failing.add(taken.target)
            self._failed(taken, error)
        else:
            self._failing.discard(taken.target)
            counting.delivery("delivered")
            if is_test:
                self._messages.tell(taken, None)
            self._messages.done(taken)

    def _send_event(self, taken: Taken, event: dict[str, Any]) -> None:
        message = taken.message
        app = self._app(event, message)
        content = urlencode(message["parameters"])
        post = FORM if event["method"] == POST else None
        self._send(taken, event["url"], content, post, app.webhook_secret)

    def _send_status(self, taken: Taken) -> None:
        callback = taken.message["callback"]
        if not is_callable(callback["url"]):
            # The API has refused it, unless somebody wrote the call past the API.
            raise Failed("the URL is none that may be called", final=True)
        call = status.call_of(taken.message)
        secret = self._secret(callback["app"], call)
        self._send(taken, callback["url"], status.body(taken.message, call), JSON, secret)

    def _send(
        self, taken: Taken, url: str, content: str, post: str | None, secret: str | None
    ) -> None:
        with self._traced(taken, url, "POST" if post else "GET"):
            send(
                url,
                taken.message["id"],
                content,
                post=post,
                at=self._now(),
                secret=secret,
                timeout=self._settings.webhook_timeout,
                open_socket=partial(
                    connect,
                    allow=self._allow,
                    look_ups=self._look_ups,
                    app=app_of(taken.target),
                ),
            )

    def _traced(self, taken: Taken, url: str, method: str) -> AbstractContextManager[None]:
        call_id = taken.call_id
        found: Any = None
        if tracing.is_on():
            with suppress(RedisError):
                found = self._redis.hget(self._call_key(call_id), tracing.FIELD)
        parts = urlsplit(url)
        about = {
            "http.request.method": method,
            "http.request.resend_count": taken.message["attempts"] or None,
            "server.address": parts.hostname,
            "server.port": port(parts),
            "url.scheme": parts.scheme,
            "ringback.message.id": taken.message["id"],
        }
        return tracing.span(call_id, found and found.decode(), "webhook", self._now, about)

    def _secret(self, app_id: str, call: Call) -> str | None:
        """The secret of the app that placed the call, as long as it may see the call. Raises
        Failed."""
        if app_id == COMMAND_LINE:
            return None
        accounts = self._accounts.current()
        app = self._granted(accounts, app_id)
        if not rights.sees(app, accounts, call):
            raise Failed(f"app {app_id} may no longer see its call", final=True)
        return app.webhook_secret

    def _granted(self, accounts: Accounts, app_id: str) -> App:
        """The app, as long as it is there and has the scope for events. Raises Failed."""
        app = accounts.apps.get(app_id)
        if app is None or not app.counts(self._now):
            raise Failed(f"app {app_id} no longer exists", final=True)
        if AppScope.EVENTS not in app.granted:
            raise Failed(f"app {app_id} lacks the scope {AppScope.EVENTS}", final=True)
        return app

    def _app(self, event: dict[str, Any], message: dict[str, Any]) -> App:
        """The app of an event, as long as it may see the calls of the event's holder. Raises
        Failed."""
        accounts = self._accounts.current()
        app = self._granted(accounts, event["app"])
        holder = message.get("holder", message["extension"])
        of = event.get("owner", "")
        # What was told of the owner's own calls is still the owner's.
        is_own = of != "" and message.get("owner") == of and holder == message["extension"]
        if not is_own and is_of_another(of, owner_of(accounts, holder)):
            raise Failed(f"{holder} has another owner now", final=True)
        if not may_follow(Caller(app, accounts), holder):
            raise Failed(f"app {app.id} may no longer see {holder}", final=True)
        return app

    def _now(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)

    def _failed(self, taken: Taken, error: Failed) -> None:
        attempts = taken.message["attempts"]
        if "test" in taken.message:
            # The client that asked for it waits for the result.
            self._messages.tell(taken, error.reason)
            self._messages.done(taken)
            counting.delivery("dropped")
            return
        if error.final or attempts >= self._settings.webhook_retries:
            log.warning("%s to %s is given up: %s", taken.message["id"], taken.target, error)
            self._messages.bury(taken, error.reason)
            counting.delivery("dead")
            return
        delay = retry_delay(attempts, self._settings.webhook_retry_delay)
        log.info("%s to %s, retry in %.0f s: %s", taken.message["id"], taken.target, delay, error)
        self._messages.later(taken, delay)
        counting.delivery("retried")


def retry_delay(attempts: int, first: float) -> float:
    """The seconds before the next attempt, after one attempt and ``attempts`` before it: twice as
    long each time, a quarter more or less."""
    delay: float = min(first * 2**attempts, _MOST_DELAY)
    return delay * random.uniform(0.75, 1.25)
