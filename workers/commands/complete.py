"""What the shell completes: names and ids from Redis, within a moment or not at all."""

from collections.abc import Callable, Iterable

import click

from app.store import index
from workers.commands.session import Session

# Seconds that Redis may take to answer, and how many words are offered.
_LIMIT = 0.3
_MOST = 100

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _offering(read: Callable[[Session], Iterable[str]]) -> Completer:
    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        try:
            words = read(Session.open(timeout=_LIMIT, retries=0))
            return [word for word in words if word.startswith(begun)][:_MOST]
        except Exception:
            # A shell that completes a word has no place for what went wrong.
            return []

    return complete


def _ids(session: Session, key: str) -> list[str]:
    return index.page(session.redis, key, index.ALL, 0, _MOST, newest_first=True)[0]


live_calls = _offering(lambda session: _ids(session, session.keys.calls))
calls = _offering(
    lambda session: [*_ids(session, session.keys.calls), *_ids(session, session.keys.records)]
)
switches = _offering(lambda session: session.switches.names())
extensions = _offering(lambda session: session.accounts.extensions)
users = _offering(lambda session: session.accounts.users)
organizations = _offering(lambda session: session.accounts.organizations)
apps = _offering(lambda session: session.accounts.apps)
