"""For programs that have Ringback make calls: a client of its HTTP API.

:class:`Client` is for threads, :class:`AsyncClient` for asyncio. The package ``ringback.redis``
reads calls in Redis. Nothing of the server is imported.
"""

from ringback.async_client import AsyncClient
from ringback.async_events import AsyncEventStream
from ringback.client import Client
from ringback.errors import (
    Authentication,
    Invalid,
    NotFound,
    OutcomeUnknown,
    Permission,
    Quota,
    RingbackError,
    Unavailable,
)
from ringback.events import EventStream
from ringback.options import Accept, Announce, Headers, NewCall, StatusCallback
from ringback.resources import STATES, Done, Event, PhoneCall, Record, Status, View
from ringback.version import VERSION as __version__
from ringback.webhooks import WebhookError, verify_status, verify_webhook

__all__ = [
    "STATES",
    "Accept",
    "Announce",
    "AsyncClient",
    "AsyncEventStream",
    "Authentication",
    "Client",
    "Done",
    "Event",
    "EventStream",
    "Headers",
    "Invalid",
    "NewCall",
    "NotFound",
    "OutcomeUnknown",
    "Permission",
    "PhoneCall",
    "Quota",
    "Record",
    "RingbackError",
    "Status",
    "StatusCallback",
    "Unavailable",
    "View",
    "WebhookError",
    "__version__",
    "verify_status",
    "verify_webhook",
]
