"""Calls placed by clients of all sorts, at a rate that does not ask how the last one went.

Every call has telephone numbers that no other call uses, so that the switch's own record tells
which call each ringing was for, and how often. Everything asked and answered is kept.
"""

import asyncio
import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any

TOKEN = "demo-user-token"
EXTENSION = "210"
CALLS = "/uapi/phoneCalls/@me"
_CREATE = f"{CALLS}/simple"
# Seconds: one attempt, and all of a client's attempts.
ATTEMPT_LIMIT = 6.0
PATIENCE = 60.0
# How many of one client's attempts are under way at once, where it cannot wait.
CROWD = 6


class Client(StrEnum):
    """How a client goes about it."""

    RETRIES = "retries"
    # Hangs up on the API before the answer, then asks again.
    CUTS = "cuts"
    # Asks many times at once, both APIs.
    CROWD = "crowd"
    # Without a nonce: asks once, whatever comes of it.
    ONCE = "once"


@dataclass(frozen=True)
class Ask:
    """What a client asks of its call, so many seconds after the answer."""

    after: float
    method: str
    body: Any = None


@dataclass(frozen=True)
class Plan:
    """One call as its client wants it. `after` is its distance from the call before it, in units
    of the average one."""

    index: int
    after: float
    kind: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    query: str
    client: Client
    nonce: str | None
    # Seconds from the answer to the DELETE.
    hang_up_after: float | None
    asks: tuple[Ask, ...] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        return (*self.sources, *self.destinations)

    @property
    def body(self) -> dict[str, Any]:
        view = {"source": list(self.sources), "destination": list(self.destinations)}
        return {"extension": EXTENSION, "phoneCallView": [view]} | (
            {"nonce": self.nonce} if self.nonce else {}
        )


# A telephone number of a load: its seed, a serial number, and the manner.
NUMBER = re.compile(r"1\d{6}\d{9}\d\d")
# Kind: its weight, the manners of its sources and destinations (the last two digits of a number),
# the query, and the seconds within which it is hung up.
_KINDS: dict[str, tuple[int, Sequence[str], Sequence[str], str, tuple[float, float] | None]] = {
    "talk": (30, ["00"], ["17"], "", (0.3, 2.0)),
    "far end hangs up": (15, ["17"], ["11"], "", None),
    "source hangs up": (5, ["11"], ["00"], "", None),
    "destination busy": (8, ["17"], ["09"], "", None),
    "destination declines": (5, ["17"], ["13"], "", None),
    "destination unknown": (5, ["17"], ["14"], "", None),
    "source busy": (8, ["09"], ["00"], "", None),
    "no source answers": (6, ["08"], ["00"], "?waitForPickup=1", None),
    "no destination answers": (6, ["17"], ["08"], "?waitForPickup=2", None),
    "two sources": (8, ["00", "08"], ["11"], "", None),
    "cancelled at once": (4, ["08"], ["00"], "", (0.0, 0.05)),
    "cancelled while ringing": (6, ["08", "16"], ["00"], "", (0.1, 1.5)),
}
_CLIENTS = {Client.RETRIES: 65, Client.CUTS: 12, Client.CROWD: 5, Client.ONCE: 18}


# What changes no leg's end and brings in no number: actions, good and bad, and looks.
_ASKS: tuple[tuple[str, Any], ...] = (
    *(
        ("PUT", {"action": action, "phoneCallViewId": view})
        for action in ("OnHold", "OffHold")
        for view in ("00", "01")
    ),
    ("PUT", {"action": "OnHold", "phoneCallViewId": "77"}),
    ("PUT", {"action": "Dance"}),
    ("PUT", [{"action": None}]),
    ("GET", None),
)


def _asks(random: Random) -> tuple[Ask, ...]:
    count = random.choice((0, 0, 1, 2, 4))
    chosen = [(random.uniform(0.0, 2.0), *random.choice(_ASKS)) for _ in range(count)]
    return tuple(Ask(*each) for each in sorted(chosen, key=lambda each: each[0]))


