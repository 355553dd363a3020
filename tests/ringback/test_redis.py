"""ringback.redis against calls that the store writes, for threads and under asyncio."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from app.calls import transitions
from app.calls.model import Call
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.queue import JobQueue
from app.store.writes import Note
from ringback import NotFound
from ringback.redis import AsyncCalls, Calls, Change
from tests.app.test_store import new_call
from tests.conftest import LIMIT, eventually

Make = Callable[..., Any]


class Awaited:
    """AsyncCalls with its methods run to their end, in a thread's own loop."""

    def __init__(self, url: str, prefix: str, **options: Any) -> None:
        self._url, self._prefix, self._options = url, prefix, options

    def _run(self, use: Callable[[AsyncCalls], Any]) -> Any:
        async def run() -> Any:
            async with AsyncRedis.from_url(self._url, **self._options) as redis:
                return await use(AsyncCalls(redis, prefix=self._prefix))

        return asyncio.run(run())

    def get(self, *args: Any) -> Any:
        return self._run(lambda calls: calls.get(*args))

    def by_nonce(self, *args: Any) -> Any:
        return self._run(lambda calls: calls.by_nonce(*args))

    def wait(self, *args: Any, **options: Any) -> Any:
        return self._run(lambda calls: calls.wait(*args, **options))

    def follow(self, *args: Any, **options: Any) -> Iterator[Change]:
        loop = asyncio.new_event_loop()
        redis = AsyncRedis.from_url(self._url, **self._options)
        found: AsyncIterator[Change] = AsyncCalls(redis, prefix=self._prefix).follow(
            *args, **options
        )
        try:
            while True:
                yield loop.run_until_complete(anext(found))
        except StopAsyncIteration:
            pass
        finally:
            loop.run_until_complete(found.aclose())  # type: ignore[attr-defined]
            loop.run_until_complete(redis.aclose())
            loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def make(request: pytest.FixtureRequest, redis_url: str, redis: Redis) -> Make:
    def calls(prefix: str = "ringback:", **options: Any) -> Any:
        if request.param == "asyncio":
            return Awaited(redis_url, prefix, **options)
        return Calls(Redis.from_url(redis_url, **options), prefix=prefix)

    return calls


def place(store: CallStore, *calls: Call, nonce: str | None = None) -> None:
    of = ("demo-user", nonce) if nonce else None
    Acceptor(store).accept(list(calls), JobQueue(store.redis, store.keys).place_call, nonce=of)


def claim(store: CallStore, call: Call) -> None:
    def claimed(call: Call) -> Call:
        return transitions.claim(call, worker="w", switch="s", core_uuid="c", at=store.now())

    store.change(call, claimed, Note("command", "claim"))


def end(store: CallStore, call: Call) -> None:
    def ended(call: Call) -> Call:
        return transitions.end(call, "lost", at=store.now())

    store.change(call, ended, Note("event", "end"))


# As redis-py is used: text or bytes, the old protocol or the new one.
REPLIES = [{}, {"decode_responses": True}, {"protocol": 2}, {"protocol": 3}]


@pytest.mark.parametrize("options", REPLIES, ids=str)
def test_a_call_is_read_whatever_form_the_replies_have(
    make: Make, redis: Redis, options: dict[str, Any]
) -> None:
    store = CallStore(redis, Keys())
    first, second = new_call("order:1 ü"), new_call("order:1 ü")
    place(store, first, second, nonce="order:1 ü")
    calls = make(**options)
    read = calls.get(first.id)
    assert (read.id, read.state, read.version) == (first.id, "queued", 1)
    assert (read.app, read.nonce, read.metadata) == ("demo-user", "order:1 ü", {})
    assert abs((read.accepted - datetime.now(UTC)).total_seconds()) < 3600
    assert [(leg.id, leg.role, leg.number) for leg in read.legs] == [
        ("a1", "source", "15500"),
        ("b1", "destination", "15500"),
    ]
    assert read.fields["wait_for_pickup"] == "25" and read.legs[0].fields["gateway"] == "pstn"
    assert read.has_reached("queued") and not read.has_reached("dialing")
    by_nonce = calls.by_nonce("demo-user", "order:1 ü")
    assert [call.id for call in by_nonce] == [first.id, second.id]
    assert calls.by_nonce("demo-user", "order:2") == []
    assert calls.by_nonce("another", "order:1 ü") == []
    changes = calls.follow("billing", timeout=0.1)
    assert list(changes) == []
    claim(store, first)
    end(store, second)
    found = list(calls.follow("billing", timeout=0.1))
    assert [(c.call_id, c.state, c.version) for c in found] == [
        (first.id, "dialing", 2),
        (second.id, "ended", 2),
    ]
    assert found[0].changed["switch"] == "s" and found[0].extension == "0003*210"
    assert calls.wait(second.id, "ended", timeout=0).ended_by is not None


def test_what_is_not_there(make: Make) -> None:
    calls = make()
    for read in (calls.get, lambda call_id: calls.wait(call_id, "ended")):
        with pytest.raises(NotFound):
            read("0" * 20)
        for empty in ("", " ", None):
            with pytest.raises(ValueError):
                read(empty)
    for words in (("", "n"), ("app", "")):
        with pytest.raises(ValueError):
            calls.by_nonce(*words)
    with pytest.raises(ValueError):
        list(calls.follow(""))


