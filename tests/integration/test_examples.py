"""The programs in examples/ do what they say."""

import http.cookiejar
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest
from standardwebhooks import Webhook

from app.calls.model import State
from ringback_cli.up import free_port, serves
from tests.conftest import eventually
from tests.integration.conftest import LIMIT, Ringback

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def environment(ringback: Ringback, **more: str) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "RINGBACK_URL": ringback.stack.url,
        "RINGBACK_REDIS_URL": ringback.stack.settings.require_redis(),
        **more,
    }


def run(ringback: Ringback, *command: str | Path) -> str:
    result = subprocess.run(
        command, env=environment(ringback), capture_output=True, text=True, timeout=LIMIT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("interpreter", "name"),
    [(sys.executable, "script.py"), ("node", "call.mjs"), ("php", "call.php")],
    ids=["python", "node", "php"],
)
def test_a_program_that_places_a_call(ringback: Ringback, interpreter: str, name: str) -> None:
    if shutil.which(interpreter) is None:
        pytest.skip(f"needs {interpreter}")
    program = EXAMPLES / name
    said = run(ringback, interpreter, program, "210", "15500", "15511")
    first, *states, last = said.splitlines()
    assert ringback.store.get(first.removeprefix("call ")) is not None
    every = [state.value for state in State]
    # One that looks now and then may miss some.
    assert states == [state for state in every if state in states] and states[-1] == "ended"
    assert states == every or name == "call.php"
    assert last == "NORMAL_CLEARING, by destination"
    refused = subprocess.run(
        [interpreter, program, "210", "Bob", "15511"],
        env=environment(ringback),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert refused.returncode == 1 and "pc_source_invalid" in refused.stderr


def test_straight_through_the_queue(ringback: Ringback) -> None:
    words = (sys.executable, EXAMPLES / "enqueue.py", "210", "15500", "15511", "through-the-queue")
    call_id = run(ringback, *words).strip()
    call = ringback.ended(call_id)
    assert (call.app, call.kind, call.ended_by) == ("demo-user", "simple", "destination")
    # With its nonce it is placed once.
    assert run(ringback, *words).strip() == call_id


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs Node")
def test_through_the_queue_from_node(ringback: Ringback, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "enqueue.mjs", tmp_path)
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "redis"]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install the client of Redis: {done.stderr[-200:]}")
    said = run(ringback, "node", tmp_path / "enqueue.mjs", "210", "15500", "15511")
    status, _, body = said.partition(" ")
    assert status == "202"
    assert ringback.ended(json.loads(body)[0]["id"]).app == "demo-user"


def test_polling_redis(ringback: Ringback) -> None:
    call_id = ringback.place("15500", "15511")
    *_, before, last = run(
        ringback, sys.executable, EXAMPLES / "poll_redis.py", call_id
    ).splitlines()
    assert before.endswith(" ended") and last == "NORMAL_CLEARING, by destination"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(ringback: Ringback) -> None:
    said = run(ringback, "sh", EXAMPLES / "curl.sh", "210", "15500", "15600")
    created, shown, ended = said.splitlines()
    assert '"links"' in created and '"state"' in shown and '"endedBy":"api"' in ended


@contextmanager
def serving(ringback: Ringback, *words: str, **more: str) -> Iterator[str]:
    """The URL of a program that serves at the port PORT of these words."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, *(word.replace("PORT", str(port)) for word in words)],
        env=environment(ringback, **more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: serves(("127.0.0.1", port)))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(LIMIT)


def test_fastapi(ringback: Ringback) -> None:
    folder = str(EXAMPLES / "fastapi_click_to_call")
    words = ("-m", "uvicorn", "--app-dir", folder, "app:app", "--port", "PORT")
    kind = {"Content-Type": "application/json"}
    with serving(ringback, *words) as url:
        with urlopen(Request(f"{url}/call", b'{"number": "15511"}', kind)) as answer:
            call_id = json.loads(answer.read())["id"]
        with urlopen(f"{url}/call/{call_id}/events", timeout=LIMIT) as answer:
            lines = answer.read().decode().split("\n\n")
        assert lines[-2:] == ["data: ended (NORMAL_CLEARING)", ""]
        for refused, status in (
            (Request(f"{url}/call", b'{"number": "Bob"}', kind), 400),
            (Request(f"{url}/call/{'0' * 20}/events"), 404),
            (Request(f"{url}/call/{'0' * 20}", method="DELETE"), 404),
        ):
            with pytest.raises(HTTPError) as raised:
                urlopen(refused)
            assert raised.value.code == status
        with urlopen(Request(f"{url}/call", b'{"number": "15600"}', kind)) as answer:
            call_id = json.loads(answer.read())["id"]
        assert urlopen(Request(f"{url}/call/{call_id}", method="DELETE")).status == 204
    assert ringback.ended(call_id).ended_by == "api"


def test_django(ringback: Ringback) -> None:
    program = str(EXAMPLES / "django_click_to_call" / "app.py")
    browser = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
    with serving(ringback, program, "runserver", "PORT", "--noreload") as url:

        def page(path: str, **form: str) -> str:
            data = urlencode(form).encode() if form else None
            with browser.open(f"{url}{path}", data, timeout=LIMIT) as answer:
                return answer.geturl() + answer.read().decode()

        fields = dict(re.findall(r'name="(\w+)" value="(\w+)"', page("/")))
        # A form that is sent twice places one call.
        placed = {page("/call", **fields)[: len(url) + 26] for _ in range(2)}
        (address,) = placed
        path = address.removeprefix(url)
        assert ringback.store.get(path.removeprefix("/call/")) is not None
        page(f"{path}/end", csrfmiddlewaretoken=fields["csrfmiddlewaretoken"])
        eventually(lambda: "ended NORMAL_CLEARING" in page(path))
        for refused, status in (("/call/none", 404), ("/call", 400)):
            form = {} if status == 404 else {**fields, "number": "Bob", "nonce": "another"}
            with pytest.raises(HTTPError) as raised:
                page(refused, **form)
            assert raised.value.code == status
        # Another site's form has no token.
        with pytest.raises(HTTPError, match="403"):
            page("/call", number="15600", nonce="n")


def test_flask(ringback: Ringback) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    program = str(EXAMPLES / "flask_click_to_call" / "app.py")
    words = ("-m", "flask", "--app", program, "run", "--port", "PORT")
    with serving(ringback, *words, WEBHOOK_SECRET=secret) as url:
        with urlopen(url) as answer:
            assert b"<form" in answer.read()
        with urlopen(f"{url}/call", data=b"number=15511") as answer:
            call_id = json.loads(answer.read())["id"]
        with urlopen(f"{url}/call/{call_id}/events", timeout=LIMIT) as answer:
            lines = answer.read().decode().split("\n\n")
        assert lines[-2:] == ["data: ended (NORMAL_CLEARING)", ""]
        now = datetime.now(UTC)
        body = f"CallAPIID={call_id}&CallStatus=ANSWER"
        headers = {"webhook-id": "m1", "webhook-timestamp": str(int(now.timestamp()))}
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"{url}/calls", data=body.encode())
        headers["webhook-signature"] = Webhook(secret).sign("m1", now, body)
        for _ in range(2):
            request = Request(f"{url}/calls", body.encode(), headers)
            assert urlopen(request).status == 204
        with urlopen(f"{url}/calls") as answer:
            assert json.loads(answer.read()) == [{"CallAPIID": call_id, "CallStatus": "ANSWER"}]
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{url}/call/{'0' * 20}/events")
