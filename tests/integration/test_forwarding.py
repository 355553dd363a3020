"""`ringback webhooks listen` and `trigger` beside the running program."""

import json
import signal
import urllib.request
from collections.abc import Iterator

import pytest
from standardwebhooks.webhooks import Webhook

from app.accounts.credential_schemas import DEMO_WEBHOOK_SECRET
from app.calls.status_callback import EVENTS
from ringback_cli import forwarding
from tests.integration.conftest import LIMIT, Ringback
from tests.integration.test_cli import Run, following, run  # noqa: F401
from tests.receiver import Receiver, receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_the_statuses_of_calls_are_forwarded(ringback: Ringback, receiver: Receiver) -> None:
    words = ("--forward-to", f"{receiver.url}/status", "--api", ringback.stack.url)
    with following(ringback, "webhooks", "listen", *words) as listener:
        assert listener.stdout is not None
        begun = next(listener.stdout)
        assert begun.startswith(f"Listening to {ringback.stack.url}.")
        assert begun.split()[-1] == DEMO_WEBHOOK_SECRET
        receiver.answer = lambda request: 500 if request["id"].endswith("-ended") else 202
        call_id = ringback.place("15500", "15511")
        told = [receiver.next() for _ in EVENTS]
        lines = [next(listener.stdout) for _ in EVENTS]
        listener.send_signal(signal.SIGINT)
        _, errors = listener.communicate(timeout=LIMIT)
    assert (listener.returncode, errors) == (0, "")
    ids = [f"{call_id}-{name}" for name in EVENTS]
    assert [request["id"] for request in told] == ids
    assert [line.split()[1:] for line in lines] == [
        *([message, "HTTP", "202"] for message in ids[:3]),
        [ids[3], "HTTP", "500"],
    ]
    for name, request in zip(EVENTS, told, strict=True):
        assert (request["method"], request["path"]) == ("POST", "/status")
        Webhook(DEMO_WEBHOOK_SECRET).verify(request["content"], request["headers"])
        body = json.loads(request["content"])
        assert sorted(body) == ["call", "id", "time", "type"]
        assert (body["type"], body["call"]["id"]) == (name, call_id)


@pytest.mark.parametrize("kind", [*forwarding.EVENT_NAMES, *EVENTS])
def test_a_sample_of_each_type(run: Run, receiver: Receiver, kind: str) -> None:  # noqa: F811
    done = run("webhooks", "trigger", kind, "--to", receiver.url, "--secret", SECRET)
    assert done.exit_code == 0, done.output
    request = receiver.next()
    assert done.stdout == f"{request['id']}  HTTP 200\n" and SECRET not in done.output
    event = kind in forwarding.EVENT_NAMES
    Webhook(SECRET).verify(request["content"], request["headers"], json_parse=False)
    if event:
        parameters = request["parameters"]
        assert parameters["Test"] == "1"
        assert parameters["EventType"] == str(forwarding.EVENT_NAMES.index(kind))
    else:
        body = json.loads(request["content"])
        assert body["type"] == body["call"]["state"] == kind
        assert body["call"]["metadata"] == {"test": "1"}


def ask(ringback: Ringback, method: str, path: str, body: object = None) -> None:
    request = urllib.request.Request(
        f"{ringback.stack.url}/uapi/extensions/@me/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Bearer demo-user-token", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=LIMIT).close()


@pytest.mark.parametrize(("holder", "options"), [("@self", ()), ("210", ("--extension", "210"))])
def test_the_registered_urls_are_tested(
    ringback: Ringback,
    run: Run,  # noqa: F811
    receiver: Receiver,
    holder: str,
    options: tuple[str, ...],
) -> None:
    words = ("webhooks", "trigger", "hangup", "--api", ringback.stack.url, *options)
    nobody = run(*words)
    assert nobody.exit_code == 1 and "No URL is registered for hangup" in nobody.stderr
    ask(ringback, "POST", f"{holder}/phoneCallEvents/2", {"url": receiver.url, "method": 1})
    try:
        done = run(*words)
        assert (done.exit_code, done.stdout) == (0, f"{receiver.url}  delivered\n")
        request = receiver.next()
        assert request["parameters"]["Test"] == "1"
        content, headers = request["content"], request["headers"]
        Webhook(DEMO_WEBHOOK_SECRET).verify(content, headers, json_parse=False)
        receiver.answer = lambda _: 503
        failed = run(*words)
        assert (failed.exit_code, failed.stdout) == (1, f"{receiver.url}  HTTP 503\n")
    finally:
        ask(ringback, "DELETE", f"{holder}/phoneCallEvents")


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("listen", "--forward-to", "localhost:9000"), 2, "Give an http or https URL"),
        (("listen", "--forward-to", "http://h/", "--secret", "whsec_x"), 2, "24 to 64 bytes"),
        (("trigger", "ended"), 2, "give --to URL"),
        (("trigger", "nothing"), 2, "nothing"),
        (("trigger", "hangup", "--to", "http://127.0.0.1:9/"), 1, ""),
        (("trigger", "hangup", "--api", "http://127.0.0.1:9"), 1, "does not answer"),
    ],
)
def test_what_is_refused(run: Run, words: tuple[str, ...], status: int, error: str) -> None:  # noqa: F811
    done = run("webhooks", *words)
    assert done.exit_code == status and error in done.stderr, done.output


def test_a_token_that_is_refused(ringback: Ringback, run: Run) -> None:  # noqa: F811
    words = ("--forward-to", "http://127.0.0.1:9/", "--api", ringback.stack.url)
    done = run("webhooks", "listen", *words, "--token", "nobody")
    assert done.exit_code == 1 and "access_denied" in done.stderr


def change(call_id: str, state: str, **more: object) -> dict[str, object]:
    return {"id": call_id, "state": state, "at": 1000.0, "phoneCall": {"id": call_id, **more}}


def test_statuses_of_changes() -> None:
    changes = [
        change("a", "queued"),
        change("a", "dialing"),
        # Without a ring of its own, and two states at once.
        change("a", "bridged", answered="2026-11-30T19:00:00Z"),
        change("a", "bridged", answered="2026-11-30T19:00:00Z"),
        change("b", "ended"),
        {**change("a", "ended"), "left": True},
        change("a", "ended", answered="2026-11-30T19:00:00Z"),
    ]
    ids = [message_id for message_id, _ in forwarding.statuses(iter(changes))]
    assert ids == ["a-answered", "a-bridged", "b-ended", "a-ended"]
