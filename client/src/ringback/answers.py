"""The answers of the API: what they hold, and which error a refusal is."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

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
from ringback.requests import Request
from ringback.resources import Done, PhoneCall, Record

T = TypeVar("T")

_BY_STATUS = {401: Authentication, 403: Permission, 404: NotFound, 429: Quota, 501: Invalid}
# The last place in a list that startIndex reaches.
_LAST_START = 5000
# The code of an answer that is not one of Ringback.
_STRANGE = "answer_invalid"
# Ringback sends these with a 503 only if it did nothing.
_NOTHING_DONE = ("service_unavailable", "switch_unreachable")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def retry_after(self) -> float | None:
        """The seconds of Retry-After, which is a number or a date (RFC 9110, 10.2.3)."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdecimal():
            return float(text)
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
        # A date without a zone is UTC.
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - _now())


def _now() -> float:
    return datetime.now(UTC).timestamp()


def read(request: Request, answer: Answer, reader: Callable[[Any], T]) -> T:
    """What a reader makes of the JSON of an answer. Raises RingbackError for another answer."""
    try:
        return reader(json.loads(answer.body))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_answer_of_ringbacks(request, answer) from error


def calls(content: Any) -> list[PhoneCall]:
    return [PhoneCall.of(each) for each in content]


def one_call(content: Any) -> PhoneCall:
    (call,) = content
    return PhoneCall.of(call)


def done(answer: Answer) -> Callable[[Any], Done]:
    return lambda content: Done(PhoneCall.of(content[0]), answer.status == 200)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list. ``next`` is the address of the next one. ``missing``, of the last page, is
    how many entries a server without cursors does not list."""

    entries: list[T]
    next: str | None
    missing: int


def page(entries: Callable[[Any], list[T]]) -> Callable[[Any], Page[T]]:
    def reader(content: Any) -> Page[T]:
        following = content.get("paging", {}).get("next")
        shown = content.get("startIndex", 0) + content.get("itemsPerPage", 0)
        cut = following is None and shown > _LAST_START
        missing = max(0, content["totalResults"] - shown) if cut else 0
        return Page(entries(content["entry"]), following, missing)

    return reader


def records(entry: Any) -> list[Record]:
    return [Record.of(each) for each in entry.values()]


def token(content: Any) -> tuple[str, float]:
    """A token, and the seconds that it is valid for."""
    return str(content["access_token"]), float(content["expires_in"])


def event_id(content: Any) -> str:
    return str(content["id"])


def error_of(request: Request, answer: Answer) -> RingbackError:
    """The error for an answer that refuses a request."""
    try:
        content = json.loads(answer.body)
        error = content["error"]
        if isinstance(error, str):
            # RFC 6749, 5.2.
            error = {"code": error, "message": content.get("error_description", "")}
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return _no_answer_of_ringbacks(request, answer)
    details = {name: value for name, value in error.items() if name not in ("code", "message")}
    details.setdefault("request_id", answer.headers.get("x-request-id"))
    found = _kind(request, answer.status, code)
    return _made(request, found, answer, code, message, details)


def _kind(request: Request, status: int, code: str) -> type[RingbackError]:
    if code == "pc_phonecall_invalid":
        return NotFound
    if status == 404 and code in (_STRANGE, "request_not_found"):
        # There is no API at this address, which says nothing about a call.
        return RingbackError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        # A refused client id is 400 or 401 (RFC 6749, 5.2).
        return Invalid if request.bearer else Authentication
    if status < 400:
        return OutcomeUnknown if request.changes and status < 300 else RingbackError
    unknown = request.changes and code not in _NOTHING_DONE
    return OutcomeUnknown if unknown else Unavailable


def _no_answer_of_ringbacks(request: Request, answer: Answer) -> RingbackError:
    place = request.path.partition("?")[0]
    message = f"The answer to {request.method} {place}, {answer.status}, is not one of Ringback."
    details = {"request_id": answer.headers.get("x-request-id")}
    kind = _kind(request, answer.status, _STRANGE)
    return _made(request, kind, answer, _STRANGE, message, details)


def _made(
    request: Request,
    kind: type[RingbackError],
    answer: Answer,
    code: str,
    message: str,
    details: dict[str, Any],
) -> RingbackError:
    known = {name: value for name, value in details.items() if value is not None}
    error = kind(answer.status, code, message, known, answer.retry_after)
    if isinstance(error, OutcomeUnknown):
        error.nonce = request.nonce
    return error
