"""How long a call takes to be accepted, and to reach the switch, while nothing else runs.

    python -m bench.latency [CALLS]

Starts the whole of Ringback with one API process on the simulator, or on the switch of
FREESWITCH_URL, and places CALLS calls (200) one after the other. In the same run and on the
same Redis RQ's own empty job is measured: its enqueueing, and the way to its start in a
stock SimpleWorker.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from rq import Queue
from rq.serializers import JSONSerializer

from app.calls.model import State
from app.calls.store import CallStore, Keys
from app.redis_client import connect
from app.settings import load_settings
from freeswitch.event_socket import EventSocket
from workers.runtime import switch_addresses
from workers.up import Ports, Stack, running

# The source is busy at once: the call ends by itself.
BODY = {"extension": "210", "phoneCallView": [{"source": ["15509"], "destination": ["15500"]}]}
WARM_UP = 20


def place_calls(stack: Stack, count: int) -> Iterator[tuple[float, float, str]]:
    """For each call: when it was asked for, when it was answered (epoch seconds), its id."""
    store = CallStore(connect(stack.settings.require_redis()), Keys())
    connection = http.client.HTTPConnection(*stack.settings.http_address)
    headers = {"Authorization": "Bearer demo-user-token"}
    for _ in range(count):
        start = time.time()
        connection.request("POST", "/uapi/phoneCalls/@me/simple", json.dumps(BODY), headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        yield start, time.time(), document[0]["id"]
        store.wait(document[0]["id"], lambda call: call.state is State.ENDED, 10)


def originated(stack: Stack, calls: list[str]) -> dict[str, float]:
    """When the simulator had the originate of each call, by its own record. A real switch keeps
    none and stamps its events by a clock of 20 ms: there, when it had answered the command."""
    store = CallStore(connect(stack.settings.require_redis()), Keys())
    kept = [call for call in store.get_many(calls) if call is not None]
    if "FREESWITCH_URL" in os.environ:
        return {call.id: call.sent or 0.0 for call in kept}
    address = switch_addresses(stack.settings)[0]
    connection = EventSocket(address.host, address.port, address.password)
    connection.connect()
    record = {o["job_uuid"]: o["time"] for o in json.loads(connection.api("simulator originates"))}
    connection.close()
    return {call.id: record[call.job_uuid] for call in kept}


def empty_jobs(stack: Stack, count: int) -> Iterator[tuple[float, float, float]]:
    """RQ's empty job: when it was enqueued, when that was done, and when it ran."""
    url = stack.settings.require_redis()
    queue = Queue("bench", connection=connect(url), serializer=JSONSerializer)
    command = ["-m", "rq.cli", "worker", "--url", url, "-w", "rq.SimpleWorker", "--quiet"]
    worker = subprocess.Popen(
        [sys.executable, *command, "--serializer", "rq.serializers.JSONSerializer", "bench"]
    )
    try:
        for _ in range(count):
            start = time.time()
            job = queue.enqueue("time.time")
            done = time.time()
            while (result := job.latest_result(timeout=10)) is None:
                continue
            yield start, done, result.return_value
    finally:
        worker.terminate()
        worker.wait()


def row(name: str, seconds: list[float], against: list[float] | None = None) -> None:
    cut = statistics.quantiles(seconds, n=100)
    median = statistics.median(seconds)
    ratio = f"{median / statistics.median(against):10.2f}" if against else f"{'1':>10}"
    print(f"{name:44}{median * 1000:8.2f}{cut[98] * 1000:8.2f}{ratio}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    real = os.environ.get("FREESWITCH_URL")
    settings = replace(
        load_settings(),
        redis_url=None,
        accounts=None,
        switches=f"real={real}" if real else None,
        log_level="ERROR",
    )
    with running(settings, Ports(any_http=True)) as stack:
        jobs = list(empty_jobs(stack, count + WARM_UP))[WARM_UP:]
        calls = list(place_calls(stack, count + WARM_UP))[WARM_UP:]
        reached = originated(stack, [call_id for _, _, call_id in calls])
    enqueued = [done - start for start, done, _ in jobs]
    ran = [at - start for start, _, at in jobs]
    switch = (
        "the real switch's answer to the originate" if real else "originate on the event socket"
    )
    print(f"{count} of each, one after the other\n")
    print(f"{'':44}{'p50 ms':>8}{'p99 ms':>8}{'ratio':>10}")
    row("RQ: enqueue an empty job", enqueued)
    row("POST to its answer", [done - start for start, done, _ in calls], enqueued)
    row("RQ: enqueue to the empty job's start", ran)
    row(f"POST to {switch}", [reached[i] - start for start, _, i in calls], ran)


if __name__ == "__main__":
    main()
