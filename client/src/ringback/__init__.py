"""For programs that have Ringback make calls: a client of its HTTP API.

Nothing of Ringback's own packages is imported.
"""

from ringback.client import Client
from ringback.errors import RingbackError
from ringback.events import Event, EventStream
from ringback.resources import STATES, Done, PhoneCall, Record, Status, View
from ringback.webhooks import WebhookError, verify_status, verify_webhook

__all__ = [
    "STATES",
    "Client",
    "Done",
    "Event",
    "EventStream",
    "PhoneCall",
    "Record",
    "RingbackError",
    "Status",
    "View",
    "WebhookError",
    "verify_status",
    "verify_webhook",
]
