"""Completes names and ids for the shell, which waits for the answer at most a moment."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import click

from ringback_cli.session import Session

# Seconds that Redis may take to answer, and the most words that are offered.
_LIMIT = 0.3
_MOST = 100
# The most ids of an index that are looked at.
_LOOKED_AT = 10_000

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _offering(read: Callable[[Session], Iterable[str]]) -> Completer:
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        try:
            words = read(Session.open(timeout=_LIMIT, retries=0))
            return list(islice((word for word in words if word.startswith(begun)), _MOST))
        except Exception:
            # A shell that completes a word has no place for an error.
            return []

    return complete


def _ids(session: Session, key: str) -> Iterator[str]:
    """The ids of an index, the newest first."""
    from app.store import index

    ids = (call_id for some in index.walk(session.redis, key) for call_id, _ in some)
    return islice(ids, _LOOKED_AT)


def _accounts(table: str) -> Completer:
    """Completes the names of a table of the accounts."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        return _offering(lambda session: _names(session, table, begun))(context, parameter, begun)

    return complete


def _names(session: Session, table: str, begun: str) -> Iterator[str]:
    """The names of rows. Redis chooses them: to read all takes longer than a shell should wait."""
    # An extended number has a *.
    plain = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in begun)
    found = session.redis.hscan_iter(
        session.keys.account_rows, match=f"{table} {plain}*", count=_LOOKED_AT
    )
    return (name.decode().partition(" ")[2] for name, _ in found)


live_calls = _offering(lambda session: _ids(session, session.keys.calls))
calls = _offering(
    lambda session: chain(_ids(session, session.keys.calls), _ids(session, session.keys.records))
)
switches = _offering(lambda session: session.switches.names())
extensions = _accounts("extensions")
users = _accounts("users")
organizations = _accounts("organizations")
apps = _accounts("apps")
