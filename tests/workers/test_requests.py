"""The queue of requests, on a real Redis; no switch is needed for what its jobs answer."""

import atexit
import json
import threading
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from gevent import sleep
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Callback, Queue, Retry
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from app.accounts.credentials import token_sha256
from app.accounts.signing import canonical, signature
from app.accounts.store import AccountStore, read_accounts
from app.calls.model import Call, State
from app.errors import CODES
from app.settings import load_settings
from app.store import audit
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.queue import ACTIONS, CALLS, REQUESTS
from workers import jobs
from workers.requests import RequestJob, Requests, RequestWorker
from workers.rq_worker import CallWorker
from workers.rq_worker.ours import job_class

TOKEN = "demo-user-token"
SECRET = "demo-user-secret"
BODY: dict[str, Any] = {
    "extension": "210",
    "phoneCallView": [{"source": "5302040", "destination": "3235742879"}],
}
PLACE: dict[str, Any] = {"app": "demo-user", "kind": "simple", "body": BODY}

Enqueue = Callable[..., Job]


class _InThisProcess(RequestWorker):
    def _install_signal_handlers(self) -> None:
        """They are the test run's."""


@pytest.fixture
def store(redis: Redis) -> CallStore:
    AccountStore(redis, Keys()).replace(read_accounts(None), demo=True)
    return CallStore(redis, Keys())


@pytest.fixture
def queue(redis: Redis, store: CallStore) -> Queue:
    return Queue(REQUESTS, connection=redis, serializer=JSONSerializer)


