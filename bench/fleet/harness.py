"""A running Ringback with several simulated switches, and clients that place calls at a rate."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from app.calls.model import Call, State
from app.calls.transitions import BY_SWITCH, FAULTS
from app.settings import KNOWN, load_settings
from app.store import ejection
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from freeswitch.simulator import Simulator
from ringback_cli.up import free_port, running

# A number that answers at once.
NUMBER = "15517"
_LIMIT = 60.0
_SPEED = 4.0


@dataclass
class Fleet:
    """The switches by name, and what runs on them."""

    switches: dict[str, Simulator]
    address: tuple[str, int]
    store: CallStore
    # When each call was accepted (monotonic), by its id.
    placed: dict[str, float] = field(default_factory=dict)

    def order(self, switch: str, words: str) -> None:
        """Order a fault of a simulator, as `simulator WORDS`."""
        answer = self.switches[switch].order(words)
        if not answer.startswith("+OK"):
            raise RuntimeError(f"{words}: {answer}")

    def place(self) -> str:
        """Place a call that is answered at once and ends soon; return its id."""
        body = {
            "extension": "210",
            "phoneCallView": [{"source": [NUMBER], "destination": [NUMBER]}],
        }
        connection = http.client.HTTPConnection(*self.address, timeout=_LIMIT)
        with contextlib.closing(connection):
            connection.request(
                "POST",
                "/uapi/phoneCalls/@me/simple?callDuration=2&waitForPickup=5",
                json.dumps(body),
                {"Authorization": "Bearer demo-user-token", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
        if response.status != 202:
            raise RuntimeError(f"a call was refused: {response.status} {answer}")
        call_id: str = answer[0]["id"]
        self.placed[call_id] = time.monotonic()
        return call_id

    @contextlib.contextmanager
    def load(self, rate: float) -> Iterator[None]:
        """Place calls at a rate until leaving."""
        stop = threading.Event()
        errors: list[BaseException] = []

        def place() -> None:
            due = time.monotonic()
            while not stop.is_set():
                try:
                    self.place()
                except (OSError, RuntimeError, http.client.HTTPException) as error:
                    errors.append(error)
                    return
                due += 1.0 / rate
                stop.wait(max(0.0, due - time.monotonic()))

        thread = threading.Thread(target=place, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if errors:
            raise errors[0]

    def ejected(self, switch: str) -> list[str]:
        """What of a switch is ejected: "" for the whole, or gateways."""
        found = ejection.read(self.store.redis, self.store.keys)
        return [each.gateway for each in found if each.switch == switch]

    def ended(self, since: float, until: float) -> list[Call]:
        """The calls that were placed then (monotonic), once they have ended."""
        ids = [call_id for call_id, at in self.placed.items() if since <= at < until]
        found = []
        for call_id in ids:
            call = self.store.wait(call_id, lambda c: c.state is State.ENDED, _LIMIT)
            if call is None or call.state is not State.ENDED:
                raise RuntimeError(f"call {call_id} does not end")
            found.append(call)
        return found

    def dialled_twice(self) -> list[str]:
        """The calls for which more than one originate made a channel, by the switches' records."""
        made: dict[str, int] = {}
        for switch in self.switches.values():
            for each in switch.originates:
                for call_id in {leg.uuid.replace("-", "")[:20] for leg in each.legs}:
                    made[call_id] = made.get(call_id, 0) + 1
        return [call_id for call_id, count in made.items() if count > 1]


def is_lost(call: Call) -> bool:
    """Whether a switch, or Ringback on the way to it, failed the call."""
    return call.ended_by == BY_SWITCH or call.ended_by in FAULTS


@contextlib.contextmanager
def fleet(number: int, **changes: Any) -> Iterator[Fleet]:
    """A fleet of so many switches, with one API, worker and listener. Raises SettingsError,
    StartFailed."""
    with contextlib.ExitStack() as exits:
        switches = {
            f"s{n}": exits.enter_context(Simulator(speed=_SPEED, seed=n))
            for n in range(1, number + 1)
        }
        urls = (f"{name}=esl://:ClueCon@127.0.0.1:{s.port}" for name, s in switches.items())
        settings = replace(
            load_settings(),
            redis_url=None,
            switches=",".join(urls),
            demo=KNOWN,
            http=f"127.0.0.1:{free_port()}",
            **{"log_level": "ERROR", **changes},
        )
        up = exits.enter_context(running(settings))
        host, _, port = up.url.removeprefix("http://").rpartition(":")
        redis = connect(up.settings.require_redis())
        yield Fleet(switches, (host, int(port)), CallStore(redis, Keys(up.settings.key_prefix)))
