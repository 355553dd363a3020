"""What is promised of accepting a call while Redis stands still, dies or refuses."""

import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.calls import transitions
from app.calls.model import Call, Leg, NumberKind, Role, State, job_uuid, leg_uuid
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.client import connect
from app.store.errors import NotReplicated, OutcomeUnknown
from app.store.keys import Keys
from app.store.queue import JobQueue
from app.store.writes import Note
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port
from tests.conftest import await_ready, eventually

NONCE = "n1"


def new_call(nonce: str | None = None) -> Call:
    call_id = secrets.token_hex(10)
    legs = tuple(
        Leg(leg, role, "15500", NumberKind.PUBLIC, leg_uuid(call_id, role, 1, 1), gateway="pstn")
        for leg, role in (("a1", Role.SOURCE), ("b1", Role.DESTINATION))
    )
    return Call(
        id=call_id,
        kind="simple",
        app="demo-user",
        user="12",
        organization="3",
        organization_name="Default Organization",
        extension="0003*210",
        accepted=time.time(),
        wait_for_pickup=25,
        call_duration=60,
        queue_timeout=60,
        job_uuid=job_uuid(call_id),
        nonce=nonce,
        legs=legs,
    )


class Client:
    """What an API process has of Redis."""

    def __init__(self, url: str, replicas: int = 0) -> None:
        self.redis = connect(url, timeout=0.3, retries=0)
        self.store = CallStore(self.redis, Keys(), replicas)
        self.queue = JobQueue(self.redis, Keys())

    def accept(self, call: Call) -> bool:
        """Whether it was new."""
        nonce = (call.app, call.nonce) if call.nonce else None
        return Acceptor(self.store).accept([call], self.queue.place_call, nonce=nonce).new


@contextmanager
def own_redis() -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(free_port())
    try:
        await_ready(server.url)
        connect(server.url).hset(Keys().limits, "mark", "test")
        yield server
    finally:
        server.process.send_signal(signal.SIGCONT)
        server.stop()


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with own_redis() as server:
        yield server


def traces(redis: Redis, call: Call) -> list[bytes]:
    """The keys that speak of a call."""
    found: list[bytes] = redis.keys(f"*{call.id}*")
    queued: list[bytes] = redis.lrange("rq:queue:ringback-calls", 0, -1)
    return found + [job for job in queued if call.id.encode() in job]


def test_what_a_redis_that_stands_still_was_sent_is_not_carried_out_when_it_goes_on(
    server: EmbeddedRedis,
) -> None:
    client, call = Client(server.url), new_call(NONCE)
    # It has just answered: the script is sent without asking for a sign of life.
    assert client.accept(new_call())
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(OutcomeUnknown):
        client.accept(call)
    server.process.send_signal(signal.SIGCONT)
    fresh = connect(server.url)
    # Behind whatever waited on the old connections.
    assert fresh.ping()
    assert traces(fresh, call) == []
    assert client.accept(replace(call, id=new_call().id))


def test_a_redis_that_has_been_silent_is_sent_nothing(server: EmbeddedRedis) -> None:
    client, call = Client(server.url), new_call()
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(RedisTimeoutError):
        client.accept(call)
    server.process.send_signal(signal.SIGCONT)
    assert traces(connect(server.url), call) == []


def test_a_redis_that_comes_back_in_time_has_the_call_once(server: EmbeddedRedis) -> None:
    client, call = Client(server.url), new_call()
    assert client.accept(new_call())
    server.process.send_signal(signal.SIGSTOP)
    timer = threading.Timer(0.8, server.process.send_signal, [signal.SIGCONT])
    timer.start()
    # Sent again and again meanwhile, each time as one that may have been carried out.
    assert client.accept(call)
    timer.join()
    assert client.redis.lrange("rq:queue:ringback-calls", 0, -1).count(call.id.encode()) == 1
    timeline = client.store.timeline(call.id)
    assert [entry["name"] for entry in timeline] == ["accepted", "queued"]


def test_a_redis_that_is_gone_accepts_nothing(server: EmbeddedRedis) -> None:
    client = Client(server.url)
    assert client.accept(new_call())
    server.process.kill()
    server.process.wait()
    # What was never sent is refused for sure, not as of unknown outcome.
    with pytest.raises(RedisError):
        client.accept(new_call())


