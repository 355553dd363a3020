"""Completes names and ids for the shell, which waits for the answer at most a moment."""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from ringback_cli.session import Session

# Seconds that Redis may take to answer, and the most words that are offered.
_LIMIT = 0.3
_MOST = 100

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _offering(read: Callable[[Session], Iterable[str]]) -> Completer:
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        if "redis" not in sys.modules:
            # redis loads OpenTelemetry where it is installed, which takes a third of the time.
            sys.modules["opentelemetry"] = None  # type: ignore[assignment]
        try:
            words = read(Session.open(timeout=_LIMIT, retries=0))
            return [word for word in words if word.startswith(begun)][:_MOST]
        except Exception:
            # A shell that completes a word has no place for an error.
            return []

    return complete


def _ids(session: Session, key: str) -> list[str]:
    from app.store import index

    places, _ = index.page(session.redis, key, index.ALL, 0, _MOST, newest_first=True)
    return [call_id for call_id, _ in places]


def _accounts(table: str, field: str) -> Completer:
    """Completes one field of a table of the accounts."""

    def read(session: Session) -> list[str]:
        # The document as it is: to load the accounts takes longer than a shell should wait.
        document: Any = session.redis.hget(session.keys.accounts, "document")
        return [row[field] for row in json.loads(document)[table]]

    return _offering(read)


live_calls = _offering(lambda session: _ids(session, session.keys.calls))
calls = _offering(
    lambda session: [*_ids(session, session.keys.calls), *_ids(session, session.keys.records)]
)
switches = _offering(lambda session: session.switches.names())
extensions = _accounts("extensions", "number")
users = _accounts("users", "id")
organizations = _accounts("organizations", "number")
apps = _accounts("apps", "id")
