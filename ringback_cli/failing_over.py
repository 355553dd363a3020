"""A planned failover of Redis that loses nothing: all writes stop before the Sentinels promote a
replica, so it has all.

SENTINEL FAILOVER by itself promotes a replica while the old master goes on taking writes. For ten
seconds after that Sentinel leaves the old master as it is, and the new one is short of a replica.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click
from redis.exceptions import RedisError, ResponseError

from app.store.client import connect, sentinels_of
from app.store.maintenance import connected
from ringback_cli.commands.maintenance import begin, end
from ringback_cli.session import Session

# Seconds for which the old master takes no writes at most, until another is named, and until the
# new one has its replicas.
_PAUSE, _NAMED, _REPLICAS = 20.0, 15.0, 60.0
# Seconds between two looks.
_LOOK = 0.05

Address = tuple[str, int]


def fail_over(session: Session, why: str, tell: Callable[[str], None]) -> Address:
    """Fail over to a replica, and return the new master. Raises ClickException where the master
    stays what it was, and where the new one lacks replicas; maintenance is off then too."""
    url = session.settings.require_redis()
    service, sentinels = sentinels_of(url)
    old = _master(service, sentinels)
    master: Any = connect(url, at=old, timeout=3.0, retries=1, counted=False)
    have, wanted = begin(session, why)
    try:
        if not wanted or have < wanted:
            raise click.ClickException(
                f"{have} of {wanted} replicas have all, so no failover was begun. "
                "Look at `redis-cli info replication`."
            )
        new = _promote(service, sentinels, master, old, wanted)
        tell(f"{new[0]} port {new[1]} is the master.")
        _await_replicas(connect(url, at=new, counted=False), wanted, session)
    finally:
        _end(session)
    return new


def _end(session: Session) -> None:
    """Switch maintenance off. Some Sentinel may name the old master for a moment longer."""
    for _ in range(50):
        with suppress(RedisError):
            end(session)
            return
        time.sleep(_LOOK * 4)
    raise click.ClickException("Redis is unavailable. Run `ringback maintenance off` later.")


def _promote(
    service: str, sentinels: list[Any], master: Any, old: Address, replicas: int
) -> Address:
    """Stop the writes, have the Sentinels promote a replica, and make the old master its
    replica."""
    try:
        try:
            master.execute_command("CLIENT", "PAUSE", int(_PAUSE * 1000), "WRITE")
        except ResponseError as error:
            raise click.ClickException(
                f"This user of Redis may not stop writes ({error}), so no failover was begun. "
                "Set RINGBACK_REDIS_URL to the default user for this command."
            ) from error
        _await_all(master, replicas)
        _ask_sentinels(service, sentinels)
        new = _await_master(service, sentinels, old)
        # It keeps its data as far as they are the same, since it has written nothing since.
        master.execute_command("REPLICAOF", *new)
        return new
    finally:
        # A server that has gone needs none.
        with suppress(RedisError):
            master.execute_command("CLIENT", "UNPAUSE")


def _await_all(master: Any, replicas: int) -> None:
    """Wait until so many replicas have the last byte that the paused master wrote."""

    def have_all() -> bool:
        info: Any = master.info("replication")
        offsets = [info[f"slave{n}"]["offset"] for n in range(info["connected_slaves"])]
        return len([each for each in offsets if each >= info["master_repl_offset"]]) >= replicas

    if not _comes(have_all, 5.0):
        raise click.ClickException("A replica lags behind, so no failover was begun.")


def _ask_sentinels(service: str, sentinels: list[Any]) -> None:
    error: Exception | None = None
    for sentinel in sentinels:
        try:
            sentinel.execute_command("SENTINEL FAILOVER", service)
            return
        except RedisError as refused:
            error = refused
    raise click.ClickException(f"No Sentinel fails over: {error}.")


def _await_master(service: str, sentinels: list[Any], old: Address) -> Address:
    found: list[Address] = []

    def is_named() -> bool:
        with suppress(click.ClickException):
            found[:] = [_master(service, sentinels)]
        return found != [old]

    if not _comes(is_named, _NAMED):
        raise click.ClickException("The Sentinels have named no other master.")
    return found[0]


def _await_replicas(master: Any, wanted: int, session: Session) -> None:
    """Wait until the new master has as many replicas as the old one had: with fewer it may accept
    no call."""

    def are_there() -> bool:
        with suppress(RedisError):
            return connected(master) >= wanted
        return False

    if not _comes(are_there, _REPLICAS):
        raise click.ClickException(
            f"The new master has not {wanted} replicas after {_REPLICAS:.0f} s. RINGBACK_WAIT_"
            f"REPLICAS is {session.settings.wait_replicas}. Look at `redis-cli info replication`."
        )


def _master(service: str, sentinels: list[Any]) -> Address:
    """The master that most of the Sentinels that answer name."""
    named: list[Address] = []
    for sentinel in sentinels:
        with suppress(RedisError):
            reply: Any = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", service)
            if reply:
                host, port = reply
                named.append((host.decode() if isinstance(host, bytes) else host, int(port)))
    if not named:
        raise click.ClickException(f"No Sentinel names a master of {service!r}.")
    return max(set(named), key=named.count)


def _comes(holds: Callable[[], bool], limit: float) -> bool:
    end_at = time.monotonic() + limit
    while not holds():
        if time.monotonic() >= end_at:
            return False
        time.sleep(_LOOK)
    return True
