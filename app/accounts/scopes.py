"""The scopes of apps and of the tokens that OAuth issues: what a program is let do, whatever the
rights of its account."""

from enum import StrEnum


class AppScope(StrEnum):
    CALLS_PLACE = "calls:place"
    # Lists of calls, one call, presence.
    CALLS_READ = "calls:read"
    # Actions and hang-ups. What needs the right to supervise needs CALLS_SUPERVISE too.
    CALLS_ACT = "calls:act"
    CALLS_SUPERVISE = "calls:supervise"
    # The stream, and call events.
    EVENTS = "events"
    CDR_READ = "cdr:read"
    # What only administrators may do: switches and queues in the console.
    ADMIN = "admin"


# The scopes of an app that names none. Only an administrator's app may have ADMIN.
DEFAULT = tuple(scope for scope in AppScope if scope is not AppScope.ADMIN)
ALL = tuple(AppScope)


def parse(text: str) -> tuple[AppScope, ...]:
    """The scopes in a text with blanks between them. Raises ValueError for an unknown one."""
    return tuple(dict.fromkeys(AppScope(word) for word in text.split()))
