"""Events that nobody can read, and too many of them: the listener must hear the next one."""

import threading
import time

from app.calls.model import State
from app.store.calls import CallStore
from bench.abuse.harness import Stack
from freeswitch.address import parse_list
from freeswitch.event_socket import EventSocket

TITLE = "an event nested 100,000 deep, 16 MB events, broken frames, a flood"
BOUND = 3.0
# Kinds of freeswitch.simulator.hostile, and how many of each at once.
_SENT = {"nested": 1, "large": 4, "no-colon": 1, "notice": 1, "flood": 2000}
# After these the listener connects anew. What happens meanwhile, the look at all channels finds.
_BROKEN = ("no-colon", "notice")
_PAUSE = 0.5
# Seconds until the listener has written the next event.
LIMITS = {f"longest until the next event after {kind}, s": 1.0 for kind in _SENT}
_WAIT = 60.0


def abuse(stack: Stack, stop: threading.Event) -> dict[str, object]:
    (address,) = parse_list(stack.switch.url)
    orders = EventSocket(address.host, address.port, address.password, timeout=_WAIT)
    orders.connect()
    store = CallStore(stack.redis, stack.keys)
    figures: dict[str, float] = {}
    rounds = 0
    while not stop.is_set():
        for (kind, times), name in zip(_SENT.items(), LIMITS, strict=True):
            call_id = stack.place()
            if store.wait(call_id, lambda call: call.state is State.BRIDGED, _WAIT) is None:
                raise RuntimeError(f"the call before {kind} was not heard of")
            orders.api(f"simulator send {kind} {times}")
            if kind in _BROKEN:
                time.sleep(_PAUSE)
            begun = time.monotonic()
            orders.api(f"hupall NORMAL_CLEARING ringback_call {call_id}")
            store.wait(call_id, lambda call: call.state is State.ENDED, _WAIT)
            figures[name] = max(figures.get(name, 0.0), time.monotonic() - begun)
        rounds += 1
        stop.wait(1.0)
    orders.close()
    return {"rounds": rounds, **figures}