@pytest.fixture(scope="module")
def requests(redis_url: str) -> Iterator[Requests]:
    """The requests of all tests here: to make their application takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atexit, "register", lambda *_, **__: None)
        settings = replace(load_settings(), redis_url=redis_url, action_timeout=0.05)
        requests = Requests(settings)
        yield requests
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


@pytest.fixture
def work(redis: Redis, requests: Requests) -> Callable[[], None]:
    """Run all jobs of the queue of requests."""

    def _work() -> None:
        _InThisProcess(
            requests,
            [REQUESTS],
            connection=redis,
            serializer=JSONSerializer,
            job_class=job_class(requests.functions, RequestJob),
        ).work(burst=True, logging_level="CRITICAL")

    return _work


def calls_of(store: CallStore) -> list[Call]:
    ids = store.redis.zrange(store.keys.calls, 0, -1)
    return [call for each in ids if (call := store.get(each.decode())) is not None]


def signed(job_id: str, function: str = "ringback.place", **words: Any) -> dict[str, Any]:
    text = canonical(function, job_id, words)
    return {**words, "signature": signature(token_sha256(SECRET), text)}


def test_it_places_a_call_and_answers_as_a_post(
    queue: Queue, work: Callable[[], None], store: CallStore
) -> None:
    body = {**BODY, "nonce": "order-4711"}
    job = queue.enqueue(
        "ringback.place",
        **{**PLACE, "body": body, "user": "@me", "query": {"waitForPickup": 20}, "token": TOKEN},
    )
    work()
    value = job.return_value()
    (call,) = calls_of(store)
    link = f"/uapi/phoneCalls/@me/210/{call.id}"
    assert value == {
        "status": 202,
        "body": [
            {
                "id": call.id,
                "extension": "210",
                "nonce": "order-4711",
                "link": {"self": link},
                "links": {"self": link},
            }
        ],
    }
    assert (call.wait_for_pickup, call.app, call.user) == (20, "demo-user", "12")
    ((_, entry),) = audit.read(store.redis, store.keys)
    assert (entry["what"], entry["result"], entry["address"]) == ("place", "accepted", "queue")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"body": {**BODY, "phoneCallView": [{"source": "x", "destination": "1"}]}}, 400, "pc_s"),
        ({"body": {**BODY, "extension": "299"}}, 400, "extension_invalid"),
        ({"kind": "shout"}, 400, "request_invalid"),
        ({"bodi": {}}, 400, "request_invalid"),
        ({"function": "os.system"}, 400, "request_invalid"),
        ({"body": "text"}, 400, "request_invalid"),
        ({"user": ""}, 400, "request_invalid"),
        ({"user": "../13"}, 400, "request_invalid"),
        ({"user": "13"}, 400, "user_invalid"),
        ({"query": {"waitForPickup": 0}}, 400, "pc_timeout_invalid"),
        ({"query": {"fields": "\ud800"}}, 400, "request_invalid"),
        ({"token": "demo-organization-token"}, 401, "access_denied"),
        ({"token": "unknown"}, 401, "access_denied"),
        ({"app": "nobody"}, 401, "access_denied"),
        ({"token": None}, 401, "access_denied"),
        ({"token": 1}, 401, "access_denied"),
    ],
)
def test_a_refused_request_is_a_finished_job(
    queue: Queue,
    work: Callable[[], None],
    store: CallStore,
    change: dict[str, Any],
    status: int,
    code: str,
) -> None:
    job = queue.enqueue("ringback.place", **{**PLACE, "token": TOKEN, **change})
    work()
    assert job.is_finished
    value = job.return_value()
    assert value["status"] == status
    assert value["body"]["error"]["code"].startswith(code), value
    assert calls_of(store) == []


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"bodi": {}}, "/bodi", "bodi: did you mean body?"),
        ({"query": {"waitforpickup": 5}}, "waitforpickup", "did you mean waitForPickup?"),
        ({"body": {**BODY, "nonse": "x"}}, "/nonse", "nonse: did you mean nonce?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(
    queue: Queue, work: Callable[[], None], change: dict[str, Any], field: str, reason: str
) -> None:
    job = queue.enqueue("ringback.place", **{**PLACE, "token": TOKEN, **change})
    work()
    error = job.return_value()["body"]["error"]
    assert error["message"] == CODES["request_invalid"].others["unknown"]
    assert error["field"] == field and reason in error["reason"]
    assert (error["doc"], error["request_id"]) == ("/errors#request_invalid", job.id)


def test_all_calls_are_hung_up_only_if_the_job_says_so(
    queue: Queue, work: Callable[[], None], store: CallStore
) -> None:
    def status(app: str, function: str, **words: Any) -> tuple[int, str | None]:
        job = queue.enqueue(function, app=app, token=f"{app}-token", **words)
        work()
        value = job.return_value()
        if value["status"] < 400:
            return value["status"], None
        return value["status"], value["body"]["error"]["message"]

    place = {"kind": "simple", "body": BODY}
    assert status("demo-user", "ringback.place", **place) == (202, None)
    refused = 400, CODES["pc_phonecall_invalid"].others["all"]
    assert status("demo-user", "ringback.hang_up") == refused
    assert status("demo-user", "ringback.hang_up", query={"all": False}) == refused
    (call,) = calls_of(store)
    assert call.state is State.QUEUED
    assert status("demo-user", "ringback.hang_up", query={"all": True}) == (200, None)
    assert calls_of(store) == []
    # Programs written for VoipNow hang up all without a word, and may send any names.
    place["query"] = {"sortOder": "x"}
    assert status("demo-voipnow", "ringback.place", **place) == (200, None)
    assert status("demo-voipnow", "ringback.hang_up", query={"al": "x"}) == (200, None)
    assert calls_of(store) == []


def test_positional_arguments_are_refused(queue: Queue, work: Callable[[], None]) -> None:
    job = queue.enqueue("ringback.place", args=["demo-user"], kwargs={**PLACE, "token": TOKEN})
    work()
    assert job.return_value()["body"]["error"]["reason"] == "A job takes keyword arguments alone."


@pytest.mark.parametrize("token", [TOKEN, "not-the-token-of-any-app"])
def test_the_token_is_struck_out(
    queue: Queue, work: Callable[[], None], redis: Redis, token: str
) -> None:
    options: list[dict[str, Any]] = [{}, {"retry": Retry(max=2)}, {"job_timeout": -1}]
    for each in options:
        queue.enqueue("ringback.place", **PLACE, token=token, **each)
    work()
    assert_nowhere(redis, token)


def assert_nowhere(redis: Redis, token: str) -> None:
    for key in redis.keys("*"):
        kind = redis.type(key)
        if kind == b"hash":
            for value in redis.hgetall(key).values():
                assert token.encode() not in value
                try:
                    assert token.encode() not in zlib.decompress(value)
                except zlib.error:
                    continue
        elif kind == b"stream":
            assert token.encode() not in repr(redis.xrange(key)).encode()
        elif kind == b"string":
            assert token.encode() not in redis.get(key)


def test_a_refused_job_keeps_no_token(
    queue: Queue,
    work: Callable[[], None],
    redis: Redis,
    store: CallStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = {**PLACE, "token": TOKEN}
    queue.enqueue(
        "ringback.place", **{**words, "app": "x"}, job_id="a", description="ringback.place(a)"
    )
    pickled = Queue(REQUESTS, connection=redis)
    pickled.enqueue("ringback.place", **words)
    pickled.enqueue("ringback.place", **words, retry=Retry(max=1))
    queue.enqueue("ringback.place", "demo-user", TOKEN)
    queue.enqueue("ringback.place", args=[TOKEN], kwargs=words, retry=Retry(max=1))
    queue.enqueue("ringback.plaice", **words)
    queue.enqueue("ringback.place", **words, on_success=Callback("os.getcwd"))
    data = json.dumps(["ringback.place", None, [], words])
    hashes = {
        "list": {"data": json.dumps(["ringback.place", None, [], [["token", TOKEN]]])},
        "deep": {"data": data.replace("{", "[" * 100_000, 1)},
        "created": {"data": data, "created_at": "yesterday"},
        "timeout": {"data": data, "timeout": "long"},
        "callback": {"data": data, "success_callback_name": b"\xff"},
        "no-data": {"description": TOKEN, "timeout": "long"},
        "a.b": {"data": data},
    }
    for job_id, fields in hashes.items():
        fields = {"origin": REQUESTS, "status": "queued", **fields}
        redis.hset(f"rq:job:{job_id}", mapping=fields)
        redis.rpush(queue.key, job_id)
    redis.delete("rq:job:a.b")
    work()
    assert_nowhere(redis, TOKEN)
    assert TOKEN not in caplog.text
    for job_id, why in (("deep", "nested too deep"), ("list", "are not the JSON")):
        ((_, fields),) = redis.xrange(f"rq:results:{job_id}")
        assert why in zlib.decompress(b64decode(fields[b"exc_string"])).decode()
    assert calls_of(store) == []


def test_an_id_that_is_no_job_of_the_queue_fails(
    queue: Queue, work: Callable[[], None], redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    data = json.dumps(["ringback.place", None, [], {**PLACE, "token": TOKEN}])
    redis.hset("rq:job:order.1", mapping={"data": data, "origin": REQUESTS, "status": "queued"})
    redis.set("rq:job:text", "no hash")
    other = Queue(CALLS, connection=redis, serializer=JSONSerializer).enqueue("ringback.place")
    before = redis.hgetall(other.key)
    redis.rpush(queue.key, "order.1", "text", "deleted", other.id)
    work()
    failed = {b"order.1", b"text", other.id.encode()}
    assert set(redis.zrange(queue.failed_job_registry.key, 0, -1)) == failed
    assert redis.hgetall(other.key) == before
    assert "job deleted is not run" in caplog.text


def test_an_outage_while_tokens_are_struck_refuses_no_job(
    queue: Queue, work: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue.enqueue("ringback.place", **PLACE, token=TOKEN)
    strike, outages = Requests.strike, [RedisConnectionError("gone")]
    app_of, more = Requests._app_of, [RedisConnectionError("gone")]

    def app_of_later(self: Requests, proof: Any) -> Any:
        if more:
            raise more.pop()
        return app_of(self, proof)

    monkeypatch.setattr(Requests, "_app_of", app_of_later)

    def once_unavailable(self: Requests, script: Any, jobs: Any) -> None:
        def run(*words: Any) -> Any:
            if outages:
                raise outages.pop()
            return script(*words)

        strike(self, cast(Any, run), jobs)

    monkeypatch.setattr(Requests, "strike", once_unavailable)
    monkeypatch.setattr("workers.requests._PAUSE", 0.01)
    work()
    assert job.return_value()["status"] == 202
    assert not outages and not more


@pytest.mark.parametrize("app", ["demo-user", "demo-voipnow"])
@pytest.mark.parametrize("nonce", [None, "order-1"])
def test_a_job_that_runs_twice_places_one_call(
    queue: Queue, work: Callable[[], None], store: CallStore, app: str, nonce: str | None
) -> None:
    body = BODY if nonce is None else {**BODY, "nonce": nonce}
    words = {**PLACE, "app": app, "body": body, "token": f"{app}-token"}
    job = queue.enqueue("ringback.place", **words, job_id="job-1")
    work()
    first = job.return_value()
    # As RQ puts a job back: its hash has no token any more.
    queue.enqueue_job(Job.fetch("job-1", connection=queue.connection, serializer=JSONSerializer))
    work()
    # As a program enqueues a job once more that it does not know the end of.
    again = queue.enqueue("ringback.place", **words, job_id="job-1")
    work()
    assert again.return_value() == first
    (call,) = calls_of(store)
    assert first["body"][0]["id"] == call.id
    if app == "demo-user":
        assert call.nonce == (nonce or "job-1")


def test_a_struck_job_proves_nothing_for_another_request(
    queue: Queue, work: Callable[[], None], store: CallStore
) -> None:
    queue.enqueue("ringback.place", **PLACE, token=TOKEN, job_id="job-1")
    work()
    other = {**BODY, "phoneCallView": [{"source": "210", "destination": "5354311"}]}
    job = queue.enqueue("ringback.place", **{**PLACE, "body": other}, job_id="job-1")
    work()
    assert job.return_value()["status"] == 401
    job = queue.enqueue("ringback.place", **PLACE, job_id="job-2")
    work()
    assert job.return_value()["status"] == 401
    assert len(calls_of(store)) == 1


def test_a_signature_proves_which_app_asks(
    queue: Queue, work: Callable[[], None], store: CallStore
) -> None:
    at = int(store.now())
    words = signed("job-1", **PLACE, time=at)
    job = queue.enqueue("ringback.place", **words, job_id="job-1")
    work()
    assert job.return_value()["status"] == 202

    # The same again in another job, another request, another app's, and one that is too old.
    refused = {
        "job-2": words,
        "job-3": signed("job-4", **PLACE, time=at),
        "job-5": {**signed("job-5", **PLACE, time=at), "query": {"waitForPickup": 30}},
        "job-6": {**signed("job-6", **PLACE, time=at), "app": "demo-organization"},
        "job-7": {**words, "signature": "é"},
        "job-8": signed("job-8", **PLACE, time=at - 1000),
        "job-9": signed("job-9", **PLACE, time=at + 1000),
        "job-10": {**signed("job-10", **PLACE, time=at), "token": TOKEN},
        "job-11": signed("job-11", **PLACE),
        "job-12": signed("job-12", **PLACE, time=10**400),
    }
    enqueued = [
        queue.enqueue("ringback.place", **each, job_id=job_id) for job_id, each in refused.items()
    ]
    work()
    for job in enqueued:
        assert job.return_value()["status"] in (400, 401), job.id
    assert len(calls_of(store)) == 1


@pytest.mark.parametrize("value", [0.5, [1.0], {"a": 1.5}, "\ud800"])
def test_what_cannot_be_signed_is_refused(
    queue: Queue, work: Callable[[], None], store: CallStore, value: Any
) -> None:
    words = {**PLACE, "query": {"x": value}, "time": int(store.now()), "signature": "0" * 64}
    job = queue.enqueue("ringback.place", **words)
    work()
    assert job.return_value()["status"] == 401


def test_calls_are_placed_in_the_order_of_the_jobs(
    queue: Queue, work: Callable[[], None], store: CallStore
) -> None:
    numbers = [f"5354{number}" for number in range(100, 200)]
    for number in numbers:
        body = {"extension": "210", "phoneCallView": [{"source": number, "destination": "210"}]}
        queue.enqueue("ringback.place", **{**PLACE, "body": body}, token=TOKEN)
    work()
    placed = sorted(calls_of(store), key=lambda call: call.accepted)
    assert [call.sources[0].number for call in placed] == numbers


def test_it_hangs_up_and_acts(queue: Queue, work: Callable[[], None], store: CallStore) -> None:
    job = queue.enqueue("ringback.place", **PLACE, token=TOKEN)
    work()
    call_id = job.return_value()["body"][0]["id"]
    who = {"app": "demo-user", "token": TOKEN}
    acted = queue.enqueue("ringback.act", **who, id=call_id, body={"action": "PickUp"})
    nobody = queue.enqueue("ringback.act", **who, body={"action": "PickUp"})
    empty = queue.enqueue("ringback.hang_up", **who, id="")
    work()
    assert acted.return_value()["body"]["error"]["code"] == "pc_sendcallto_invalid"
    assert nobody.return_value()["body"]["error"]["code"] == "request_invalid"
    assert empty.return_value()["status"] == 400
    assert [call.id for call in calls_of(store)] == [call_id]
    hung_up = queue.enqueue("ringback.hang_up", **who, id=call_id)
    work()
    value = hung_up.return_value()
    assert (value["status"], value["body"][0]["endedBy"]) == (200, "api")
    assert calls_of(store) == []


def test_an_id_that_is_in_the_queue_twice_places_one_call(
    queue: Queue, work: Callable[[], None], store: CallStore, redis: Redis
) -> None:
    job = queue.enqueue("ringback.place", **PLACE, token=TOKEN)
    redis.rpush(queue.key, job.id)
    work()
    assert {each.return_value["status"] for each in job.results()} == {202}
    assert len(calls_of(store)) == 1


def test_a_job_waits_for_redis(
    queue: Queue,
    work: Callable[[], None],
    store: CallStore,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, statuses = Requests._answer, list[int]()

    def while_redis_is_read_only(self: Requests, *words: Any) -> tuple[int, Any]:
        redis.config_set("min-replicas-to-write", 0 if statuses else 1)
        try:
            found = answer(self, *words)
        finally:
            redis.config_set("min-replicas-to-write", 0)
        statuses.append(found[0])
        return found

    monkeypatch.setattr(Requests, "_answer", while_redis_is_read_only)
    job = queue.enqueue("ringback.place", **PLACE, token=TOKEN)
    work()
    assert statuses == [503, 202]
    assert job.return_value()["status"] == 202
    assert len(calls_of(store)) == 1


def test_a_job_fails_at_the_end_of_its_time(
    queue: Queue, work: Callable[[], None], store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.phone_calls.services.PhoneCalls.create", lambda *_, **__: sleep(60))
    job = queue.enqueue("ringback.place", **PLACE, token=TOKEN, job_timeout=1)
    work()
    assert "JobTimeoutException" in failure(job)
    monkeypatch.undo()
    queue.failed_job_registry.requeue(job.id)
    work()
    assert job.return_value(refresh=True)["status"] == 202
    assert len(calls_of(store)) == 1


def test_a_job_whose_worker_died_runs_again(
    queue: Queue, work: Callable[[], None], store: CallStore, redis: Redis
) -> None:
    job = queue.enqueue("ringback.place", **PLACE, token=TOKEN)
    redis.delete(queue.key)
    # As a worker leaves it that took it and died.
    redis.hset(job.key, "status", "started")
    redis.zadd("rq:wip:ringback-requests", {f"{job.id}:execution": 1})
    work()
    work()
    assert job.return_value()["status"] == 202
    assert len(calls_of(store)) == 1


# Jobs that are not ours

_OURS = {CALLS: jobs.OF_CALLS, ACTIONS: jobs.OF_ACTIONS, REQUESTS: None}


def failure(job: Job) -> str:
    job = Job.fetch(job.id, connection=job.connection, serializer=JSONSerializer)
    assert job.is_failed, job.get_status()
    result = job.latest_result()
    assert result is not None and result.exc_string is not None
    return result.exc_string


@pytest.mark.parametrize("name", _OURS)
@pytest.mark.parametrize("options", [{}, {"retry": Retry(max=1)}], ids=["plain", "by RQ"])
def test_a_worker_runs_no_function_that_is_not_ours(
    redis: Redis, requests: Requests, name: str, options: dict[str, Any], tmp_path: Any
) -> None:
    queue = Queue(name, connection=redis, serializer=JSONSerializer)
    touched = tmp_path / "touched"
    names = ["os.system", "subprocess.check_call", "ringback", "workers.jobs.bind", "print"]
    if name == REQUESTS:
        names += ["workers.jobs.hang_up", "workers.jobs.place_call"]
    enqueued = [queue.enqueue(each, f"touch {touched}", **options) for each in names]
    # What RQ would import besides: callbacks, an instance whose method the function is.
    ours = next(iter(_OURS[name] or requests.functions))
    called = queue.enqueue(ours, on_failure=Callback("os.system"), **options)
    method = queue.enqueue("upper", **options)
    data = zlib.compress(json.dumps(["upper", "text", [], {}]).encode())
    redis.hset(method.key, "data", data)
    unread = Queue(name, connection=redis).enqueue("os.system", f"touch {touched}", **options)
    make: Any = CallWorker if _OURS[name] else partial(RequestWorker, requests)
    kind = RequestJob if name == REQUESTS else None
    functions = _OURS[name] or requests.functions
    worker: SimpleWorker = make(
        [name],
        connection=redis,
        serializer=JSONSerializer,
        job_class=job_class(functions, *filter(None, [kind])),
    )
    worker.work(burst=True, logging_level="CRITICAL")
    for job in enqueued:
        assert f"{name} runs " in failure(job) and "Nothing was done." in failure(job)
    assert "no callbacks" in failure(called)
    assert "no methods of objects" in failure(method)
    assert "serializer=JSONSerializer" in failure(unread)
    assert not touched.exists()
    assert len(queue.failed_job_registry) == len(names) + 3
