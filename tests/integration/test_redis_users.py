"""Each process and program with its own user of Redis, as deploy/redis/users.acl gives them."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from app.calls.model import State
from app.settings import Settings
from app.store.client import connect
from app.store.queue import ACTIONS, CALLS, REQUESTS
from ringback.redis import Calls, Change
from ringback_cli import up
from ringback_cli.embedded_redis import server_binary
from ringback_cli.up import Stack, free_port
from tests.conftest import await_ready, eventually
from tests.deploy.redis_users import USERS, users_acl
from tests.integration.conftest import LIMIT, Ringback, started
from tests.integration.test_call_events import ask
from tests.integration.test_stream import Connection
from tests.receiver import receiving

PARTS = ("api", "worker", "listener", "webhooks")
# A call that ends by itself.
BUSY = {"source": "15509", "destination": "15500"}
# What no user but the operators' may do, whatever else it may.
FORBIDDEN = (
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["KEYS", "*"],
    ["SCAN", "0"],
    ["RANDOMKEY"],
    ["CONFIG", "GET", "*"],
    ["CONFIG", "SET", "requirepass", "x"],
    ["ACL", "LIST"],
    ["ACL", "SETUSER", "mine", "on", "nopass", "~*", "+@all"],
    ["CLIENT", "LIST"],
    ["CLIENT", "KILL", "ID", "1"],
    ["MONITOR"],
    ["SCRIPT", "FLUSH"],
    ["FUNCTION", "FLUSH"],
    ["REPLICAOF", "NO", "ONE"],
    ["SHUTDOWN"],
    ["SET", "other", "x"],
    ["GET", "other"],
    ["RPUSH", "rq:queue:other", "x"],
    ["PUBLISH", "rq:pubsub:any", "x"],
)


class Users:
    """A Redis with the users, and the password of each."""

    def __init__(self, port: int) -> None:
        self.passwords = {name: f"{uuid4()}" for name in USERS}
        self._place = f"127.0.0.1:{port}/0"

    def url(self, user: str) -> str:
        (password,) = [self.passwords[name] for name, each in USERS.items() if each == user]
        return f"redis://{user}:{password}@{self._place}"

    def client(self, user: str, **options: Any) -> Redis:
        return connect(self.url(user), **options)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    binary = server_binary()
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
    if (found := re.search(r" v=(\d+)", version)) and int(found[1]) < 7:
        pytest.skip("users with rights to read alone came with Redis 7")
    folder: Path = tmp_path_factory.mktemp("redis")
    port = free_port()
    users = Users(port)
    (folder / "users.acl").write_text(users_acl(users.passwords))
    options = {"bind": "127.0.0.1", "port": str(port), "save": "", "aclfile": "users.acl"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([binary, *words], cwd=folder, stdout=log)
    try:
        await_ready(users.url("default"))
        yield users
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def ringback(users: Users) -> Iterator[Ringback]:
    """All processes, each with its own user. The stack's own settings are the operators'."""
    spawn = up._spawn

    def spawn_as_itself(
        name: str, settings: Settings, stack: Stack, ready: int | None = None
    ) -> None:
        if name in PARTS:
            settings = replace(settings, redis_url=users.url(f"ringback-{name}"))
        spawn(name, settings, stack, ready)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(up, "_spawn", spawn_as_itself)
        with started(None, redis_url=users.url("default")) as ringback:
            yield ringback


def denied(client: Redis, *words: Any) -> bool:
    try:
        client.execute_command(*words)
    except NoPermissionError:
        return True
    return False


def test_every_process_does_its_part(ringback: Ringback, users: Users) -> None:
    stream = Connection(ringback.stack.settings.http_address).begin()
    with receiving() as receiver:
        body = {"url": f"{receiver.url}/", "method": "1"}
        ask(ringback, "POST", "210/phoneCallEvents/0/", body)
        call_id = ringback.place("15500", "210", "?waitForPickup=30")
        ringback.wait_state(call_id, State.BRIDGED)
        hold = {"action": "OnHold", "phoneCallViewId": "01"}
        assert ringback.request("PUT", f"@me/210/{call_id}", hold)[0] in (200, 202)
        assert ringback.request("DELETE", f"@me/210/{call_id}")[0] in (200, 202)
        ringback.ended(call_id)
        assert receiver.next()["parameters"]["CallAPIID"] == call_id
        ask(ringback, "DELETE", "210/phoneCallEvents")
    assert stream.states(call_id, "ended")[-1][1] == "ended"
    stream.close()
    parts = HTTPConnection(*ringback.stack.settings.http_address, timeout=LIMIT)
    parts.request("GET", "/readyz")
    assert json.loads(parts.getresponse().read())["parts"]["workers"]["status"] == "ready"
    parts.request("GET", "/metrics")
    assert b"ringback_queue_jobs" in parts.getresponse().read()
    parts.close()
    # Whatever they tried besides, no process lacked a right.
    log: Any = users.client("default").acl_log()
    assert [(e["username"], e["object"]) for e in log if e["username"].endswith(PARTS)] == []


def test_a_program_that_only_polls(ringback: Ringback, users: Users) -> None:
    poller = users.client("ringback-poller")
    calls = Calls(poller)
    changes = calls.follow("billing", timeout=LIMIT)
    first = Thread(target=lambda: told.append(next(changes)))
    told: list[Change] = []
    first.start()
    groups = users.client("default").xinfo_groups
    eventually(lambda: poller.exists("ringback:events") and groups("ringback:events") != [])
    body = {"extension": "210", "nonce": "polled", "phoneCallView": [BUSY]}
    call_id = ringback.request("POST", "@me/simple", body)[1][0]["id"]
    assert [call.id for call in calls.by_nonce("demo-user", "polled")] == [call_id]
    assert calls.wait(call_id, "ended", LIMIT) == calls.get(call_id)
    first.join(LIMIT)
    assert told[0].call_id == call_id and next(changes).call_id == call_id
    changes.close()
    key = f"ringback:call:{{{call_id}}}"
    assert poller.exists(f"ringback:cdr:{{{call_id}}}") and poller.zcard("ringback:cdr:all")
    log: Any = users.client("default").acl_log()
    assert [e["object"] for e in log if e["username"] == "ringback-poller"] == []
    for words in (
        *FORBIDDEN,
        ["HSET", key, "state", "queued"],
        ["DEL", key],
        ["EXPIRE", key, 1],
        ["XADD", "ringback:events", "*", "call", call_id],
        ["XTRIM", "ringback:events", "MAXLEN", 0],
        ["XDEL", "ringback:events", "1-1"],
        ["DEL", "ringback:events"],
        ["XGROUP", "DESTROY", "ringback:events", "billing"],
        ["SET", "ringback:nonce:demo-user:none", call_id],
        ["HGETALL", "ringback:accounts"],
        ["GET", "ringback:oauth:access:x"],
        ["GET", "ringback:console:session:x"],
        ["HGETALL", "rq:job:x"],
        ["RPUSH", f"rq:queue:{REQUESTS}", "x"],
        ["EVAL", "return 1", 0],
        ["SUBSCRIBE", "x"],
        ["CLIENT", "TRACKING", "ON", "BCAST"],
    ):
        assert denied(poller, *words), words


def test_a_program_that_only_enqueues(ringback: Ringback, users: Users) -> None:
    redis = users.client("ringback-enqueuer", timeout=LIMIT)
    body = {"extension": "210", "phoneCallView": [BUSY]}
    job = Queue(REQUESTS, connection=redis, serializer=JSONSerializer).enqueue(
        "ringback.place",
        job_id=f"enqueuer-{uuid4()}",
        app="demo-user",
        token="demo-user-token",
        kind="simple",
        body=body,
    )
    result = job.latest_result(timeout=int(LIMIT))
    assert result is not None and result.return_value["status"] == 202, result
    assert job.get_status() in ("started", "finished")
    call_id = result.return_value["body"][0]["id"]
    ringback.ended(call_id)
    other = Job.create("ringback.place", id="other", connection=users.client("default"))
    for words in (
        *FORBIDDEN,
        ["HGETALL", f"ringback:call:{{{call_id}}}"],
        ["XREAD", "STREAMS", "ringback:events", "0"],
        ["HGETALL", "ringback:accounts"],
        *(["RPUSH", f"rq:queue:{queue}", job.id] for queue in (CALLS, ACTIONS)),
        ["LPUSH", f"rq:queue:{REQUESTS}", job.id],
        ["LRANGE", f"rq:queue:{REQUESTS}", 0, -1],
        ["LPOP", f"rq:queue:{REQUESTS}"],
        ["DEL", f"rq:queue:{REQUESTS}"],
        ["EXPIRE", f"rq:queue:{REQUESTS}", 1],
        ["EXPIRE", "rq:queues", 1],
        ["SREM", "rq:queues", f"rq:queue:{CALLS}"],
        ["SADD", "rq:workers", "x"],
        ["HSET", f"rq:job:{call_id}", "data", "x"],
        ["HGETALL", other.key],
        ["HSET", other.key, "data", "x"],
        ["XRANGE", f"rq:results:{other.id}", "-", "+"],
        ["XADD", f"rq:results:{job.id}", "*", "type", 1],
        ["ZADD", f"rq:failed:{REQUESTS}", 1, job.id],
        ["SET", "rq:suspended", 1],
        ["EVAL", "return 1", 0],
    ):
        assert denied(redis, *words), words


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("api", ["RPUSH", f"rq:queue:{REQUESTS}", "x"]),
        ("api", ["XADD", "rq:results:x", "*", "type", 1]),
        ("worker", ["HSET", "ringback:accounts", "apps", "{}"]),
        ("worker", ["SET", "ringback:oauth:access:x", "{}"]),
        ("worker", ["GET", "ringback:console:session:x"]),
        ("worker", ["HDEL", "ringback:suspended", "app:x"]),
        ("listener", ["HSET", "ringback:accounts", "apps", "{}"]),
        ("listener", ["GET", "ringback:oauth:access:x"]),
        ("listener", ["RPUSH", f"rq:queue:{REQUESTS}", "x"]),
        ("webhooks", ["HSET", "ringback:call:{x}", "state", "ended"]),
        ("webhooks", ["RPUSH", f"rq:queue:{CALLS}", "x"]),
        ("webhooks", ["XREAD", "STREAMS", "ringback:audit", "0"]),
    ],
    ids=str,
)
def test_a_process_may_no_more_than_its_part(users: Users, user: str, words: list[Any]) -> None:
    assert denied(users.client(f"ringback-{user}"), *words)


@pytest.mark.parametrize("user", PARTS)
def test_no_process_may_what_is_the_operators(users: Users, user: str) -> None:
    client = users.client(f"ringback-{user}")
    assert [words for words in FORBIDDEN if not denied(client, *words)] == []


def test_nobody_gets_in_without_a_password(users: Users) -> None:
    place = users.url("default").rpartition("@")[2]
    with pytest.raises(AuthenticationError):
        Redis.from_url(f"redis://{place}").ping()