def test_keys_may_have_another_prefix(make: Make, redis: Redis) -> None:
    redis.hset("two:limits", "mark", "test")
    store = CallStore(redis, Keys("two:"))
    call = new_call("n")
    place(store, call, nonce="n")
    assert make(prefix="two:").by_nonce("demo-user", "n")[0].id == call.id
    assert make().by_nonce("demo-user", "n") == []


# The second is shorter than a command would block.
@pytest.mark.parametrize("options", [{}, {"socket_timeout": 0.3, "protocol": 3}], ids=str)
def test_waiting_for_a_state(make: Make, redis: Redis, options: dict[str, Any]) -> None:
    store = CallStore(redis, Keys())
    call = new_call()
    place(store, call)
    calls = make(**options)
    assert calls.wait(call.id, "queued").state == "queued"
    with pytest.raises(TimeoutError, match="is queued after"):
        calls.wait(call.id, "dialing", timeout=0.5)
    with pytest.raises(ValueError):
        calls.wait(call.id, "dancing")
    found: list[Any] = []
    waits: list[Callable[[], Any]] = [
        lambda: calls.wait(call.id, "ringing", timeout=LIMIT),
        lambda: calls.wait(call.id, lambda call: call.switch is not None, timeout=LIMIT),
    ]
    threads = [threading.Thread(target=lambda wait=wait: found.append(wait())) for wait in waits]
    for thread in threads:
        thread.start()
    eventually(lambda: int(redis.info("clients")["blocked_clients"]) == 2)
    claim(store, call)
    threads[1].join(LIMIT)
    assert [(each.state, each.switch) for each in found] == [("dialing", "s")]
    end(store, call)
    threads[0].join(LIMIT)
    assert [each.state for each in found] == ["dialing", "ended"]


def pending(redis: Redis) -> int:
    return int(redis.xpending("ringback:events", "billing")["pending"])


def test_a_change_goes_to_one_of_a_group_and_is_acknowledged(make: Make, redis: Redis) -> None:
    store = CallStore(redis, Keys())
    calls = make()
    assert list(calls.follow("billing", timeout=0.1)) == []
    placed = [new_call() for _ in range(3)]
    place(store, *placed)
    mine, yours = calls.follow("billing", timeout=0.1), calls.follow("billing", timeout=0.1)
    got = [next(mine), next(yours)]
    assert pending(redis) == 2
    got.append(next(mine))
    assert [change.call_id for change in got] == [call.id for call in placed]
    # It was handled when the next one was asked for.
    assert pending(redis) == 2
    assert list(mine) == [] and list(yours) == []
    assert pending(redis) == 0
    # Another group has its own place.
    redis.xgroup_create("ringback:events", "audit", id="0")
    assert len(list(calls.follow("audit", timeout=0.1))) == 3
    # Nobody knows their names any more.
    assert redis.xinfo_consumers("ringback:events", "billing") == []


def test_what_a_dead_consumer_had_in_hand_goes_to_another(make: Make, redis: Redis) -> None:
    store = CallStore(redis, Keys())
    calls = make()
    list(calls.follow("billing", timeout=0.1))
    placed = [new_call() for _ in range(25)]
    place(store, *placed)
    # Dead consumers: they never acknowledge.
    for name in ("one", "two"):
        redis.xreadgroup("billing", name, {"ringback:events": ">"}, count=12)
    living = [c.call_id for c in calls.follow("billing", timeout=0.1)]
    assert living == [placed[24].id]
    taken = [c.call_id for c in calls.follow("billing", timeout=0.1, take_over=0.001)]
    assert taken == [call.id for call in placed[:24]]
    assert pending(redis) == 0


def test_a_consumer_with_a_name_goes_on_with_what_it_had(make: Make, redis: Redis) -> None:
    store = CallStore(redis, Keys())
    calls = make()
    list(calls.follow("billing", timeout=0.1))
    placed = [new_call() for _ in range(3)]
    place(store, *placed)
    died = calls.follow("billing", consumer="billing-1", timeout=0.1)
    assert next(died).call_id == placed[0].id
    died.close()
    assert pending(redis) == 1
    again = calls.follow("billing", consumer="billing-1", timeout=0.1)
    assert [change.call_id for change in again] == [call.id for call in placed]
    assert pending(redis) == 0
    # What the stream does not keep any more is passed over.
    place(store, new_call())
    redis.xreadgroup("billing", "billing-1", {"ringback:events": ">"})
    redis.xtrim("ringback:events", maxlen=0, approximate=False)
    assert list(calls.follow("billing", consumer="billing-1", timeout=0.1)) == []
    assert pending(redis) == 0


def test_following_goes_on_after_redis_has_lost_its_data(make: Make, redis: Redis) -> None:
    store = CallStore(redis, Keys())
    calls = make()
    list(calls.follow("billing", timeout=0.1))
    first, second = new_call(), new_call()
    place(store, first)
    changes = calls.follow("billing", timeout=LIMIT)
    assert next(changes).call_id == first.id
    redis.flushall()
    redis.hset(Keys().limits, "mark", "test")
    place(store, second)
    assert next(changes).call_id == second.id
    changes.close()


def test_it_needs_redis_py_alone() -> None:
    code = "import sys, ringback.redis; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split()) - set(sys.stdlib_module_names)
    assert not loaded & {"app", "workers", "freeswitch", "ringback_cli", "httpcore2", "flask"}
    assert loaded & {"redis", "ringback"} == {"redis", "ringback"}
