"""Sends webhooks from a developer's machine: `ringback webhooks listen` and `trigger` do so."""

import json
import secrets
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

import click
import orjson
from marshmallow import ValidationError

from app.accounts.credential_schemas import DEMO_TOKENS, DEMO_WEBHOOK_SECRET, WEBHOOK_SECRET
from app.calls import status_callback
from app.calls.call_events import TYPES, moment, sample
from app.calls.model import Call, Leg, NumberKind, Role, State
from app.calls.transitions import LegReport, report_leg
from app.settings import parse_networks
from app.web.look_ups import LookUps
from app.web.urls import is_callable
from workers.webhooks import status
from workers.webhooks.send import FORM, JSON, Failed, send
from workers.webhooks.target import connect

# The names of the types of call events, in their order.
EVENT_NAMES = ("dial-in", "dial-out", "hangup", "answer-in", "answer-out")
assert len(EVENT_NAMES) == len(TYPES)
# A developer's machine may send to itself, and to its own network.
_ANYWHERE = parse_networks("0.0.0.0/0,::/0")
# Seconds for the answer of a receiver, for one of the API, of silence after which the stream is
# taken for lost (a heartbeat comes each 15), and until the next try.
_TIMEOUT = 10.0
_API_TIMEOUT = 30.0
_SILENCE = 40.0
_PAUSE = 2.0
# The extension and the number of samples.
_EXTENSION, _NUMBER = "0003*210", "+13235742879"


