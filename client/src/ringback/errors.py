"""The errors of the client, one class for each thing that a program may do about them."""

from typing import Any


class RingbackError(Exception):
    """An error of the API or on the way to it.

    ``status`` is the status of HTTP, 0 without an answer. ``code`` is stable, ``message`` is for a
    developer. ``field`` names the refused value: a JSON pointer into the body
    (``/phoneCallView/0/source/0``) or a parameter. ``value`` is that value, ``reason`` says why,
    ``doc`` is the address of the code's documentation. ``request_id`` finds the request in the
    server's logs. ``retry_after`` is in seconds. ``details`` are all further members of the
    answer's error. What the answer does not say is None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        # All of them, so that the error survives pickle: job queues keep it so.
        super().__init__(status, code, message, details, retry_after)
        self.status = status
        self.code = code
        self.message = message
        self.details = details or {}
        self.retry_after = retry_after
        self.field: str | None = self.details.get("field")
        self.value: Any = self.details.get("value")
        self.reason: str | None = self.details.get("reason")
        self.doc: str | None = self.details.get("doc")
        self.request_id: str | None = self.details.get("request_id")

    def __str__(self) -> str:
        where = f"({self.field}: {self.value!r})" if self.field and self.value is not None else None
        return " ".join(filter(None, (f"{self.code}: {self.message}", self.reason, where)))


class NotFound(RingbackError):
    """There is no such call, or the app may not see it."""


class Authentication(RingbackError):
    """The token, or the client id with its secret, is not accepted."""


class Permission(RingbackError):
    """The app may not do this, or a policy bars the number."""


class Quota(RingbackError):
    """A cap or a limit has no room. It may have some after ``retry_after`` seconds."""


class Invalid(RingbackError):
    """The request has a bad value: ``field`` and ``value`` name it."""


class Unavailable(RingbackError):
    """The API, Redis or the switch is unavailable. Nothing was done."""


class OutcomeUnknown(RingbackError):
    """The API may have done what it was asked for, or not.

    Place a call again only with the same ``nonce``: then it is placed once.
    """

    nonce: str | None = None
