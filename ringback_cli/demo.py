"""Runs the demo: it places one call and shows each change."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from app.settings import Settings
from app.store.client import BLOCK_LIMIT, connect
from app.store.keys import Keys
from ringback_cli import words
from ringback_cli.up import Ports, Stack, running

TOKEN = "demo-user-token"
REQUEST = {
    "extension": "210",
    "phoneCallView": [
        {
            "source": ["5354353", "5302040"],
            "destination": ["3235742879"],
            "callerId": "John Doe <4242425>",
        }
    ],
}
# Seconds that the two parties talk.
TALK = 2.0
LIMIT = 40.0


def run_demo(settings: Settings) -> int:
    """Start all parts, place a call, show each change, and hang up. Returns the exit status.

    The demo always uses the demo accounts, its own Redis and its own simulator.
    """
    own = replace(settings, redis_url=None, switches=None, simulator=None, accounts=None, demo=None)
    click.secho("Starting Redis, the simulator, the API, a worker and a listener …", bold=True)
    with running(own, Ports(any_http=True)) as stack:
        for line in stack.started:
            click.echo(f"  {line}")
        _show_call(stack)
    _show_curl()
    return 0


def _show_call(stack: Stack) -> None:
    redis = connect(stack.settings.require_redis())
    keys = Keys(stack.settings.key_prefix)
    path = "/uapi/phoneCalls/@me/simple"
    click.secho(f"\nPOST {path}", bold=True)
    click.echo(_pretty(REQUEST))
    status, answer = _http(stack, "POST", path, REQUEST)
    click.secho(f"\n{status}", bold=True)
    click.echo(_pretty(answer))
    call_id = answer[0]["id"]
    call_path = f"/uapi/phoneCalls/@me/210/{call_id}"

    click.secho("\nThe call, change by change", bold=True)
    started = None
    hang_up_at = None
    numbers: dict[str, str] = {}
    for at, changed in _changes(redis, keys, call_id):
        started = started or at
        for name, text in changed.items():
            if name.endswith(":number"):
                numbers[name.split(":")[1]] = text
        for line in words.told(changed, numbers):
            is_call = line.startswith("call ")
            shown = click.style(line, fg="green", bold=True) if is_call else line
            click.echo(f"  {at - started:6.2f} s  {shown}")
        if changed.get("state") == "bridged":
            hang_up_at = time.monotonic() + TALK
        elif changed.get("state") == "ended":
            break
        if hang_up_at is not None:
            # The two parties talk for a while.
            time.sleep(max(0.0, hang_up_at - time.monotonic()))
            hang_up_at = None
            click.secho(f"\nDELETE {call_path}", bold=True)
            status, _ = _http(stack, "DELETE", call_path)
            click.echo(f"{status}\n")

    click.secho(f"\nGET {call_path}", bold=True)
    status, record = _http(stack, "GET", call_path)
    click.echo(f"{status}\n{_pretty(record)}")


def _changes(redis: Any, keys: Keys, call_id: str) -> Iterator[tuple[float, dict[str, str]]]:
    """Each change of the call from the stream, with its time in epoch seconds."""
    last = b"0"
    end = time.monotonic() + LIMIT
    while (left := end - time.monotonic()) > 0:
        block = max(1, int(min(left, BLOCK_LIMIT) * 1000))
        for _, entries in redis.xread({keys.events: last}, block=block) or ():
            for entry_id, fields in entries:
                last = entry_id
                if fields[b"call"] == call_id.encode():
                    yield float(fields[b"at"]), json.loads(fields[b"changed"])
    raise TimeoutError(f"call {call_id} has not ended within {LIMIT:.0f} seconds")


def _http(stack: Stack, method: str, path: str, body: Any = None) -> tuple[str, Any]:
    request = urllib.request.Request(
        stack.url + path,
        method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=15) as answer:
        return f"HTTP {answer.status} {answer.reason}", json.load(answer)


def _pretty(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _show_curl() -> None:
    base = "http://127.0.0.1:8080/uapi/phoneCalls/@me"
    header = f"-H 'Authorization: Bearer {TOKEN}'"
    click.secho("\nTry it yourself: run `make up`, then in another terminal", bold=True)
    click.echo(f"  curl {header} -d '{json.dumps(REQUEST)}' {base}/simple")
    click.echo(f"  curl {header} '{base}/@self'              # all live calls")
    click.echo(f"  curl {header} '{base}/210/<id>'           # one call, live or ended")
    click.echo(f"  curl {header} -X DELETE '{base}/210/<id>' # hang it up")
