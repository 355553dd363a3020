"""A client for a Redis server, or for the master that Sentinels name."""

import select
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from redis import BlockingConnectionPool, Connection, ConnectionPool, Redis, SSLConnection
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import UnixDomainSocketConnection
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
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from app.settings import SettingsError
from app.store import redis_url
from app.store.masters import MasterWatch
from app.store.redis_url import RedisUrl

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

    def on_connect_check_health(self: Any, check_health: bool = True) -> None:
        try:
            super().on_connect_check_health(check_health)  # type: ignore[misc]
        except ResponseError as error:
            if not str(error).startswith("DB index"):
                raise
            self.disconnect()
            raise SettingsError(
                f"RINGBACK_REDIS_URL: Redis has no database {self.db}. Take one below its setting"
                " `databases`, 16 by default."
            ) from error


class _LookTls(_Look):
    """A connection by TLS, whose bytes may wait in the TLS layer where `poll` does not see them."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self: Any, sock: socket.socket) -> ssl.SSLSocket:
        wrapped: ssl.SSLSocket = self._tls.wrap_socket(
            sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        self.greet(wrapped)
        return wrapped

    def greet(self, sock: ssl.SSLSocket) -> None:
        """Do the handshake of TLS, which a server that hangs does not answer."""
        try:
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise

    def can_read(self: Any, timeout: float = 0) -> bool:
        if self._sock is not None and self._sock.pending():
            return True
        return bool(super().can_read(timeout))


class _Connection(_Look, Connection):
    pass


class _TlsConnection(_LookTls, SSLConnection):
    pass


class _UnixConnection(_Look, UnixDomainSocketConnection):
    pass


class _Followed:
    """A connection to the master that is cut when the Sentinels name another one."""

    def __init__(self, *, watch: MasterWatch, **options: Any) -> None:
        super().__init__(**options)
        self._watch = watch
        # The socket while it is greeted: redis-py knows it only after that.
        self.greeting: ssl.SSLSocket | None = None

    def _connect_retry(self: Any) -> None:
        self.connect_check_health(check_health=self.connection_pool.check_connection)

    def connect_check_health(
        self: Any, check_health: bool = True, retry_socket_connect: bool = False
    ) -> None:
        """Connect to the master of this moment. redis-py sends a command again to the address that
        it had before, and tries to connect to it four times."""
        if self._sock is None:
            self.host, self.port = self.connection_pool.get_master_address()
            super().connect_check_health(check_health, False)  # type: ignore[misc]

    def greet(self, sock: ssl.SSLSocket) -> None:
        self.greeting = sock
        self._watch.follow(self)
        try:
            super().greet(sock)  # type: ignore[misc]
        finally:
            self.greeting = None

    def on_connect_check_health(self: Any, check_health: bool = True) -> None:
        # Before the greeting, which a server that hangs does not answer.
        self._watch.follow(self)
        super().on_connect_check_health(check_health)  # type: ignore[misc]


class _ManagedConnection(_Followed, _Look, SentinelManagedConnection):
    pass


class _ManagedTlsConnection(_Followed, _LookTls, SentinelManagedSSLConnection):
    pass


class _SentinelClient(Redis):
    """The client of a Sentinel. The error that no master was found names it by its place."""

    def __repr__(self) -> str:
        place = self.connection_pool.connection_kwargs
        return f"Sentinel {place['host']} port {place['port']}"

    def sentinel_masters(self) -> Any:
        try:
            return super().sentinel_masters()
        except ResponseError as error:
            if not str(error).startswith("unknown command"):
                raise
            text = f"RINGBACK_REDIS_URL: at the place of {self!r} is another server."
            raise SettingsError(text) from error


class _BlockingSentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    pass


def connect(
    url: str,
    *,
    timeout: float = 5.0,
    retries: int = 3,
    connections: int | None = None,
    counted: bool = True,
    at: tuple[str, int] | None = None,
    **options: Any,
) -> Redis:
    """Connect lazily to a URL of ``app.store.redis_url``: a server, or the master that Sentinels
    name, with TLS or without.

    ``timeout`` is the seconds that each of ``retries`` + 1 attempts at a command may take.
    ``connections`` limits the number of connections; a greenlet then waits up to _TURN seconds for
    a free one. The metrics of the process count each error if ``counted``. ``at`` is the host and
    port of one server, in place of the master that Sentinels name. Replies are bytes, as
    RQ needs them. Raises SettingsError for another form, and for files of certificates that cannot
    be used.
    """
    options = {
        "socket_connect_timeout": 2.0,
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
    address = redis_url.parse(url)
    if at is not None:
        address = replace(address, service=None, hosts=[at])
    tls = {} if address.tls is None else {"tls": _tls_context(address.tls)}
    options |= {**address.options, **tls}
    options["socket_connect_timeout"] = min(options["socket_connect_timeout"], timeout)
    if connections is not None:
        options |= {"max_connections": connections, "timeout": _TURN}
    if address.service is not None:
        return _master(address, options, tls)
    if address.path is not None:
        del options["socket_keepalive"]
        options |= {"connection_class": _UnixConnection, "path": address.path}
    else:
        ((options["host"], options["port"]),) = address.hosts
        options["connection_class"] = _TlsConnection if tls else _Connection
    pool = ConnectionPool if connections is None else BlockingConnectionPool
    return Redis.from_pool(pool(**options))


def _master(address: RedisUrl, options: dict[str, Any], tls: dict[str, Any]) -> Redis:
    """A client of the master that the Sentinels name."""
    sentinels = _sentinels(address, tls)
    options["watch"] = _watch(address, tls)
    options["connection_class"] = _ManagedTlsConnection if tls else _ManagedConnection
    if "max_connections" in options:
        options["connection_pool_class"] = _BlockingSentinelPool
    master: Redis = sentinels.master_for(address.service, **options)
    return master


def sentinels_of(url: str) -> tuple[str, list[Redis]]:
    """The service of a URL with Sentinels, and a client of each Sentinel. Raises SettingsError,
    also for a URL without."""
    address = redis_url.parse(url)
    if address.service is None:
        raise SettingsError("RINGBACK_REDIS_URL names no Sentinels, which would fail over.")
    tls = {} if address.tls is None else {"tls": _tls_context(address.tls)}
    return address.service, list(_sentinels(address, tls).sentinels)


def _sentinels(address: RedisUrl, tls: dict[str, Any]) -> Any:
    each: dict[str, Any] = {
        # Skip a dead Sentinel soon: the others know as much.
        **{"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)},
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "connection_class": _TlsConnection if tls else _Connection,
        **tls,
        **address.sentinel_options,
    }
    sentinels: Any = Sentinel([])  # type: ignore[no-untyped-call]
    sentinels.sentinels = [
        _SentinelClient.from_pool(ConnectionPool(host=host, port=port, **each))
        for host, port in address.hosts
    ]
    return sentinels


# The watches of this process, by their Sentinels and service.
_watches: dict[tuple[Any, ...], MasterWatch] = {}


def _watch(address: RedisUrl, tls: dict[str, Any]) -> MasterWatch:
    """The watch that all clients of this service share. It has connections of its own: those of a
    client belong to the event loop of its thread."""
    key = (*address.hosts, address.service, *map(str, address.sentinel_options.values()))
    if key not in _watches:
        sentinels = _sentinels(address, tls)
        _watches[key] = MasterWatch(partial(sentinels.discover_master, address.service))
    return _watches[key]


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    """TLS as the options of the URL say. One context serves all connections: redis-py makes one for
    each, which costs 20 ms of CPU. Raises SettingsError for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca, ca_path = options.get("ssl_ca_certs"), options.get("ssl_ca_path")
    cert, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    try:
        if ca or ca_path:
            context.load_verify_locations(ca, ca_path)
        else:
            context.load_default_certs()
        if cert or key:
            # Without a password OpenSSL would ask for one.
            context.load_cert_chain(cert or "", key, options.get("ssl_password", ""))
    except OSError as error:
        names = ", ".join(
            f"{name}={path}" for name, path in options.items() if name in redis_url.FILES
        )
        raise SettingsError(f"RINGBACK_REDIS_URL: cannot use {names}: {error}") from error
    verified = options.get("ssl_cert_reqs") != "none"
    context.check_hostname = verified and options.get("ssl_check_hostname", True)
    context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    return context


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
