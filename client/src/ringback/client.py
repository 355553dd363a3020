# Made of async_client.py by client/unasync.py: edit that file.
"""The client of the API."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from ringback import answers, requests
from ringback.answers import Answer, Page, read
from ringback.errors import NotFound, RingbackError, Unavailable
from ringback.events import EventStream
from ringback.options import Accept, Announce, Headers, Kind, NewCall, Numbers, StatusCallback
from ringback.requests import Request
from ringback.resources import STATES, Done, PhoneCall, Record
from ringback.retrying import Limit, NoAnswer, Tries
from ringback.tokens import Tokens
from ringback.transport import Stream, Transport
from ringback.version import VERSION

log = logging.getLogger(__name__)

T = TypeVar("T")
Entry = TypeVar("Entry", PhoneCall, Record)

# Seconds between looks at a call, at first and later.
_LOOK, _LOOK_LATER = 0.25, 1.0


def _warn_of_reset() -> None:
    log.warning("The stream of events has a gap: the server no longer keeps what is missing.")


class Client:
    """A client of the API. One is enough for a whole program.

    The client retries a request if the API or the network fails for a while, and if a second copy
    does no harm: it reads again, hangs up a call again, and places a call again with the same
    nonce (not for an app with ``compatibility = "voipnow"``, whose nonces the API ignores). It
    sends an action, and the request to hang up all calls, once.

    Each method raises RingbackError, in its subclasses: NotFound, Authentication, Permission,
    Quota, Invalid, Unavailable and OutcomeUnknown. An empty or blank id, extension, number or view
    raises ValueError, and nothing is sent.
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
        """``url`` is the address of the API without ``/uapi``. Give either ``token``, or
        ``client_id`` and ``client_secret``. ``user`` names the user that the extensions belong to:
        apps of an organization or the administrator name one by id, or ``@owner``. ``timeout`` is
        the limit of a request in seconds, with all its retries."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url takes an address that begins with http:// or https://: {url!r}.")
        if not timeout > 0:
            raise ValueError(f"timeout takes seconds above 0, not {timeout!r}.")
        self._user = requests.text("user", user)
        self._tokens = Tokens(token, client_id, client_secret)
        self._timeout = timeout
        self._retries = retries
        self._transport = Transport(url.rstrip("/"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    # Create

    def simple(
        self,
        extension: str,
        source: Numbers,
        destination: Numbers,
        *,
        nonce: str | None = None,
        wait_for_pickup: int | None = None,
        call_duration: int | None = None,
        allow_public_transfer: bool | None = None,
        video: bool | None = None,
        caller_id: str | None = None,
        caller_id_destination: str | None = None,
        ringback: str | None = None,
        accept: Accept | Literal[False] | None = None,
        announce: Announce | Literal[False] | None = None,
        headers: Headers | None = None,
        metadata: Mapping[str, str] | None = None,
        status_callback: str | StatusCallback | None = None,
    ) -> PhoneCall:
        """Place a call that a phone terminal is charged for.

        Times are in seconds. Without a ``nonce`` the client makes one: give your own to ask again
        from another process for a call that this one may have placed. ``caller_id`` and
        ``caller_id_destination`` are what the source and the destination are shown, ``Name
        <number>``. ``ringback`` is what the source hears. ``accept`` and ``announce`` say who takes
        the call with a key and who hears an announcement; False for nobody. ``headers`` are SIP
        headers for each side. ``metadata`` come back with the call. ``status_callback`` is a URL
        that Ringback tells of the call's statuses.
        """
        view = NewCall(
            source=source,
            destination=destination,
            caller_id=caller_id,
            caller_id_destination=caller_id_destination,
            ringback=ringback,
            accept=accept,
            announce=announce,
            headers=headers,
        )
        (call,) = self.create(
            "simple",
            extension,
            [view],
            nonce=nonce,
            wait_for_pickup=wait_for_pickup,
            call_duration=call_duration,
            allow_public_transfer=allow_public_transfer,
            video=video,
            metadata=metadata,
            status_callback=status_callback,
        )
        return call

    def callback(
        self,
        extension: str,
        source: Numbers,
        destination: Numbers,
        *,
        nonce: str | None = None,
        wait_for_pickup: int | None = None,
        call_duration: int | None = None,
        allow_public_transfer: bool | None = None,
        video: bool | None = None,
        caller_id: str | None = None,
        caller_id_destination: str | None = None,
        ringback: str | None = None,
        accept: Accept | Literal[False] | None = None,
        announce: Announce | Literal[False] | None = None,
        headers: Headers | None = None,
        metadata: Mapping[str, str] | None = None,
        status_callback: str | StatusCallback | None = None,
    ) -> PhoneCall:
        """Place a call that a callback extension is charged for. Options are those of
        :meth:`simple`."""
        view = NewCall(
            source=source,
            destination=destination,
            caller_id=caller_id,
            caller_id_destination=caller_id_destination,
            ringback=ringback,
            accept=accept,
            announce=announce,
            headers=headers,
        )
        (call,) = self.create(
            "callback",
            extension,
            [view],
            nonce=nonce,
            wait_for_pickup=wait_for_pickup,
            call_duration=call_duration,
            allow_public_transfer=allow_public_transfer,
            video=video,
            metadata=metadata,
            status_callback=status_callback,
        )
        return call

    def invite(
        self,
        extension: str,
        destination: Numbers,
        *,
        number: str | None = None,
        pin: str | None = None,
        nonce: str | None = None,
        wait_for_pickup: int | None = None,
        caller_id: str | None = None,
        headers: Headers | None = None,
        metadata: Mapping[str, str] | None = None,
        status_callback: str | StatusCallback | None = None,
    ) -> PhoneCall:
        """Call somebody into the room of a conference extension, or into the conference
        ``number``, whose ``pin`` may be needed. Other options are those of :meth:`simple`."""
        view = NewCall(destination=destination, caller_id=caller_id, headers=headers)
        request = requests.create(
            self._user,
            "conferenceInvite",
            extension,
            [view],
            nonce=nonce,
            wait_for_pickup=wait_for_pickup,
            number=number,
            pin=pin,
            metadata=metadata,
            status_callback=status_callback,
        )
        return self._read(request, answers.one_call)

    def create(
        self,
        kind: Kind,
        extension: str,
        calls: Sequence[NewCall],
        *,
        nonce: str | None = None,
        wait_for_pickup: int | None = None,
        call_duration: int | None = None,
        allow_public_transfer: bool | None = None,
        video: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        status_callback: str | StatusCallback | None = None,
    ) -> list[PhoneCall]:
        """Place several calls, all or none. Options are those of :meth:`simple`."""
        request = requests.create(
            self._user,
            kind,
            extension,
            calls,
            nonce=nonce,
            wait_for_pickup=wait_for_pickup,
            call_duration=call_duration,
            allow_public_transfer=allow_public_transfer,
            video=video,
            metadata=metadata,
            status_callback=status_callback,
        )
        return self._read(request, answers.calls)

    # Find

    def get(self, call_id: str) -> PhoneCall:
        """The call, live or ended. Raises NotFound if there is none that the app may see, or the
        server does not keep it any more."""
        return self._get(call_id, self._timeout)

    def _get(self, call_id: str, seconds: float) -> PhoneCall:
        request = requests.get(self._user, call_id)
        found = self._read(request, answers.page(answers.calls), Limit(seconds))
        if not found.entries:
            # An app with compatibility = "voipnow" gets an empty list.
            raise NotFound(404, "pc_phonecall_invalid", f"There is no call {call_id}.")
        return found.entries[0]

    def wait_until(self, call_id: str, state: str, timeout: float = 60.0) -> PhoneCall:
        """The call once it has reached the state, or a later one: ``ended`` is past all others.

        Raises TimeoutError after so many seconds, and NotFound if there is no such call.
        """
        if state not in STATES:
            raise ValueError(f"state takes one of {', '.join(STATES)}, not {state!r}.")
        limit = Limit(timeout)
        pause = _LOOK
        last = "not read"
        while True:
            try:
                call = self._get(call_id, min(self._timeout, max(limit.left, 0.1)))
            except Unavailable as error:
                if limit.left > 0.1:
                    raise
                raise TimeoutError(f"{call_id} is {last}, not {state}.") from error
            if call.has_reached(state):
                return call
            last = str(call.state)
            if limit.left <= 0:
                raise TimeoutError(f"{call_id} is {last}, not {state}.")
            time.sleep(min(pause, limit.left))
            pause = min(pause * 1.2, _LOOK_LATER)

    def calls(
        self,
        extension: str = "@self",
        *,
        status: Literal["live", "all"] = "live",
        state: str | Sequence[str] | None = None,
        number: str | None = None,
        nonce: str | None = None,
        metadata: Mapping[str, str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[PhoneCall]:
        """The calls of an extension, or of all of the user's, newest first: live ones, or with
        ``status="all"`` ended ones too. ``state`` names one or several states, ``number`` a party,
        ``nonce`` the calls that this app placed with it, live or ended. ``start`` and ``end`` limit
        when the calls were accepted.

        The client asks for a page at a time, and follows them to the end. ``timeout`` is the limit
        of a page. An older server that does not list all of them raises ``list_truncated``.
        """
        request = requests.calls(
            self._user,
            extension,
            status=status,
            state=state,
            number=number,
            nonce=nonce,
            metadata=metadata,
            start=start,
            end=end,
        )
        return self._entries(request, answers.calls)

    def cdr(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        saved_start: datetime | None = None,
        saved_end: datetime | None = None,
        source: str | None = None,
        destination: str | None = None,
        disposition: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Iterator[Record]:
        """The records of ended calls that the user was charged for, newest first. ``start`` and
        ``end`` limit when they were accepted, ``saved_start`` and ``saved_end`` when they ended.
        The client asks for them as for :meth:`calls`."""
        request = requests.cdr(
            self._user,
            start=start,
            end=end,
            saved_start=saved_start,
            saved_end=saved_end,
            source=source,
            destination=destination,
            disposition=disposition,
            metadata=metadata,
        )
        return self._entries(request, answers.records)

    def _entries(
        self, request: Request, reader: Callable[[object], list[Entry]]
    ) -> Iterator[Entry]:
        seen: set[str] = set()
        while True:
            page: Page[Entry] = self._read(request, answers.page(reader))
            for entry in page.entries:
                # An entry that comes to be in between moves others to the next page.
                if entry.id not in seen:
                    seen.add(entry.id)
                    yield entry
            if page.next is None:
                break
            request = requests.following(page.next)
        if page.missing and not requests.by_cursor(request):
            raise RingbackError(
                200, "list_truncated", f"The server does not list {page.missing} further entries."
            )

    def events(
        self,
        *,
        extension: str | None = None,
        call_id: str | None = None,
        last_event_id: str | None = None,
        on_reset: Callable[[], None] = _warn_of_reset,
    ) -> EventStream:
        """Every change of the user's calls as it happens, or of those of one extension, or of one
        call; from now on, or after the event ``last_event_id``. Use it in a ``with`` block.

        The stream calls ``on_reset`` if it misses events because the server does not keep them any
        more.
        """
        request = requests.events(self._user, extension, call_id)

        def connect(last: str | None) -> Stream:
            after = replace(request, last_event_id=last)
            stream, _ = self._open(after, Limit(self._timeout))
            return stream

        return EventStream(connect, last_event_id, on_reset)

    # Change

    def hang_up(
        self, call_id: str, *, extension: str = "@self", number: str | None = None
    ) -> list[PhoneCall]:
        """End a call, or with ``number`` only what of it goes to that party. The calls that it
        ended; none if no party has that number."""
        request = requests.hang_up(self._user, call_id, extension, number)
        return self._read(request, answers.calls)

    def hang_up_all(
        self, *, extension: str = "@self", number: str | None = None
    ) -> list[PhoneCall]:
        """End all calls of an extension, or of all of the user's; with ``number`` only what of them
        goes to that party. The client sends this once: a second time it would end calls that were
        placed in between."""
        request = requests.hang_up_all(self._user, extension, number)
        return self._read(request, answers.calls)

    def hold(self, call_id: str, view: str) -> Done:
        """The view's party puts the other one on hold.

        This and all other actions are sent once. OutcomeUnknown says that an action may have been
        done or not.
        """
        return self._act(requests.act(self._user, call_id, "OnHold", view=view))

    def unhold(self, call_id: str, view: str) -> Done:
        """The view's party takes the other one off hold."""
        return self._act(requests.act(self._user, call_id, "OffHold", view=view))

    def park(self, call_id: str, view: str, seconds: int | None = None) -> Done:
        """The view's party leaves, and the other one waits in the organization's parking lot, for
        so many seconds."""
        request = requests.act(self._user, call_id, "Park", view=view, seconds=seconds)
        return self._act(request)

    def unpark(
        self,
        call_id: str,
        view: str,
        terminal: str,
        *,
        caller_id: str | None = None,
        wait_for_pickup: int | None = None,
    ) -> Done:
        """A phone terminal takes over the parked party. It rings for ``wait_for_pickup`` seconds
        and is shown ``caller_id``, as with every action that rings a terminal."""
        request = requests.act(
            self._user,
            call_id,
            "UnPark",
            view=view,
            to=terminal,
            caller_id=caller_id,
            wait_for_pickup=wait_for_pickup,
        )
        return self._act(request)

    def pick_up(
        self,
        call_id: str,
        terminal: str,
        *,
        caller_id: str | None = None,
        wait_for_pickup: int | None = None,
    ) -> Done:
        """A phone terminal takes the source in place of the destination that rings."""
        request = requests.act(
            self._user,
            call_id,
            "PickUp",
            to=terminal,
            caller_id=caller_id,
            wait_for_pickup=wait_for_pickup,
        )
        return self._act(request)

    def barge_in(
        self,
        call_id: str,
        terminal: str,
        view: str | None = None,
        *,
        caller_id: str | None = None,
        wait_for_pickup: int | None = None,
    ) -> Done:
        """A phone terminal talks to both parties."""
        request = requests.act(
            self._user,
            call_id,
            "BargeIn",
            view=view,
            to=terminal,
            caller_id=caller_id,
            wait_for_pickup=wait_for_pickup,
        )
        return self._act(request)

    def whisper(
        self,
        call_id: str,
        terminal: str,
        view: str | None = None,
        *,
        private: bool = False,
        caller_id: str | None = None,
        wait_for_pickup: int | None = None,
    ) -> Done:
        """A phone terminal is heard by the view's party alone; ``private``: and hears nobody."""
        request = requests.act(
            self._user,
            call_id,
            "Whisper",
            view=view,
            to=terminal,
            private=private,
            caller_id=caller_id,
            wait_for_pickup=wait_for_pickup,
        )
        return self._act(request)

    def monitor(
        self,
        call_id: str,
        terminal: str,
        view: str,
        *,
        caller_id: str | None = None,
        wait_for_pickup: int | None = None,
    ) -> Done:
        """A phone terminal hears both parties."""
        request = requests.act(
            self._user,
            call_id,
            "Monitor",
            view=view,
            to=terminal,
            caller_id=caller_id,
            wait_for_pickup=wait_for_pickup,
        )
        return self._act(request)

    def start_recording(
        self, call_id: str, view: str, format: Literal["wav", "wav49"] | None = None
    ) -> Done:
        """Record both directions into a file on the switch."""
        request = requests.act(self._user, call_id, "StartRecording", view=view, format=format)
        return self._act(request)

    def stop_recording(self, call_id: str, view: str) -> Done:
        """End the recording."""
        return self._act(requests.act(self._user, call_id, "StopRecording", view=view))

    def transfer(
        self,
        call_id: str,
        to: str,
        *,
        leaves: str | None = None,
        goes: str | None = None,
        view: str | None = None,
    ) -> Done:
        """Send a party to an extension or a public number. Name it by the number of the party that
        ``leaves`` the call, of the one that ``goes`` there, or by the view of the one that leaves.
        """
        request = requests.act(
            self._user, call_id, "Transfer", to=to, leaves=leaves, goes=goes, view=view
        )
        return self._act(request)

    def transfer_to_voicemail(
        self,
        call_id: str,
        terminal: str,
        *,
        leaves: str | None = None,
        goes: str | None = None,
        view: str | None = None,
    ) -> Done:
        """Send a party to the mailbox of a phone terminal. Name the party as for
        :meth:`transfer`."""
        request = requests.act(
            self._user,
            call_id,
            "TransferToVoicemail",
            to=terminal,
            leaves=leaves,
            goes=goes,
            view=view,
        )
        return self._act(request)

    def _act(self, request: Request) -> Done:
        answer = self._ask(request, Limit(self._timeout))
        return read(request, answer, answers.done(answer))

    # Call events

    def add_call_event(self, extension: str, kind: int, url: str, *, post: bool = True) -> str:
        """Have Ringback tell a URL of an extension's calls, by POST or GET. ``kind`` is 0 for
        Dial-In, 1 for Dial-Out, 2 for Hangup, 3 and 4 for the answer of an incoming and of an
        outgoing call. The id of the event."""
        request = requests.add_call_event(self._user, extension, kind, url, post)
        return self._read(request, answers.event_id)

    def remove_call_events(self, extension: str) -> None:
        """Have Ringback tell nobody of the extension's calls any more."""
        request = requests.remove_call_events(self._user, extension)
        self._ask(request, Limit(self._timeout))

    # HTTP

    def _read(
        self, request: Request, reader: Callable[[object], T], limit: Limit | None = None
    ) -> T:
        answer = self._ask(request, limit or Limit(self._timeout))
        return read(request, answer, reader)

    def _ask(self, request: Request, limit: Limit) -> Answer:
        """The answer that grants a request. Raises RingbackError."""
        _, answer = self._open(request, limit)
        return answer

    def _open(self, request: Request, limit: Limit) -> tuple[Stream, Answer]:
        """The answer that grants a request, with its stream if it is one of events. Raises
        RingbackError."""
        tries = Tries(request, self._retries, limit)
        while True:
            token = self._token(limit) if request.bearer else None
            try:
                stream = self._transport.open(
                    request.method, request.path, _headers(request, token), request.body, limit
                )
                if request.events and stream.status == 200:
                    return stream, Answer(200)
                answer = stream.read()
            except NoAnswer as failure:
                pause = tries.after_silence(failure)
            else:
                if token is not None and tries.renews(answer) and self._tokens.refused(token):
                    continue
                if (wait := tries.after(answer)) is None:
                    return stream, answer
                pause = wait
            time.sleep(pause)

    def _token(self, limit: Limit) -> str:
        token, request = self._tokens.current, self._tokens.request
        if token is not None or request is None:
            return token or ""
        return self._tokens.take(request, self._ask(request, limit))


def _headers(request: Request, token: str | None) -> list[tuple[str, str]]:
    headers = [("User-Agent", f"ringback-python/{VERSION}"), ("Accept", "*/*")]
    if token is not None:
        headers.append(("Authorization", f"Bearer {token}"))
    if request.last_event_id:
        headers.append(("Last-Event-ID", request.last_event_id))
    if request.body is not None:
        headers.append(("Content-Type", request.content_type))
    return headers