def plans(seed: int, *, asks: bool = False) -> Iterator[Plan]:
    """Calls without end, the same for the same seed and with other numbers for another. With
    ``asks`` their clients ask more of them, in any order."""
    random = Random(f"load {seed}")
    curious = Random(f"asks {seed}")
    begin, serial = f"1{seed % 1_000_000:06}", itertools.count(1)
    for index in itertools.count(1):
        kind = random.choices(list(_KINDS), [weight for weight, *_ in _KINDS.values()])[0]
        _, sources, destinations, query, talk = _KINDS[kind]
        client = random.choices(list(_CLIENTS), list(_CLIENTS.values()))[0]
        yield Plan(
            index=index,
            after=random.expovariate(1.0),
            kind=kind,
            sources=tuple(f"{begin}{next(serial):09}{manner}" for manner in sources),
            destinations=tuple(f"{begin}{next(serial):09}{manner}" for manner in destinations),
            query=query,
            client=client,
            nonce=None if client is Client.ONCE else f"load-{seed}-{index}",
            hang_up_after=random.uniform(*talk) if talk else None,
            asks=_asks(curious) if asks else (),
        )


@dataclass
class Answer:
    """One request and what came of it. `asked` and `answered` are epoch seconds."""

    plan: int | None
    method: str
    path: str
    port: int
    nonce: str | None
    asked: float
    asked_monotonic: float
    answered: float = 0.0
    answered_monotonic: float = 0.0
    status: int | None = None
    body: Any = None
    retry_after: str | None = None
    # Why there is no answer.
    error: str | None = None

    @classmethod
    def begun(cls, plan: Plan, method: str, path: str, port: int) -> "Answer":
        """A request that goes out now."""
        now = time.time(), time.monotonic()
        return cls(plan.index, method, path, port, plan.nonce, *now)

    def take(self, response: "Response") -> None:
        self.status, self.body = response.status, response.body
        self.retry_after = response.retry_after

    @property
    def code(self) -> str | None:
        """The code of an error that was answered."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        return error.get("code") if isinstance(error, dict) else None

    @property
    def call_id(self) -> str | None:
        """The call that a create was answered with."""
        if self.method != "POST" or self.status not in (200, 202):
            return None
        call_id: str = self.body[0]["id"]
        return call_id

    def __str__(self) -> str:
        said = self.error or f"{self.status} {self.code or ''}".strip()
        return f"{self.asked:.3f} {self.method} {self.path} to port {self.port}: {said}"


@dataclass
class Placed:
    """A call's plan, and all that was asked and answered for it."""

    plan: Plan
    answers: list[Answer] = field(default_factory=list)

    @property
    def posts(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.method == "POST"]

    @property
    def call_ids(self) -> set[str]:
        return {call_id for answer in self.posts if (call_id := answer.call_id)}


class CutOff(Exception):
    """The client has hung up on purpose."""


