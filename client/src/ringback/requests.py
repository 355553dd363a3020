"""The requests of the client, as values. Nothing here sends them.

No function makes a request with an empty id, extension, view, number or user: the API would take
``…/@self/`` plus an empty id for all calls of the user. They raise ValueError instead.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from ringback.options import Kind, NewCall, Numbers, StatusCallback
from ringback.resources import STATES, date_text

# How many entries of a list the client asks for at once.
PAGE = 100
# By a cursor no entry comes twice and none is left out, however many calls come and go meanwhile.
_FIRST = "*"


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the API, without its token."""

    method: str
    # With its query.
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    # Whether it changes anything, and whether a second copy of it would change more.
    changes: bool = False
    once: bool = False
    nonce: str | None = None
    # Whether it takes a token.
    bearer: bool = True
    # Whether the answer is an endless stream of events, and after which one.
    events: bool = False
    last_event_id: str | None = None


def text(name: str, value: str) -> str:
    """The value. Raises ValueError for one that is empty or blank, or no text."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} takes a text that is not blank, not {value!r}.")
    return value


def optional(name: str, value: str | None) -> str | None:
    return None if value is None else text(name, value)


def numbers(name: str, value: Numbers) -> list[str]:
    """One or several numbers as a list. Raises ValueError for none and for blank ones."""
    found = [value] if isinstance(value, str) else list(value)
    if not found:
        raise ValueError(f"{name} takes at least one number.")
    return [text(name, each) for each in found]


def create(
    user: str,
    kind: Kind,
    extension: str,
    calls: Sequence[NewCall],
    *,
    nonce: str | None,
    wait_for_pickup: int | None,
    call_duration: int | None = None,
    allow_public_transfer: bool | None = None,
    video: bool | None = None,
    number: str | None = None,
    pin: str | None = None,
    metadata: Mapping[str, str] | None,
    status_callback: str | StatusCallback | None,
) -> Request:
    query = {
        "waitForPickup": wait_for_pickup,
        "callDuration": call_duration,
        "allowPublicTransfer": allow_public_transfer,
        "video": video,
        "number": optional("number", number),
        "pin": optional("pin", pin),
    }
    nonce = secrets.token_hex(16) if nonce is None else text("nonce", nonce)
    if isinstance(status_callback, str):
        status_callback = {"url": text("status_callback", status_callback)}
    body = {
        "extension": text("extension", extension),
        "nonce": nonce,
        "phoneCallView": [_view(kind, call) for call in calls],
        "metadata": metadata,
        "statusCallback": status_callback,
    }
    return Request("POST", _path(_calls(user, kind), query), _json(body), changes=True, nonce=nonce)


def _view(kind: Kind, call: NewCall) -> dict[str, Any]:
    # The source of an invitation is the conference.
    source = None if kind == "conferenceInvite" else numbers("source", call.source or [])
    return _given(
        {
            "source": source,
            "destination": numbers("destination", call.destination),
            "callerId": call.caller_id,
            "callerIdDestination": call.caller_id_destination,
            "ringback": call.ringback,
            "accept": call.accept,
            "announce": call.announce,
            "headers": call.headers,
        }
    )


def get(user: str, call_id: str) -> Request:
    return Request("GET", _calls(user, "@self", text("call_id", call_id)))


def calls(
    user: str,
    extension: str,
    *,
    status: Literal["live", "all"],
    state: str | Sequence[str] | None,
    number: str | None,
    nonce: str | None,
    metadata: Mapping[str, str] | None,
    start: datetime | None,
    end: datetime | None,
) -> Request:
    states = [state] if isinstance(state, str) else state
    if states is not None and not (states and set(states) <= set(STATES)):
        raise ValueError(f"state takes some of {', '.join(STATES)}, not {state!r}.")
    query = {
        "status": status,
        "state": None if states is None else ",".join(states),
        "phoneNumber": optional("number", number),
        "nonce": optional("nonce", nonce),
        "metadata": _pairs(metadata),
        "startDate": _date(start),
        "endDate": _date(end),
        "count": PAGE,
        "cursor": _FIRST,
    }
    return Request("GET", _path(_calls(user, text("extension", extension)), query))


def cdr(
    user: str,
    *,
    start: datetime | None,
    end: datetime | None,
    saved_start: datetime | None,
    saved_end: datetime | None,
    source: str | None,
    destination: str | None,
    disposition: int | None,
    metadata: Mapping[str, str] | None,
) -> Request:
    query = {
        "startDate": _date(start),
        "endDate": _date(end),
        "saveStartDate": _date(saved_start),
        "saveEndDate": _date(saved_end),
        "source": optional("source", source),
        "destination": optional("destination", destination),
        "disposition": disposition,
        "metadata": _pairs(metadata),
        "count": PAGE,
        "cursor": _FIRST,
    }
    return Request("GET", _path(f"/uapi/cdr/{_segment('user', user)}", query))


def following(url: str) -> Request:
    """The request for the next page of a list. ``paging.next`` may name a host that only the
    server knows, behind a proxy: the client asks its own."""
    parts = urlsplit(url)
    return Request("GET", f"{parts.path}?{parts.query}")


def by_cursor(request: Request) -> bool:
    """Whether the page is one that the server gave a cursor for."""
    return parse_qs(urlsplit(request.path).query).get("cursor", [_FIRST]) != [_FIRST]


def events(user: str, extension: str | None, call_id: str | None) -> Request:
    query = {
        "extension": optional("extension", extension),
        "phoneCallId": optional("call_id", call_id),
    }
    return Request("GET", _path(_calls(user, "events"), query), events=True)


def hang_up(user: str, call_id: str, extension: str, number: str | None) -> Request:
    path = _calls(user, text("extension", extension), text("call_id", call_id))
    return Request("DELETE", _path(path, _to(number)), changes=True)


def hang_up_all(user: str, extension: str, number: str | None) -> Request:
    # A second copy would end calls that were placed in between.
    path = _path(_calls(user, text("extension", extension)), _to(number))
    return Request("DELETE", path, changes=True, once=True)


def _to(number: str | None) -> dict[str, Any]:
    return {"phoneNumber": optional("number", number)}


def act(
    user: str,
    call_id: str,
    action: str,
    *,
    view: str | None = None,
    to: str | None = None,
    leaves: str | None = None,
    goes: str | None = None,
    caller_id: str | None = None,
    wait_for_pickup: int | None = None,
    seconds: int | None = None,
    private: bool | None = None,
    format: str | None = None,
) -> Request:
    body = {
        "action": action,
        "phoneCallViewId": optional("view", view),
        "sendCallTo": optional("the number", to),
        "transferFromNumber": optional("leaves", leaves),
        "transferNumber": optional("goes", goes),
        "callerId": caller_id,
        "waitForPickup": wait_for_pickup,
        "maxInParking": seconds,
        "private": None if private is None else int(private),
        "format": format,
    }
    path = _calls(user, "@self", text("call_id", call_id))
    return Request("PUT", path, _json(body), changes=True, once=True)


def add_call_event(user: str, extension: str, kind: int, url: str, post: bool) -> Request:
    body = {"url": text("url", url), "method": int(post)}
    # A second copy would be another event.
    path = f"{_call_events(user, extension)}/{kind:d}"
    return Request("POST", path, _json(body), changes=True, once=True)


def remove_call_events(user: str, extension: str) -> Request:
    return Request("DELETE", _call_events(user, extension), changes=True)


def token(client_id: str, client_secret: str) -> Request:
    fields = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": client_secret,
    }
    return Request(
        "POST",
        "/oauth/token",
        urlencode(fields).encode(),
        "application/x-www-form-urlencoded",
        bearer=False,
    )


def _calls(user: str, *words: str) -> str:
    segments = (_segment("user", user), *(_segment("the id", word) for word in words))
    return "/".join(("/uapi/phoneCalls", *segments))


def _call_events(user: str, extension: str) -> str:
    user, extension = _segment("user", user), _segment("extension", extension)
    return f"/uapi/extensions/{user}/{extension}/phoneCallEvents"


def _segment(name: str, word: str) -> str:
    if text(name, word) in (".", ".."):
        # Servers and proxies take these out of a path: DELETE …/@self/. is …/@self/.
        raise ValueError(f"{name} takes no {word!r}.")
    return quote(word, safe="@*")


def _path(path: str, query: Mapping[str, Any]) -> str:
    words = [(name, _word(value)) for name, value in query.items() if value is not None]
    return f"{path}?{urlencode(words, doseq=True)}" if words else path


def _word(value: Any) -> Any:
    """As the API takes a value in a query."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, list) else str(value)


def _pairs(metadata: Mapping[str, str] | None) -> list[str] | None:
    return [f"{key}:{value}" for key, value in metadata.items()] if metadata else None


def _date(at: datetime | None) -> str | None:
    return None if at is None else date_text(at)


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(_given(body)).encode()


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
