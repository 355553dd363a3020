"""A PhoneCallEvent as a plain value."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

# method and status of a PhoneCallEvent
GET, POST = 0, 1
DISABLED, ENABLED = 0, 1


@dataclass(frozen=True, slots=True)
class PhoneCallEvent:
    """A URL that Ringback notifies of one type of event of an extension's calls."""

    id: str
    # One of app.calls.call_events.TYPES.
    type: int
    url: str
    method: int
    status: int
    note: str
    # Epoch seconds.
    modified: float
    # The id of the app that created it or last changed its url or method. The app's secret signs
    # its messages.
    app: str


def target(url: str) -> str:
    """The target of a URL: ``https://host:port``. The messages of one app to one target go in
    order, and only so many at a time."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port(parts)}"


def port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
