"""A client of Ringback's HTTP API."""

import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError

from ringback.errors import RingbackError
from ringback.events import SILENCE, EventStream
from ringback.resources import Done, PhoneCall, Record, date_text

log = logging.getLogger(__name__)

# One number, or several of which the first to answer counts.
Numbers = str | Sequence[str]

_PAGE = 100
# The last place in a list that a page may begin at.
_MAX_START = 5000
# Seconds between looks at a call, at first and later.
_LOOK, _LOOK_LATER = 0.25, 1.0
# Seconds before a token ends at which another is asked for.
_EARLY = 30.0
# The most seconds that the API may have the client wait before it asks again.
PATIENCE = 60.0


def _warn_of_reset() -> None:
    log.warning("events were missed: they are not kept any more")


class Client:
    """Places and follows calls. One is enough for many threads.

    What may be asked twice is asked again where the API or the network fails for a while: reading,
    hanging up, and creating, whose nonce makes that safe (but not for an app with ``compatibility =
    "voipnow"``). Actions, and hanging up all of an extension, are asked once. Methods raise
    RingbackError.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        user: str = "@me",
        timeout: float = 30.0,
        retries: int = 5,
    ) -> None:
        """``url`` is the API's, without ``/uapi``. Either ``token`` or a client id with its secret
        is given. ``user`` is whose extensions are used: apps of an organization or the
        administrator name one, or ``@owner``. ``timeout`` is in seconds."""
        self._url = url.rstrip("/")
        self._user = user
        self._token = token or ""
        # When the token has to be another, in seconds of the monotonic clock; None for never.
        self._until = None if token else 0.0
        self._credentials = {"client_id": client_id, "client_secret": client_secret}
        self._timeout = timeout
        self._http = urllib3.PoolManager(maxsize=16)
        self._retry = _Retry(
            retries,
            # All methods that it is given for; the API says when to ask again.
            allowed_methods=None,
            status_forcelist=[429, 503],
            backoff_factor=0.2,
            raise_on_status=False,
        )

    # Create

    def simple(
        self, extension: str, source: Numbers, destination: Numbers, **options: Any
    ) -> PhoneCall:
        """Place a call that a phone terminal is charged for. Options are those of :meth:`create`,
        ``caller_id`` and ``caller_id_destination``: what each side is shown, ``Name <number>``,
        ``accept`` and ``announce``: who takes the call by a key and who hears an announcement,
        each ``{"prompt": NAME, …}`` or False for none, ``ringback``: what the source hears, and
        ``headers``: SIP headers by side, ``{"source": {"X-Account": "42"}}``.
        """
        return self._create_one("simple", extension, source, destination, **options)

    def callback(
        self, extension: str, source: Numbers, destination: Numbers, **options: Any
    ) -> PhoneCall:
        """The same, charged to a callback extension."""
        return self._create_one("callback", extension, source, destination, **options)

    def invite(
        self,
        extension: str,
        destination: Numbers,
        *,
        number: str | None = None,
        pin: str | None = None,
        **options: Any,
    ) -> PhoneCall:
        """Call somebody into the room of a conference extension, or the conference ``number``."""
        query = {"number": number, "pin": pin}
        invitation = self._create_one
        return invitation("conferenceInvite", extension, None, destination, query=query, **options)

    def _create_one(
        self,
        kind: str,
        extension: str,
        source: Numbers | None,
        destination: Numbers,
        *,
        caller_id: str | None = None,
        caller_id_destination: str | None = None,
        ringback: str | None = None,
        accept: dict[str, Any] | bool | None = None,
        announce: dict[str, Any] | bool | None = None,
        headers: Mapping[str, Mapping[str, str]] | None = None,
        **options: Any,
    ) -> PhoneCall:
        view = {
            "source": _list(source),
            "destination": _list(destination),
            "callerId": caller_id,
            "callerIdDestination": caller_id_destination,
            "ringback": ringback,
            "accept": accept,
            "announce": announce,
            "headers": headers,
        }
        (call,) = self.create(kind, extension, [_given(view)], **options)
        return call

    def create(
        self,
        kind: str,
        extension: str,
        views: Sequence[Mapping[str, Any]],
        *,
        nonce: str | None = None,
        wait_for_pickup: int | None = None,
        call_duration: int | None = None,
        allow_public_transfer: bool | None = None,
        video: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        status_callback: str | Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> list[PhoneCall]:
        """Place a call for each view, all or none. Times are in seconds. Without a ``nonce`` one is
        made: give your own to ask again from another process for what this one may have asked.
        ``metadata`` come back with the call. ``status_callback`` is a URL that is told of its
        statuses, or the API's object with ``url`` and ``events``."""
        words = {
            "waitForPickup": wait_for_pickup,
            "callDuration": call_duration,
            "allowPublicTransfer": allow_public_transfer,
            "video": video,
            **(query or {}),
        }
        body = {
            "extension": extension,
            "nonce": nonce or secrets.token_hex(16),
            "phoneCallView": list(views),
            "metadata": metadata,
            "statusCallback": (
                {"url": status_callback} if isinstance(status_callback, str) else status_callback
            ),
        }
        _, answer = self._ask("POST", self._calls(kind), words, _given(body))
        return [PhoneCall.of(each) for each in answer]

    # Find

    def get(self, call_id: str) -> PhoneCall | None:
        """The call, live or ended; None where there is none (any more) that the app may see."""
        _, answer = self._ask("GET", self._calls("@self", call_id))
        return next((PhoneCall.of(each) for each in answer["entry"]), None)

    def wait_until(self, call_id: str, state: str, timeout: float = 60.0) -> PhoneCall:
        """The call once it has reached the state, or a later one: ``ended`` is past all others.

        Raises TimeoutError after so many seconds, and LookupError where there is no such call.
        """
        end = time.monotonic() + timeout
        pause = _LOOK
        while True:
            call = self.get(call_id)
            if call is None:
                raise LookupError(call_id)
            if call.has_reached(state):
                return call
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{call_id} is {call.state}, not {state}")
            time.sleep(min(pause, left))
            pause = min(pause * 1.2, _LOOK_LATER)

    def calls(self, extension: str = "@self", **filters: Any) -> Iterator[PhoneCall]:
        """The live calls of an extension, or of all of the user's, newest first; ``filters`` are
        the API's own: ``filterBy="nonce", filterValue=…``, ``metadata="order:4711"``,
        ``status="all"``."""
        seen = set()
        for entry in self._pages(self._calls(extension), filters):
            for each in entry:
                # What begins meanwhile moves others to the next page.
                if each["id"] not in seen:
                    seen.add(each["id"])
                    yield PhoneCall.of(each)

    def cdr(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        saved_start: datetime | None = None,
        saved_end: datetime | None = None,
        **filters: Any,
    ) -> Iterator[Record]:
        """Records of ended calls that the user was charged for, newest first. ``start`` and ``end``
        say when they were accepted, the others when they ended; ``filters`` are the API's own.

        A list reaches 5,000 records back from ``end``: for more ask span by span."""
        dates = {
            "startDate": start,
            "endDate": end,
            "saveStartDate": saved_start,
            "saveEndDate": saved_end,
        }
        words = {name: date_text(at) for name, at in dates.items() if at is not None}
        for entry in self._pages(f"/uapi/cdr/{_quoted(self._user)}", {**filters, **words}):
            yield from map(Record.of, entry.values())

    def _pages(self, path: str, words: Mapping[str, Any]) -> Iterator[Any]:
        for start in range(0, _MAX_START + 1, _PAGE):
            _, answer = self._ask("GET", path, {**words, "count": _PAGE, "startIndex": start})
            yield answer["entry"]
            if "next" not in answer.get("paging", {}):
                return

    def events(
        self,
        *,
        extension: str | None = None,
        call_id: str | None = None,
        last_event_id: str = "",
        on_reset: Callable[[], None] = _warn_of_reset,
    ) -> EventStream:
        """Every change of the user's calls as it happens, or of those of one extension, or of one
        call; from now on, or after the event ``last_event_id``.

        ``on_reset`` is called where events are missed because they are not kept any more.
        """
        words = _given({"extension": extension, "phoneCallId": call_id})

        def connect(last: str) -> urllib3.BaseHTTPResponse:
            return self._open("GET", self._calls("events"), words, last=last)

        return EventStream(connect, time.sleep, last_event_id, on_reset)

    # Change

    def hang_up(
        self, call_id: str | None = None, *, extension: str = "@self", number: str | None = None
    ) -> list[PhoneCall]:
        """End a call, or all of an extension; with ``number`` what of them goes to that party. All
        of an extension's are asked for once: again, it would end what was placed meanwhile."""
        path = self._calls(extension, *([call_id] if call_id else ()))
        _, answer = self._ask("DELETE", path, {"phoneNumber": number}, once=call_id is None)
        return [PhoneCall.of(each) for each in answer]

    def act(self, call_id: str, action: str, *, extension: str = "@self", **fields: Any) -> Done:
        """Do something to a call: ``action`` and ``fields`` are those of the API. It is asked once:
        where RingbackError is of a 503 it may have been done or not."""
        body = _given({"action": action, **fields})
        status, answer = self._ask("PUT", self._calls(extension, call_id), {}, body)
        return Done(PhoneCall.of(answer[0]), status == 200)

    def hold(self, call_id: str, view: str) -> Done:
        """The view's party puts the other on hold."""
        return self.act(call_id, "OnHold", phoneCallViewId=view)

    def unhold(self, call_id: str, view: str) -> Done:
        return self.act(call_id, "OffHold", phoneCallViewId=view)

    def park(self, call_id: str, view: str, seconds: int | None = None) -> Done:
        """The view's party leaves, and the other waits in the organization's parking lot."""
        return self.act(call_id, "Park", phoneCallViewId=view, maxInParking=seconds)

    def unpark(self, call_id: str, view: str, terminal: str, **fields: Any) -> Done:
        """A phone terminal takes over the parked party. ``fields`` of this and what else rings a
        terminal: ``callerId``, ``waitForPickup``."""
        return self.act(call_id, "UnPark", phoneCallViewId=view, sendCallTo=terminal, **fields)

    def pick_up(self, call_id: str, terminal: str, **fields: Any) -> Done:
        """A phone terminal takes the source in place of the destination that rings."""
        return self.act(call_id, "PickUp", sendCallTo=terminal, **fields)

    def barge_in(self, call_id: str, terminal: str, view: str | None = None, **fields: Any) -> Done:
        """A phone terminal talks to both parties."""
        return self.act(call_id, "BargeIn", sendCallTo=terminal, phoneCallViewId=view, **fields)

    def whisper(
        self,
        call_id: str,
        terminal: str,
        view: str | None = None,
        *,
        private: bool = False,
        **fields: Any,
    ) -> Done:
        """A phone terminal is heard by the view's party alone; ``private``: and hears nobody."""
        fields |= {"sendCallTo": terminal, "phoneCallViewId": view, "private": int(private)}
        return self.act(call_id, "Whisper", **fields)

    def monitor(self, call_id: str, terminal: str, view: str, **fields: Any) -> Done:
        """A phone terminal hears both parties."""
        return self.act(call_id, "Monitor", sendCallTo=terminal, phoneCallViewId=view, **fields)

    def start_recording(self, call_id: str, view: str, format: str | None = None) -> Done:
        return self.act(call_id, "StartRecording", phoneCallViewId=view, format=format)

    def stop_recording(self, call_id: str, view: str) -> Done:
        return self.act(call_id, "StopRecording", phoneCallViewId=view)

    def transfer(
        self,
        call_id: str,
        to: str,
        *,
        leaves: str | None = None,
        goes: str | None = None,
        view: str | None = None,
    ) -> Done:
        """Send a party to an extension or a public number: named by the number of who ``leaves``
        the call, of who ``goes`` there, or by the view of who leaves."""
        return self._transfer("Transfer", call_id, to, leaves, goes, view)

    def transfer_to_voicemail(
        self,
        call_id: str,
        terminal: str,
        *,
        leaves: str | None = None,
        goes: str | None = None,
        view: str | None = None,
    ) -> Done:
        """Send a party to the mailbox of a phone terminal; who, as of :meth:`transfer`."""
        return self._transfer("TransferToVoicemail", call_id, terminal, leaves, goes, view)

    def _transfer(self, action: str, call_id: str, to: str, *who: str | None) -> Done:
        names = ("transferFromNumber", "transferNumber", "phoneCallViewId")
        fields: dict[str, Any] = dict(zip(names, who, strict=True))
        return self.act(call_id, action, sendCallTo=to, **fields)

    # Call events

    def add_call_event(self, extension: str, kind: int, url: str, *, post: bool = True) -> str:
        """Have a URL told of an extension's calls, by POST or GET: ``kind`` 0 Dial-In, 1 Dial-Out,
        2 Hangup, 3 and 4 answer of an incoming and an outgoing call. The id of the event."""
        body = {"url": url, "method": int(post)}
        # Asked once: each time it would be another event.
        path = f"{self._call_events(extension)}/{kind}"
        _, answer = self._ask("POST", path, {}, body, once=True)
        event_id: str = answer["id"]
        return event_id

    def remove_call_events(self, extension: str) -> None:
        """Tell nobody of the extension's calls any more."""
        self._ask("DELETE", self._call_events(extension))

    def _call_events(self, extension: str) -> str:
        return f"/uapi/extensions/{_quoted(self._user)}/{_quoted(extension)}/phoneCallEvents"

    # HTTP

    def _calls(self, *words: str) -> str:
        return "/".join(("/uapi/phoneCalls", *map(_quoted, (self._user, *words))))

    def _ask(
        self,
        method: str,
        path: str,
        words: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        once: bool = False,
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        response = self._open(method, path, words or {}, body, once=once or method == "PUT")
        return response.status, json.loads(response.data)

    def _open(
        self,
        method: str,
        path: str,
        words: Mapping[str, Any],
        body: Any = None,
        *,
        once: bool = False,
        last: str | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """An answer, whose body is still to be read where ``last`` says it is one of events."""
        query = urlencode([(n, _text(v)) for n, v in words.items() if v is not None], doseq=True)

        def ask() -> urllib3.BaseHTTPResponse:
            headers = {"Authorization": f"Bearer {self._bearer()}"}
            if last:
                headers["Last-Event-ID"] = last
            return self._send(
                method,
                f"{path}?{query}" if query else path,
                once=once,
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                preload_content=last is None,
                timeout=self._timeout if last is None else SILENCE,
            )

        response = ask()
        if response.status == 401 and self._until is not None:
            # The token was revoked before its time. Nothing was done, so another may ask again.
            response.drain_conn()
            self._until = 0.0
            response = ask()
        if response.status in (200, 202):
            return response
        try:
            # Of events it is not read yet.
            error = json.loads(response.data)["error"]
            raise RingbackError(response.status, **error)
        except (ValueError, LookupError, TypeError) as strange:
            message = f"The answer to {method} {path} is none of Ringback's."
            raise RingbackError(response.status, "answer_invalid", message) from strange

    def _send(
        self, method: str, path: str, *, once: bool = False, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        retries = False if once else self._retry
        try:
            return self._http.request(
                method, f"{self._url}{path}", retries=retries, redirect=False, **options
            )
        except HTTPError as error:
            raise RingbackError(0, "api_unreachable", str(error)) from error

    def _bearer(self) -> str:
        """The token to send; a new one where those it asks for have a limited time."""
        if self._until is not None and time.monotonic() > self._until:
            fields = {"grant_type": "client_credentials", **self._credentials}
            response = self._send(
                "POST", "/oauth/token", fields=_given(fields), timeout=self._timeout
            )
            if response.status != 200:
                raise _refused_token(response)
            answer = json.loads(response.data)
            self._until = time.monotonic() + answer["expires_in"] - _EARLY
            self._token = answer["access_token"]
        return self._token


class _Retry(urllib3.Retry):
    """A retry that gives up where the API says to come again after more than PATIENCE seconds: a
    cap of a day is full until midnight."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: urllib3.BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if response is not None and (self.get_retry_after(response) or 0.0) > PATIENCE:
            # The caller gets the answer itself.
            raise MaxRetryError(_pool, url or "")
        return super().increment(method, url, response, error, _pool, _stacktrace)


def _refused_token(response: urllib3.BaseHTTPResponse) -> RingbackError:
    """From the form of RFC 6749, of Ringback, or of whatever stands before it."""
    try:
        answer = json.loads(response.data)
        error = answer["error"]
        if isinstance(error, str):
            return RingbackError(response.status, error, answer.get("error_description", ""))
        return RingbackError(response.status, **error)
    except (ValueError, LookupError, TypeError):
        message = "The answer to a request for a token is none of Ringback's."
        return RingbackError(response.status, "answer_invalid", message)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _list(numbers: Numbers | None) -> list[str] | None:
    if numbers is None:
        return None
    return [numbers] if isinstance(numbers, str) else list(numbers)


def _text(value: Any) -> Any:
    """As the API takes a value in a query."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return [str(each) for each in value]


def _quoted(word: str) -> str:
    return quote(word, safe="@*")
