"""A client for a Redis server, or for the master that Sentinels name."""

import select
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import BlockingConnectionPool, Connection, ConnectionPool, Redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ExecAbortError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from app.settings import SettingsError

_SENTINEL_PORT = 26_379
# The most seconds that a blocking command may wait.
BLOCK_LIMIT = 0.5
# Seconds to wait for a connection if their number is limited.
_TURN = 3.0

# The system's own poll, which gevent replaces. A process that has not loaded gevent still has it in
# `select`, and starts sooner without gevent.
_gevent = sys.modules.get("gevent.monkey")
_poll = _gevent.get_original("select", "poll") if _gevent else select.poll


class _CountingRetry(Retry):
    """A retry that counts the failures."""

    def call_with_retry(self, do: Any, fail: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def failed(*error: Any) -> Any:
            # Imported here: a process that counts nothing starts sooner without the metrics.
            from app.telemetry import counting

            counting.redis_error()
            return fail(*error)

        return super().call_with_retry(do, failed, *args, **options)


class _Look:
    """A connection that checks with the system's own poll whether it was closed or has a reply left
    over. A pool checks this before each use. Under gevent redis-py's own check takes a turn of the
    loop, which costs as much as a command."""

    def can_read(self: Any, timeout: float = 0) -> bool:
        if not timeout and self._sock is not None and not self._parser._reader.has_data():
            poll = _poll()
            poll.register(self._sock, select.POLLIN)
            if not poll.poll(0):
                return False
        return bool(super().can_read(timeout))  # type: ignore[misc]


class _Connection(_Look, Connection):
    pass


class _ManagedConnection(_Look, SentinelManagedConnection):
    pass


class _BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    pass


def connect(
    url: str,
    *,
    timeout: float = 5.0,
    retries: int = 3,
    connections: int | None = None,
    counted: bool = True,
    **options: Any,
) -> Redis:
    """Connect lazily to ``redis://``, ``rediss://``, ``unix://`` or
    ``redis+sentinel://[user:password@]host[:port],host[:port]/service[/db]``.

    ``timeout`` is the seconds that each of ``retries`` + 1 attempts at a command may take.
    ``connections`` limits the number of connections; a greenlet then waits up to _TURN seconds for
    a free one. The metrics of the process count each error if ``counted``. Replies are bytes, as
    RQ needs them. Raises SettingsError for another form.
    """
    options = {
        "socket_connect_timeout": min(2.0, timeout),
        # A blocking command takes less than this: see BLOCK_LIMIT.
        "socket_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": 15,
        # With notifications enabled, redis-py takes a reply that was left over for a notification,
        # and gives it to the next command of that connection.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        # The client sends a command again when it gets no answer. Redis may have carried out the
        # first copy: a change of a call names the version that it changes, and a write that must
        # not happen twice goes through once.lua.
        "retry": (_CountingRetry if counted else Retry)(
            ExponentialWithJitterBackoff(cap=0.5, base=0.05), retries
        ),
        **options,
    }
    if connections is not None:
        options |= {"max_connections": connections, "timeout": _TURN}
    if url.startswith("redis+sentinel://"):
        return _sentinel(url, options)
    if url.startswith("redis://"):
        # Sentinel and unix sockets have connection classes of their own.
        options["connection_class"] = _Connection
    if url.startswith("unix://"):
        del options["socket_keepalive"]
    pool = ConnectionPool if connections is None else BlockingConnectionPool
    try:
        return Redis.from_pool(pool.from_url(url, **options))
    except ValueError as error:
        raise SettingsError(f"RINGBACK_REDIS_URL cannot be used: {error}") from error


def _sentinel(url: str, options: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    service, _, db = parts.path.strip("/").partition("/")
    hosts = parts.netloc.rpartition("@")[2]
    if not service or not hosts or (db and not db.isdecimal()):
        raise SettingsError(
            "RINGBACK_REDIS_URL must be redis+sentinel://host:port,host:port/service/db."
        )
    try:
        sentinels = [
            (host.strip("[]"), int(port or _SENTINEL_PORT))
            for host, _, port in (h.partition(":") for h in hosts.split(","))
        ]
    except ValueError as error:
        raise SettingsError(f"RINGBACK_REDIS_URL has a bad Sentinel port: {error}") from error
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    # Skip a dead Sentinel soon: the others know as much.
    each = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
    pool: Any = Sentinel(sentinels, sentinel_kwargs=each)  # type: ignore[no-untyped-call]
    options["connection_class"] = _ManagedConnection
    if "max_connections" in options:
        options["connection_pool_class"] = _BlockingSentinelPool
    master: Redis = pool.master_for(service, db=int(db or 0), **options)
    return master


# The errors of a command while Redis is unavailable: down, failing over, loading or full. Below
# them, the first words of errors that have no class in redis-py.
_UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    # The error of a transaction in which Redis refused a command for such a reason.
    ExecAbortError,
)
_REFUSALS = ("NOREPLICAS", "MISCONF", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "TRYAGAIN", "UNBLOCKED")


def is_unavailable(error: BaseException) -> bool:
    """Whether the error says that Redis is unavailable now and a retry may help."""
    if isinstance(error, _UNAVAILABLE):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(_REFUSALS)