@dataclass(frozen=True)
class Api:
    """The API as a program with a token sees it."""

    url: str
    token: str

    def ask(self, method: str, path: str) -> Any:
        """The answer of a request. Raises ClickException."""
        with self._open(method, path, {}, _API_TIMEOUT) as answer:
            return json.load(answer)

    def events(self, user: str, begun: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """The data of each event ``call`` of the stream from now on, without end. ``begun`` is
        called when the stream has begun. Raises ClickException where the API refuses it."""
        last = ""
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                path = f"/uapi/phoneCalls/{quote(user, safe='@')}/events"
                with self._open("GET", path, headers, _SILENCE, patient=bool(last)) as lines:
                    event = ""
                    for line in lines:
                        name, _, text = line.decode().rstrip("\n").partition(": ")
                        if name == "id":
                            if not last:
                                begun()
                            last = text
                        elif name == "event":
                            event = text
                        elif name == "data" and event == "call":
                            yield json.loads(text)
                        elif not name:
                            event = ""
            except (OSError, HTTPException) as error:
                click.echo(f"The stream has broken: {error}. It goes on.", err=True)
            time.sleep(_PAUSE)

    def _open(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        timeout: float,
        *,
        patient: bool = False,
    ) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        try:
            return urllib.request.urlopen(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            if patient and error.code >= 429:
                raise
            text = f"{self.url} refuses {method} {path}: {_why(error)}"
            raise click.ClickException(text) from error
        except OSError as error:
            if patient:
                raise
            raise click.ClickException(f"{self.url} does not answer: {error}.") from error


def _why(error: urllib.error.HTTPError) -> str:
    """What an error answer of the API says."""
    try:
        found = json.load(error)["error"]
        return " ".join(filter(None, (found["message"], found.get("reason"), f"({found['code']})")))
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"


def check_url(url: str) -> None:
    """Check the URL of a receiver. Raises UsageError."""
    if not is_callable(url):
        raise click.UsageError(
            f"Give an http or https URL without a user or a fragment, not {url!r}."
        )


def checked_secret(secret: str | None, token: str) -> str:
    """The given secret, else that of the demo's apps for their tokens, else a new one. Raises
    UsageError."""
    if secret is None:
        new = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        return DEMO_WEBHOOK_SECRET if token in DEMO_TOKENS else new
    try:
        WEBHOOK_SECRET(secret)
    except ValidationError as error:
        raise click.UsageError(f"--secret: {error.messages[0]}") from error
    return secret


def forward(url: str, message_id: str, content: str, secret: str, post: str = JSON) -> str:
    """Send a signed message of the media type ``post``. Returns the receiver's status, or why there
    is none."""
    try:
        code = send(
            url,
            message_id,
            content,
            post=post,
            at=time.time(),
            secret=secret,
            timeout=_TIMEOUT,
            open_socket=partial(connect, allow=_ANYWHERE, look_ups=LookUps(1, _TIMEOUT), app=""),
        )
    except Failed as error:
        return error.reason
    return f"HTTP {code}"


def statuses(events: Iterator[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The status callbacks that the events of the stream stand for: the id and the body of each.

    Each call tells each status once, in order. A change that brings a call further by two states
    tells ``answered`` too.
    """
    told: dict[str, str] = {}
    for event in events:
        call_id, state = event["id"], event["state"]
        if state not in status_callback.EVENTS or event.get("left"):
            continue
        reached = status_callback.EVENTS.index
        before = told.get(call_id, "")
        names = [state]
        if "answered" in event["phoneCall"] and reached(state) > reached("answered"):
            names.insert(0, "answered")
        for name in names:
            if not before or reached(name) > reached(before):
                told[call_id] = before = name
                message_id = f"{call_id}-{name}"
                body = {"type": name, "id": message_id, "time": moment(event["at"])}
                yield message_id, orjson.dumps({**body, "call": event["phoneCall"]}).decode()
        if state == State.ENDED:
            told.pop(call_id, None)


def sample_event(name: str) -> tuple[str, str]:
    """The id and the parameters of a sample of a call event, as a form."""
    kind, call_id = EVENT_NAMES.index(name), f"test{secrets.token_hex(8)}"
    parameters = sample(kind, _EXTENSION, call_id, time.time())
    return f"{call_id}-{kind}-{_EXTENSION}-test", urlencode(parameters)


def sample_status(name: str) -> tuple[str, str]:
    """The id and the body of a sample of a status callback. The metadata of its call say test."""
    at = time.time() - 10.0
    call_id = f"test{secrets.token_hex(8)}"
    callback = {"url": "", "events": status_callback.EVENTS, "method": "POST", "target": ""}
    call = Call(
        id=call_id,
        kind="simple",
        app="test",
        user="12",
        organization="3",
        organization_name="Test",
        extension=_EXTENSION,
        accepted=at,
        wait_for_pickup=25,
        call_duration=7200,
        queue_timeout=60,
        job_uuid="",
        metadata='{"test":"1"}',
        status_callback=json.dumps(callback),
        state=State.DIALING,
        legs=(
            Leg("a1", Role.SOURCE, _EXTENSION, NumberKind.EXTENSION, "a1"),
            Leg("b1", Role.DESTINATION, _NUMBER, NumberKind.PUBLIC, "b1"),
        ),
    )
    reports = (
        LegReport("a1", created=at + 1, ringing=at + 1),
        LegReport("a1", answered=at + 3),
        LegReport("b1", created=at + 3, ringing=at + 4, answered=at + 6),
        LegReport("a1", bridged=at + 6, bridged_to="b1"),
        LegReport("b1", ended=at + 10, cause="NORMAL_CLEARING"),
        LegReport("a1", ended=at + 10, cause="NORMAL_CLEARING"),
    )
    for report in reports:
        changed = report_leg(call, report)
        for told in status_callback.outbox(call, changed):
            if told["event"] == name:
                message_id = f"{call_id}-{name}"
                message = {"id": message_id, "status": told}
                return message_id, status.body(message, status.call_of(message))
        call = changed
    raise AssertionError(name)


def trigger(name: str, url: str, secret: str) -> tuple[str, str]:
    """Send a sample of a type to a URL. Returns the message's id, and the receiver's status or why
    there is none."""
    if name in EVENT_NAMES:
        message_id, content = sample_event(name)
        return message_id, forward(url, message_id, content, secret, FORM)
    message_id, content = sample_status(name)
    return message_id, forward(url, message_id, content, secret)


def registered(
    api: Api, name: str, user: str, holders: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Have the API send a test to each URL that is registered for a type of call event of these
    holders. Yields the URL and the result of each."""
    kind = EVENT_NAMES.index(name)
    for holder in holders:
        path = "/uapi/extensions/{}/{}/phoneCallEvents/{}".format(
            quote(user, safe="@"), quote(holder, safe="@*"), kind
        )
        for event in api.ask("GET", f"{path}?count=100")["entry"]:
            done = api.ask("POST", f"{path}/{event['id']}/test")
            yield event["url"], done.get("reason", done["result"])
