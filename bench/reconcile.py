"""How long a listener takes to compare all live calls with the switch, and what live events wait.

    python -m bench.reconcile [CALLS]

Sets up CALLS bridged calls (10,000) on the simulator while nobody listens, then starts a listener,
which has to ask for every channel; after that it compares them every five seconds. Meanwhile
single calls are placed; measured is how long after the switch's own time stamp their changes stand
in Redis, beside the same with no calls but these. It takes three quarters of a minute, and what
10,000 calls take to be set up.
"""

import http.client
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from redis import Redis
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from app.calls import transitions
from app.calls.model import Call, State
from app.settings import KNOWN, load_settings
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.queue import JobQueue
from app.store.writes import Note
from bench.speed.bare import NUMBER, call_to
from bench.speed.table import quantile
from freeswitch.event_socket import EventSocket
from ringback_cli.up import Ports, Stack, environment, running
from workers.dial_command import originate_command
from workers.runtime import switch_addresses

SPEED = 10.0
# Seconds for which single calls are placed while there are no others, and while these are compared.
WINDOW = 15.0
SWITCH = "simulator"
BODY = {"extension": "210", "phoneCallView": [{"source": ["15517"], "destination": ["15511"]}]}


def set_up(stack: Stack, count: int) -> None:
    """Calls as a worker leaves them, bridged on the switch, of which no event was heard."""
    redis = connect(stack.settings.require_redis())
    store, queue = CallStore(redis, Keys()), JobQueue(redis, Keys())
    address = switch_addresses(stack.settings)[0]
    switch = EventSocket(address.host, address.port, address.password)
    switch.connect()
    # Room for single calls beside them.
    switch.api(f"fsctl max_sessions {3 * count + 1_000}")
    core = switch.api("global_getvar core_uuid").strip()

    def dialled(call: Call) -> Call:
        call = transitions.claim(
            call, worker="bench", switch=SWITCH, core_uuid=core, at=store.now()
        )
        return transitions.mark_sent(call, at=store.now(), job_uuid=call.job_uuid)

    for _ in range(count):
        call = call_to(NUMBER)
        Acceptor(store).accept([call], lambda *_: None)
        # As it was accepted.
        call = store.change(replace(call, version=1), dialled, Note("command", "claim"))
        switch.bgapi(originate_command(call, ""), call.job_uuid, timeout=30)
    queue.calls.empty()
    _until(lambda: len(json.loads(switch.api("show channels as json"))["rows"]) == 2 * count)
    switch.close()


def _until(holds: Callable[[], bool]) -> None:
    retry(
        retry=retry_if_result(lambda found: not found),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(300),
    )(holds)()


def place(stack: Stack, redis: Redis, seconds: float, until: Callable[[], object]) -> list[float]:
    """Place calls one after the other and return the seconds by which Redis was behind, of the
    changes since the listener was up."""
    connection = http.client.HTTPConnection(*stack.settings.http_address)
    headers = {"Authorization": "Bearer demo-user-token"}
    last = redis.xrevrange(Keys().events, count=1)
    ours, end = set(), time.monotonic() + seconds
    while time.monotonic() < end and not until():
        connection.request("POST", "/uapi/phoneCalls/@me/simple", json.dumps(BODY), headers)
        ours.add(json.loads(connection.getresponse().read())[0]["id"])
        time.sleep(0.05)
    time.sleep(1.0)
    up_since = float(redis.hget(Keys().switch(SWITCH), "up_since") or 0)
    behind = []
    for _, entry in redis.xrange(Keys().events, min=f"({last[0][0].decode()}" if last else "-"):
        changed = json.loads(entry[b"changed"])
        times = [float(v) for k, v in changed.items() if k.endswith((":created", ":answered"))]
        if times and max(times) > up_since and entry[b"call"].decode() in ours:
            behind.append(float(entry[b"at"]) - max(times))
    return behind


def row(name: str, seconds: list[float]) -> None:
    figures = (quantile(seconds, 0.5), quantile(seconds, 0.99), max(seconds, default=math.nan))
    cells = "".join(f"{each * 1000:8.1f}" for each in figures)
    print(f"   {name:36}{cells}   ({len(seconds)} changes)")


def never() -> bool:
    return False


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    settings = replace(
        load_settings(),
        redis_url=None,
        accounts=None,
        demo=KNOWN,
        connections_per_address=0,
        switches=None,
        log_level="INFO",
        simulator_speed=SPEED,
        reconcile_interval=5.0,
    )
    key = Keys().switch(SWITCH)
    with running(settings, Ports(any_http=True)) as stack:
        redis = connect(stack.settings.require_redis())
        quiet = place(stack, redis, WINDOW, never)
        stack.processes["listener"].terminate()
        stack.processes["listener"].wait()
        set_up(stack, count)
        redis.hdel(key, "reconciled", "reconcile_seconds")
        process = subprocess.Popen(
            [sys.executable, "-m", "ringback_cli", "listener"], env=environment(stack.settings)
        )
        try:
            asking = place(stack, redis, 300, lambda: redis.hexists(key, "reconciled"))
            asked = float(redis.hget(key, "reconcile_seconds") or 0)
            comparing = place(stack, redis, WINDOW, never)
            compared = float(redis.hget(key, "reconcile_seconds") or 0)
        finally:
            process.terminate()
            process.wait()
        ids = CallStore(redis, Keys()).live_of_switch(SWITCH)
        calls = [call for call in CallStore(redis, Keys()).get_many(ids) if call is not None]
    print(f"{count} live calls: {asked:.2f} s to ask for every channel of them,")
    print(f"{compared:.2f} s to compare them when nothing was missed\n")
    print(f"   {'how far Redis is behind the switch':36}{'p50':>8}{'p99':>8}{'max':>8}   ms")
    row("no other calls", quiet)
    row("while every channel is asked for", asking)
    row("comparing every 5 s", comparing)
    bridged = sum(call.state is State.BRIDGED for call in calls)
    print(f"\n{bridged} of {len(calls)} live calls stand as bridged")


if __name__ == "__main__":
    main()
