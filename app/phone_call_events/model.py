"""A PhoneCallEvent as a plain value."""

from dataclasses import dataclass

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
    # The holder's owner at its creation (app.phone_call_events.holders.owner_of). Empty in an event
    # of an older version.
    owner: str = ""
