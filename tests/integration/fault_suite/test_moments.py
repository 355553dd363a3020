"""Faults at moments that matter, done to real processes, and the switch's own word on what became
of the calls."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from app.calls.transitions import FAULTS as LOST
from bench.faults.check import CallHash, read_calls
from bench.faults.cluster import APIS, RINGBACK, WORKERS, wait_until
from bench.faults.load import CALLS, Answer, Client, CutOff, Placed, Plan, exchange
from bench.faults.process import AT
from bench.faults.suite import Suite, opened
from freeswitch.event_socket import EventSocket
from tests.integration.fault_suite.conftest import LAYOUT, RATE, sound, under_load
from workers.listener.leading import LEASE, RENEWAL

SEED = 2
SENTINEL = replace(
    LAYOUT,
    sentinel=True,
    seed=3,
    settings={**LAYOUT.settings, "RINGBACK_WAIT_REPLICAS": "1"},
)


def one(suite: Suite, kind: str = "talk", client: Client = Client.RETRIES) -> Plan:
    """The next call of a kind by such a client, wanted at once."""
    found = next(p for p in suite.plans if (p.kind, p.client) == (kind, client))
    return replace(found, after=0.0)


def call_of(suite: Suite, plan: Plan) -> CallHash:
    def found() -> list[CallHash]:
        calls = read_calls(suite.cluster.redis(), suite.cluster).values()
        return [call for call in calls if call.numbers == set(plan.numbers)]

    wait_until("it is not accepted", lambda: bool(found()))
    return found()[0]


def await_end(suite: Suite, plan: Plan) -> None:
    wait_until("it does not end", lambda: call_of(suite, plan).fields["state"] == "ended")


def test_the_master_of_redis_dies(tmp_path: Path) -> None:
    with opened(SENTINEL, tmp_path, SENTINEL.seed, print) as suite:
        verdict = sound(suite.round(under_load(lambda: suite.do("sentinel_failover", 1.0)), RATE))
    # Some were placed after it.
    assert verdict.reasons["destination"]


@pytest.mark.parametrize(
    ("point", "ended_by", "originates"),
    [
        # Its job is lost with it; the call is not.
        ("workers.dispatch:Dispatcher.ask:before", "destination", 1),
        # Nobody but the switch can know whether it was sent.
        ("freeswitch.connection:SwitchConnection.bgapi:before", "worker_lost", 0),
        ("freeswitch.connection:SwitchConnection.bgapi:after", "destination", 1),
    ],
)
def test_a_worker_dies_at(suite: Suite, point: str, ended_by: str, originates: int) -> None:
    cluster, plan = suite.cluster, one(suite, "far end hangs up")
    first, second = map(cluster.part, WORKERS)
    first.terminate()
    second.terminate()
    first.start(**{AT: point})

    def die() -> None:
        first.await_death()
        second.start()
        await_end(suite, plan)

    verdict = sound(suite.round(die, RATE, [plan]))
    assert (dict(verdict.reasons), verdict.originates) == ({ended_by: 1}, originates)


def test_an_api_dies_between_accepting_and_answering(suite: Suite) -> None:
    cluster = suite.cluster
    first, second = map(cluster.part, APIS)
    first.terminate()
    second.terminate()
    first.start(**{AT: "app.store.accepting:Acceptor.accept:after"})
    wait_until("it does not answer", lambda: cluster.serves(APIS[0]))

    def die() -> None:
        first.await_death()
        second.start()

    verdict = sound(suite.round(die, RATE, [one(suite)]))
    assert (verdict.calls, verdict.originates, dict(verdict.reasons)) == (1, 1, {"api": 1})
    # The second asking found the call of the first.
    assert verdict.answers["POST 202"] == 1 < sum(verdict.answers.values()) - 1


def test_one_nonce_many_times_at_once(suite: Suite) -> None:
    placed = Placed(one(suite, "far end hangs up"))
    ports = list(suite.cluster.api_ports.values())

    async def ask(number: int) -> None:
        plan = placed.plan
        path = f"{CALLS}/simple{plan.query}"
        answer = Answer.begun(plan, "POST", path, ports[number % 2])
        placed.answers.append(answer)
        # Every fifth goes away, each a little later than the one before.
        cut_after = None if number % 5 else number / 5000
        try:
            answer.take(await exchange(answer.port, "POST", path, plan.body, cut_after))
        except CutOff:
            answer.error = "CutOff()"

    async def ask_all() -> None:
        await asyncio.gather(*map(ask, range(50)))

    asyncio.run(ask_all())
    verdict = sound(suite.judge([placed]))
    assert len(placed.call_ids) == 1
    assert (verdict.answers["POST 202"], verdict.originates) == (40, 1)


@pytest.mark.parametrize("state", ["full", "read-only", "gone"])
def test_without_redis_nothing_is_accepted(suite: Suite, state: str) -> None:
    cluster = suite.cluster
    server, part = cluster.server("redis1"), cluster.part("redis1")
    pids = {name: cluster.part(name).pid for name in RINGBACK}
    match state:
        case "full":
            server.config_set("maxmemory", "1")
        case "read-only":
            server.replicaof("127.0.0.1", "1")
        case "gone":
            part.kill()
    refused = [Placed(one(suite, client=Client.ONCE)) for _ in range(4)]

    async def ask() -> None:
        for number, placed in enumerate(refused):
            answer = Answer.begun(placed.plan, "POST", f"{CALLS}/simple", _port(suite, number))
            placed.answers.append(answer)
            answer.take(await exchange(answer.port, "POST", answer.path, placed.plan.body))
        for number in (0, 1):
            response = await exchange(_port(suite, number), "GET", f"{CALLS}/@self")
            # A Redis that takes no writes can still be read.
            assert response.status == (503 if state == "gone" else 200)
            assert response.retry_after or response.status == 200

    asyncio.run(ask())
    told = [(a.status, a.code, bool(a.retry_after)) for p in refused for a in p.answers]
    assert told == [(503, "service_unavailable", True)] * 4
    match state:
        case "full":
            server.config_set("maxmemory", "0")
        case "read-only":
            server.replicaof("NO", "ONE")
        case "gone":
            part.start()
    sound(suite.judge(refused))
    # Whoever asks from now on is served, by the same processes.
    talk, busy = one(suite), one(suite, "source busy")
    verdict = sound(suite.round(lambda: await_end(suite, busy), RATE, [talk, busy]))
    assert verdict.reasons == {"api": 1, "source": 1}
    assert {name: cluster.part(name).pid for name in RINGBACK} == pids


def _port(suite: Suite, number: int) -> int:
    return suite.cluster.api_ports[APIS[number % 2]]


def test_a_rolling_restart_loses_nothing(suite: Suite) -> None:
    happens = under_load(lambda: suite.do("rolling_restart", 0.0))
    verdict = sound(suite.round(happens, rate=20.0))
    assert not set(verdict.reasons) & LOST, verdict.short()


def test_a_switch_has_another_listener_soon(suite: Suite) -> None:
    cluster = suite.cluster
    switch = cluster.switches[0].name

    def die() -> None:
        follower = cluster.follower(switch)
        assert follower is not None
        cluster.part(follower).kill()
        took = wait_until("nobody follows it", lambda: cluster.follower(switch) is not None)
        print(f"another listener after {took:.2f} s")

    # Within four seconds, as docs/promises.md says; what a busy machine adds is not Ringback's.
    assert LEASE + 2 * RENEWAL <= 4.0
    sound(suite.round(under_load(die), RATE))


def test_the_checker_sees_a_call_dialled_twice(suite: Suite) -> None:
    """A check that finds nothing has to be one that would."""
    cluster, plan = suite.cluster, one(suite, "far end hangs up")
    sound(suite.round(lambda: None, RATE, [plan]))

    def sent() -> list[str]:
        data = (entry.get("data", "") for entry in call_of(suite, plan).timeline)
        return [text for text in data if text.startswith("originate ")]

    # The worker notes what it has sent a moment later (_GATHER).
    wait_until("what was sent is not noted", lambda: bool(sent()))
    (command,) = sent()
    call = call_of(suite, plan)
    address = cluster.switches[0]
    connection = EventSocket(address.host, address.port, address.password, user=address.user)
    connection.connect()
    connection.bgapi(command, call.fields["job_uuid"])
    connection.close()

    def dialled_twice() -> bool:
        suite.record.read_on()
        return len(suite.record.rings[plan.sources[0]]) > 1

    wait_until("it is not dialled", dialled_twice)
    verdict = suite.judge([Placed(plan)])
    # Ringback hangs it up before the destination's turn comes: the call has ended.
    assert f"number {plan.sources[0]} was dialled 2 times" in str(verdict)
    assert sum("was originated" in text for text in verdict.violations) == 1
