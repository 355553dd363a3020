"""What a receiver of call events and status callbacks checks, as Standard Webhooks has it."""

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from standardwebhooks import Webhook, WebhookVerificationError

from ringback.resources import Status


class WebhookError(Exception):
    """A message that is not signed with the secret, or was over five minutes ago."""


def verify_webhook(headers: Mapping[str, str], body: bytes | str, secret: str) -> dict[str, str]:
    """The parameters of a call event (``CallAPIID``, ``CallStatus``, …), once it is known to come
    from Ringback. Raises WebhookError.

    ``body`` is the request's body as it came; of a GET the query, as it stands in the URL.
    ``secret`` is the app's ``webhook_secret``. What comes twice has the same ``webhook-id``.
    """
    return dict(parse_qsl(_verified(headers, body, secret), keep_blank_values=True))


def verify_status(headers: Mapping[str, str], body: bytes | str, secret: str) -> Status:
    """What a status callback tells, once it is known to come from Ringback. Raises WebhookError."""
    text = _verified(headers, body, secret)
    try:
        return Status.of(json.loads(text))
    except (ValueError, LookupError, TypeError) as error:
        raise WebhookError("This is no status of a call.") from error


def _verified(headers: Mapping[str, str], body: bytes | str, secret: str) -> str:
    try:
        text = body if isinstance(body, str) else body.decode()
        # As a dict: the headers of some frameworks give pairs of their own.
        Webhook(secret).verify(text, dict(headers.items()), json_parse=False)
    except (WebhookVerificationError, ValueError) as error:
        raise WebhookError(str(error)) from error
    return text