class Load:
    """Clients in a thread of their own, from entering `with` until leaving it.

    Leaving waits until each client has got what it wants or lost its patience; no more of the
    `plans` are begun then, unless they are `all` wanted.
    """

    def __init__(
        self, ports: Sequence[int], plans: Iterable[Plan], rate: float, path: Path, *, all: bool
    ) -> None:
        """`rate` is in calls per second; `path` gets every answer."""
        self._ports = ports
        self._plans = plans
        self._rate = rate
        self._path = path
        self._all = all
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._error: BaseException | None = None
        self.placed: list[Placed] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        clients = set()
        with self._path.open("a", buffering=1) as self._file:
            try:
                due = time.monotonic()
                for plan in self._plans:
                    due += plan.after / self._rate
                    await asyncio.sleep(due - time.monotonic())
                    if self._over.is_set() and not self._all:
                        break
                    placed = Placed(plan)
                    self.placed.append(placed)
                    clients.add(asyncio.create_task(self._serve(placed)))
                await asyncio.gather(*clients)
            except BaseException as error:
                self._error = error

    async def _serve(self, placed: Placed) -> None:
        plan = placed.plan
        random = Random(f"client {plan.index}")
        match plan.client:
            case Client.CROWD:
                many = (self._post(placed, random, first) for first in range(CROWD))
                call_id = (await asyncio.gather(*many))[0]
            case Client.CUTS:
                cut = random.choice([0.0, random.uniform(0.0, 0.02)])
                with contextlib.suppress(OSError, EOFError, CutOff):
                    await self._attempt(placed, "POST", _CREATE + plan.query, plan.body, 0, cut)
                call_id = await self._post(placed, random, 1)
            case _:
                call_id = await self._post(placed, random, random.randrange(2))
        if call_id is None:
            return
        path = f"{CALLS}/{EXTENSION}/{call_id}"
        asking = asyncio.gather(*(self._ask(placed, ask, path) for ask in plan.asks))
        if plan.hang_up_after is not None:
            await asyncio.sleep(plan.hang_up_after)
            await self._insist(placed, random, random.randrange(2), "DELETE", path, None)
        await asking

    async def _ask(self, placed: Placed, ask: Ask, path: str) -> None:
        await asyncio.sleep(ask.after)
        with contextlib.suppress(OSError, EOFError):
            await self._attempt(placed, ask.method, path, ask.body, placed.plan.index)

    async def _post(self, placed: Placed, random: Random, first: int) -> str | None:
        plan = placed.plan
        path = _CREATE + plan.query
        if plan.client is Client.ONCE:
            with contextlib.suppress(OSError, EOFError):
                return (await self._attempt(placed, "POST", path, plan.body, first)).call_id
            return None
        answer = await self._insist(placed, random, first, "POST", path, plan.body)
        return answer.call_id if answer else None

    async def _insist(
        self, placed: Placed, random: Random, first: int, method: str, path: str, body: Any
    ) -> Answer | None:
        """Ask one API after the other until one answers anything but 503, or PATIENCE ends."""
        end = time.monotonic() + PATIENCE
        for number in itertools.count(first):
            with contextlib.suppress(OSError, EOFError):
                answer = await self._attempt(placed, method, path, body, number)
                if answer.status != 503:
                    return answer
            if time.monotonic() > end:
                return None
            await asyncio.sleep(random.uniform(0.1, 1.0))
        return None

    async def _attempt(
        self,
        placed: Placed,
        method: str,
        path: str,
        body: Any,
        number: int,
        cut_after: float | None = None,
    ) -> Answer:
        """One request. Raises OSError, EOFError or CutOff where no answer came."""
        port = self._ports[number % len(self._ports)]
        plan = placed.plan
        answer = Answer.begun(plan, method, path, port)
        placed.answers.append(answer)
        try:
            async with asyncio.timeout(ATTEMPT_LIMIT):
                answer.take(await exchange(port, method, path, body, cut_after))
        except (OSError, EOFError, CutOff) as error:
            answer.error = repr(error)
            raise
        finally:
            answer.answered, answer.answered_monotonic = time.time(), time.monotonic()
            self._file.write(json.dumps({**asdict(answer), "numbers": plan.numbers}) + "\n")
        return answer


@dataclass(frozen=True)
class Response:
    status: int
    retry_after: str | None
    body: Any


async def exchange(
    port: int, method: str, path: str, body: Any = None, cut_after: float | None = None
) -> Response:
    """One request over a connection of its own.

    With `cut_after` the connection is closed that many seconds after the request has gone out.
    Raises OSError; EOFError for half an answer; CutOff.
    """
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + content)
        await writer.drain()
        if cut_after is not None:
            await asyncio.sleep(cut_after)
            raise CutOff
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (s.partition(": ") for s in lines)}
        document = await reader.readexactly(int(headers["content-length"]))
        return Response(int(status.split()[1]), headers.get("retry-after"), json.loads(document))
    finally:
        writer.close()
