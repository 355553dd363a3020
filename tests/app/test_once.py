"""What is written once though Redis carries it out and its answer is lost."""

import secrets
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from rq import Queue

from app.calls.actions import Request
from app.calls.model import Action, Call
from app.oauth.services import Tokens
from app.store import once
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.queue import ACT, HANG_UP, JobQueue
from app.store.writes import Note
from tests.app.test_store import new_call
from tests.conftest import LIMIT

KEYS = Keys()


class Proxy:
    """Stands between a client and Redis. Once told to, it swallows a reply of Redis and closes the
    connection, as a network does that fails between the two."""

    def __init__(self, port: int, password: str) -> None:
        self.swallowed = 0
        self._redis_port = port
        self._left: int | None = None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://:{password}@127.0.0.1:{self._server.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self, after: int = 0) -> None:
        """Swallow the next reply, or the one after so many."""
        self._left = after

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        redis = socket.create_connection(("127.0.0.1", self._redis_port))
        with client, redis:
            while True:
                for ready in select.select([client, redis], [], [])[0]:
                    data = ready.recv(65536)
                    if not data or (ready is redis and self._swallows()):
                        return
                    (client if ready is redis else redis).sendall(data)

    def _swallows(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        if self._left >= 0:
            return False
        self._left = None
        self.swallowed += 1
        return True


@pytest.fixture
def proxy(redis: Redis) -> Iterator[Proxy]:
    options = redis.connection_pool.connection_kwargs
    proxy = Proxy(options["port"], options["password"])
    yield proxy
    proxy.close()


class Client:
    """What a process has of Redis, through the proxy; its scripts are loaded, its clock is set."""

    def __init__(self, url: str, retries: int = 3) -> None:
        self.redis = connect(url, timeout=LIMIT, retries=retries)
        self.store = CallStore(self.redis, KEYS)
        self.queue = JobQueue(self.redis, KEYS)
        self.call = self.accepted()
        self.queue.hang_up(self.call)
        self.redis.delete(self.queue.actions.key, self.queue.calls.key)

    def accepted(self) -> Call:
        return Acceptor(self.store).accept([new_call()], self.queue.place_call).calls[0]

    def noted(self, call: Call | None = None) -> list[tuple[str, str]]:
        """The commands in a call's timeline."""
        timeline = self.store.timeline((call or self.call).id)
        return [(each["name"], each["data"]) for each in timeline if each["kind"] == "command"]

    def jobs(self, queue: Queue) -> list[tuple[str, str, tuple[str, ...]]]:
        jobs = queue.get_jobs()
        assert len(jobs) == len(queue.get_job_ids())
        return [(job.get_status(), job.func_name, tuple(job.args)) for job in jobs]


@pytest.fixture
def client(proxy: Proxy) -> Client:
    return Client(proxy.url)


NOTE = Note("command", "hupall", data="+OK")


def test_a_note_is_written_once(proxy: Proxy, client: Client) -> None:
    proxy.swallow()
    client.store.note(client.call.id, NOTE)
    assert (proxy.swallowed, client.noted()) == (1, [("hupall", "+OK")])
    # Another that says the same is another.
    client.store.note(client.call.id, NOTE)
    assert client.noted() == [("hupall", "+OK")] * 2


def test_a_note_is_written_once_by_a_redis_that_knows_no_script(
    proxy: Proxy, client: Client
) -> None:
    client.redis.script_flush()
    # The first reply says so; the second, of EVAL, is lost.
    proxy.swallow(after=1)
    client.store.note(client.call.id, NOTE)
    assert (proxy.swallowed, client.noted()) == (1, [("hupall", "+OK")])


def test_a_note_that_its_caller_writes_again_is_written_once(proxy: Proxy) -> None:
    client = Client(proxy.url, retries=0)
    mark = once.new_mark()
    proxy.swallow()
    with pytest.raises(RedisConnectionError):
        client.store.note(client.call.id, NOTE, mark)
    client.store.note(client.call.id, NOTE, mark)
    assert client.noted() == [("hupall", "+OK")]


@pytest.mark.parametrize("loaded", [True, False])
def test_what_was_sent_is_noted_once(proxy: Proxy, client: Client, loaded: bool) -> None:
    calls = [client.call, *(client.accepted() for _ in range(2))]
    notes = [(c.id, Note("command", "originate", data=c.id), c.accepted) for c in calls]
    if not loaded:
        client.redis.script_flush()
    proxy.swallow(after=0 if loaded else 1)
    assert client.store.note_sent(notes) == [False] * 3
    assert proxy.swallowed == 1
    assert [client.noted(call) for call in calls] == [[("originate", call.id)] for call in calls]


@pytest.mark.parametrize("loaded", [True, False])
def test_what_is_wrong_with_one_call_costs_the_notes_of_others_nothing(
    client: Client, loaded: bool
) -> None:
    wrong, sound = client.call, client.accepted()
    gone = new_call()
    client.redis.set(KEYS.timeline(wrong.id), "no stream")
    client.redis.hset(KEYS.call(sound.id), "sent", "1")
    if not loaded:
        client.redis.script_flush()
    notes = [(c.id, Note("command", "originate", data=c.id), 1.0) for c in (wrong, gone, sound)]
    assert client.store.note_sent(notes) == [False, False, True]
    assert client.noted(sound) == [("originate", sound.id)]
    assert not client.redis.exists(KEYS.timeline(gone.id))
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        client.store.note(wrong.id, NOTE)


def hang_up(client: Client) -> None:
    client.queue.hang_up(client.call)


def act(client: Client) -> None:
    client.queue.act(client.call, REQUEST)


REQUEST = Request(id=secrets.token_hex(8), action=Action.ON_HOLD, leg="a1", asked=1.0)


@pytest.mark.parametrize("enqueue", [hang_up, act])
def test_a_job_is_enqueued_once(
    proxy: Proxy, client: Client, enqueue: Callable[[Client], None]
) -> None:
    call_id = client.call.id
    proxy.swallow()
    enqueue(client)
    assert proxy.swallowed == 1
    job = {
        hang_up: (HANG_UP, (call_id,)),
        act: (ACT, (call_id, REQUEST.dumps())),
    }[enqueue]
    jobs = [*client.jobs(client.queue.calls), *client.jobs(client.queue.actions)]
    assert jobs == [("queued", *job)]


def test_a_job_is_what_rq_makes_of_it(client: Client) -> None:
    """Ours is enqueued by a script, RQ's own by RQ."""
    client.queue.hang_up(client.call)
    ours = client.queue.actions.get_job_ids()[0]
    theirs = client.queue.actions.enqueue_call(
        HANG_UP, args=(client.call.id,), timeout=30, result_ttl=60, failure_ttl=86_400
    ).id
    one, other = (client.redis.hgetall(f"rq:job:{job}") for job in (ours, theirs))
    times = (b"created_at", b"enqueued_at")
    assert all(one.pop(name) and other.pop(name) for name in times)
    assert one == other
    assert client.redis.ttl(f"rq:job:{ours}") == client.redis.ttl(f"rq:job:{theirs}") == -1
    assert client.redis.smembers("rq:queues") == {
        b"rq:queue:ringback-calls",
        b"rq:queue:ringback-actions",
    }


def test_a_wrong_secret_counts_once(proxy: Proxy, client: Client) -> None:
    tokens = Tokens(client.redis, KEYS, 60)
    proxy.swallow()
    tokens.note_failure("app", "192.0.2.1")
    assert proxy.swallowed == 1
    (key,) = client.redis.keys("ringback:oauth:failures:*")
    assert client.redis.get(key) == b"1"
    assert 0 < client.redis.ttl(key) <= 60


def test_marks_are_kept_for_longer_than_a_request_is_sent_again(client: Client) -> None:
    client.store.note(client.call.id, NOTE)
    assert {client.redis.ttl(key) for key in client.redis.keys("ringback:once:*")} <= {
        once.MARK_KEPT - 1,
        once.MARK_KEPT,
    }
    options = connect("redis://127.0.0.1/0").connection_pool.connection_kwargs
    attempts = options["retry"].get_retries() + 1
    connecting = options["socket_connect_timeout"] + options["socket_timeout"] + 0.5
    longest = attempts * (attempts * connecting + options["socket_timeout"] + 0.5)
    assert 2 * longest < once.MARK_KEPT
