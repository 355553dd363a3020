"""The distribution ``ringback`` by itself: what its wheel holds, what it needs, and its types."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# A program of a user, and below it what a type checker has to find. Each line after it is wrong.
PROGRAM = """
import asyncio
from datetime import datetime

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from ringback import AsyncClient, Client, Invalid, NewCall, OutcomeUnknown, PhoneCall, Quota
from ringback.redis import AsyncCalls, Calls


def place(client: Client) -> PhoneCall | None:
    try:
        call = client.simple(
            "210",
            ["15500", "15501"],
            "15600",
            accept={"prompt": "press-one", "key": "1"},
            announce=False,
            headers={"destination": {"X-Order": "1"}},
            status_callback={"url": "https://example.org/", "events": ["ended"]},
        )
    except Quota as error:
        print(error.retry_after)
    except Invalid as error:
        print(error.field, error.reason)
    except OutcomeUnknown as error:
        print(error.nonce)
    else:
        with client.events(call_id=call.id) as events:
            for event in events:
                print(event.call.state.upper() if event.call.state else "")
        ended: list[datetime | None] = [each.ended for each in client.calls(status="all")]
        print(ended, client.hold(call.id, "00").done)
        return call
    client.create("callback", "212", [NewCall(source="1", destination="2")])
    return None


async def main() -> None:
    async with AsyncClient("http://127.0.0.1:8080", client_id="a", client_secret="b") as client:
        call = await client.invite("003", "15600", pin="1")
        async with client.events() as events:
            async for event in events:
                print(event.version + 1)
        print([record.billed + 1 async for record in client.cdr()], call.id.upper())
    calls = AsyncCalls(AsyncRedis())
    print((await calls.wait(call.id, lambda call: call.ended is not None)).state.upper())
    async for change in calls.follow("billing"):
        print(change.changed.get("state", "").upper())


with Client("http://127.0.0.1:8080", "token") as client:
    print(place(client), Calls(Redis()).by_nonce("app", "n")[0].legs[0].number.upper())
asyncio.run(main())
"""
WRONG = """
client.simple("210", "1")
client.simple("210", "1", "2", wait_for_pickups=20)
client.simple("210", "1", "2", accept={"promt": "x"})
client.calls(filterBy="nonce")
client.hang_up()
client.get("1").state.upper()
client.create("sample", "210", [])
client.whisper("1", "2", mute=True)
Calls(Redis()).get("1").nonce.upper()
"""


def requirements(name: str) -> Iterator[str]:
    """The distributions that one needs, and these need, without extras that nobody asks for."""
    left, seen = [Requirement(name)], set()
    while left:
        wanted = left.pop()
        if str(wanted) in seen:
            continue
        seen.add(str(wanted))
        yield wanted.name
        for each in map(Requirement, distribution(wanted.name).requires or ()):
            extras = wanted.extras or {""}
            if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in extras):
                left.append(each)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
    shutil.copytree(ROOT / "client", folder / "client", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    subprocess.run([*command, "--no-build-isolation", folder / "client"], check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel with its extra, and what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name in set(requirements("ringback[redis]")) - {"ringback"}:
        for path in {file.parts[0] for file in distribution(name).files or () if file.parts}:
            there = Path(str(distribution(name).locate_file(path)))
            if path != ".." and not (packages / path).exists():
                (packages / path).symlink_to(there)
    return folder / "bin/python"


def test_the_wheel_has_its_metadata_and_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    assert "ringback/py.typed" in names and any(name.endswith("LICENSE") for name in names)
    modules = {f"ringback/{path.name}" for path in (ROOT / "client/src/ringback").glob("*.py")}
    assert {name for name in names if re.fullmatch(r"ringback/\w+\.py", name)} == modules
    assert "ringback/redis/calls.py" in names
    assert not {name for name in names if not name.startswith(("ringback/", "ringback-"))}
    assert "\nName: ringback\n" in text and "License-Expression: Apache-2.0" in text
    needed = re.findall(r"^Requires-Dist: (.+)$", text, re.MULTILINE)
    always = [line for line in needed if "extra ==" not in line]
    assert 1 <= len(always) <= 3 and any(line.startswith("redis") for line in needed)


def test_it_needs_nothing_of_the_server(python: Path) -> None:
    code = "import ringback, ringback.redis; from ringback import *; print(ringback.__file__)"
    run = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.strip()).is_relative_to(python.parents[1])
    server = {Requirement(line).name for line in distribution("ringback-server").requires or ()}
    assert "ringback" in server and not {"flask", "gevent", "rq"} & set(requirements("ringback"))


@pytest.mark.parametrize("installed", ["wheel", "editable"])
def test_the_types_of_a_users_program_are_checked(
    installed: str, tmp_path: Path, wheel: Path, request: pytest.FixtureRequest
) -> None:
    of = request.getfixturevalue("python") if installed == "wheel" else sys.executable
    (tmp_path / "good.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(PROGRAM + WRONG)
    # What both know of the standard library is worked out once.
    words = ["--strict", "--no-error-summary", "--cache-dir", wheel.parent / "types"]
    words += ["--python-executable", of, "good.py", "wrong.py"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=tmp_path, capture_output=True, text=True
    )
    found = {int(n) for n in re.findall(r"^wrong\.py:(\d+): error", run.stdout, re.MULTILINE)}
    first = PROGRAM.count("\n") + 2
    assert found == set(range(first, first + WRONG.strip().count("\n") + 1)), run.stdout
    assert "good.py" not in run.stdout