def test_a_clock_that_was_stepped_costs_one_attempt(redis: Redis, redis_url: str) -> None:
    client = Client(redis_url)
    assert client.accept(new_call())
    # As if Redis' clock had gone on by an hour since it was last heard.
    client.store.clock._offset -= 3_600e6
    assert client.accept(new_call())


@pytest.mark.parametrize(
    ("change", "back"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
        ),
    ],
)
def test_a_redis_that_refuses_has_nothing_of_the_call(
    server: EmbeddedRedis, change: tuple[str, ...], back: tuple[str, ...]
) -> None:
    client, call = Client(server.url), new_call(NONCE)
    client.redis.execute_command(*change)
    with pytest.raises(RedisError):
        client.accept(call)
    client.redis.execute_command(*back)
    assert traces(client.redis, call) == []
    assert client.redis.keys("*nonce*") == []
    assert client.accept(call)


def test_the_nonce_of_a_call_that_is_no_longer_kept_is_new_again(
    redis: Redis, redis_url: str
) -> None:
    client, first, second = Client(redis_url), new_call(NONCE), new_call(NONCE)
    assert client.accept(first)
    assert not client.accept(second)
    redis.delete(client.store.keys.call(first.id))
    assert client.accept(second)
    assert [call.id for call in client.store.by_nonce(first.app, NONCE)] == [second.id]


def test_without_enough_replicas_nothing_is_said_to_be_safe(redis: Redis, redis_url: str) -> None:
    client, call = Client(redis_url, replicas=1), new_call(NONCE)
    client.redis.connection_pool.connection_kwargs["socket_timeout"] = 5
    with pytest.raises(OutcomeUnknown):
        client.accept(call)
    # Nor where the nonce is found, which is no write of this connection's own.
    with pytest.raises(OutcomeUnknown):
        client.accept(call)
    kept = client.store.get(call.id)
    assert kept is not None and kept.state is State.QUEUED

    def claim(current: Call) -> Call:
        return transitions.claim(current, worker="w", switch="s", core_uuid="c", at=time.time())

    # The second time as after a lost answer: the claim is there, and still on one server alone.
    for _ in range(2):
        with pytest.raises(NotReplicated):
            client.store.change(kept, claim, Note("command", "claim"), replicated=True)


def test_a_second_attempt_waits_for_the_replicas_too(redis: Redis, redis_url: str) -> None:
    """Without a nonce: the answer to the first was lost, the call is there."""
    call = new_call()
    assert Client(redis_url).accept(call)
    client = Client(redis_url, replicas=1)
    client.redis.connection_pool.connection_kwargs["socket_timeout"] = 5
    with pytest.raises(OutcomeUnknown):
        client.accept(call)


def state_of_replica(master: Redis) -> str:
    replica = master.info("replication").get("slave0", {})
    state: str = replica.get("state", "")
    return state


def test_with_enough_replicas_all_goes_its_way() -> None:
    with own_redis() as master, own_redis() as replica:
        of_master = urlsplit(master.url)
        # Else the master waits five seconds for more replicas.
        connect(master.url).config_set("repl-diskless-sync-delay", 0)
        connect(replica.url).config_set("masterauth", of_master.password or "")
        connect(replica.url).replicaof("127.0.0.1", of_master.port)
        client, call = Client(master.url, replicas=1), new_call()
        client.redis.connection_pool.connection_kwargs["socket_timeout"] = 5
        eventually(lambda: state_of_replica(client.redis) == "online")
        # It may still be loading what there was.
        eventually(lambda: client.redis.set("probe", 1) and client.redis.wait(1, 500) == 1)
        assert client.accept(call)
        assert CallStore(connect(replica.url), Keys()).get(call.id) is not None
        store = CallStore(client.redis, Keys(), replicas=1)
        kept = store.get(call.id)
        assert kept is not None
        # Neither one that this server has otherwise nor one that it does not have at all.
        others = replace(kept, stamp="another"), replace(kept, id="0" * 20)
        assert store.replicated([kept, *others]) == [kept]
