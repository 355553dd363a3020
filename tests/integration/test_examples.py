"""The programs in examples/ do what they say."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

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


def test_the_script(ringback: Ringback) -> None:
    said = run(ringback, sys.executable, EXAMPLES / "script.py", "210", "15500", "15511")
    first, *states, last = said.splitlines()
    assert ringback.store.get(first.removeprefix("call ")) is not None
    assert states == [state.value for state in State]
    assert last == "NORMAL_CLEARING, by destination"


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


def test_click_to_call(ringback: Ringback) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    port = free_port()
    program = str(EXAMPLES / "flask_click_to_call" / "app.py")
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", program, "run", "--port", str(port)],
        env=environment(ringback, WEBHOOK_SECRET=secret),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: serves(("127.0.0.1", port)))
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
    finally:
        process.terminate()
        process.wait(LIMIT)
