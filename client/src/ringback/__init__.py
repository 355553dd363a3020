"""For programs that have Ringback make calls: a client of its HTTP API.

:class:`Client` is for threads, :class:`AsyncClient` for asyncio. The package ``ringback.redis``
reads calls in Redis. Nothing of the server is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from ringback.options import Accept, Announce, Headers, NewCall, StatusCallback
from ringback.resources import STATES, Done, Event, PhoneCall, Record, Status, View
from ringback.version import VERSION as __version__

if TYPE_CHECKING:
    from ringback.async_client import AsyncClient
    from ringback.async_events import AsyncEventStream
    from ringback.client import Client
    from ringback.events import EventStream
    from ringback.webhooks import WebhookError, verify_status, verify_webhook
else:
    # Loaded when they are used: ringback.redis needs redis-py alone.
    _MODULES = {
        "AsyncClient": "async_client",
        "AsyncEventStream": "async_events",
        "Client": "client",
        "EventStream": "events",
        "WebhookError": "webhooks",
        "verify_status": "webhooks",
        "verify_webhook": "webhooks",
    }

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


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
