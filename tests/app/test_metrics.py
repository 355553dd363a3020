"""What is counted, how it is shown, and what is said of a process' health."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from redis import Redis

from app import create_app
from app.calls import endings, transitions
from app.calls.model import Call, State, evolve
from app.health import parts
from app.settings import Settings, SettingsError, load_settings
from app.store.calls import CallStore, Change
from app.store.client import connect
from app.store.keys import Keys
from app.store.switches import Pause, SwitchStore
from app.store.writes import Note
from app.telemetry import counting, registry
from freeswitch.simulator import causes
from ringback_cli.up import free_port
from tests.app.conftest import USER, Ask
from tests.app.test_phone_calls import BODY, SIMPLE
from tests.conftest import LIMIT, eventually
from tests.late import late
from workers.runtime import Runtime

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "ringback.rules.yml"

# Samples by name and labels.
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in plain(text)
        for sample in family.samples
    }


@pytest.fixture
def client(settings: Settings, redis: Redis) -> FlaskClient:
    """With a health page and metrics of its own services."""
    return create_app(replace(settings, action_timeout=0.05)).test_client()


@pytest.fixture
def scrape(client: FlaskClient) -> Callable[[], Samples]:
    return lambda: samples(client.get("/metrics").text)


@contextmanager
def counted() -> Iterator[Callable[..., float]]:
    """What comes to be counted meanwhile."""

    def value(name: str, **labels: str) -> float:
        counting.write()
        return registry.REGISTRY.get_sample_value(f"ringback_{name}", labels) or 0.0

    begun: Samples = {}
    counting.write()
    for family in registry.REGISTRY.collect():
        for sample in family.samples:
            begun[sample.name, frozenset(sample.labels.items())] = sample.value

    def more(name: str, **labels: str) -> float:
        before = begun.get((f"ringback_{name}", frozenset(labels.items())), 0.0)
        return value(name, **labels) - before

    yield more


@pytest.fixture
def call(ask: Ask, store: CallStore) -> Call:
    (answer,) = ask("POST", SIMPLE, BODY).json
    call = store.get(answer["id"])
    assert call is not None
    return call


# The page


def test_what_a_prometheus_server_reads(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    shown = {family.name: family for family in plain(answer.text)}
    for each in registry.DESCRIBED:
        if each.name in ("ringback_switch_connected", "ringback_lease_held"):
            continue
        family = shown[each.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (each.type, each.text)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(each.labels)
    # Of this process.
    assert "process_cpu_seconds" in shown


def test_openmetrics_where_it_is_asked_for(client: FlaskClient) -> None:
    answer = client.get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain"}
    )
    assert answer.mimetype == "application/openmetrics-text"
    assert "ringback_calls_accepted" in {family.name for family in openmetrics(answer.text)}


def test_the_page_names_every_metric_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    found = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert found == {
        each.name.removeprefix("ringback_"): (each.type, each.labels) for each in registry.DESCRIBED
    }


def test_names_are_as_prometheus_has_them() -> None:
    for each in registry.DESCRIBED:
        assert re.fullmatch(r"ringback_[a-z_]+", each.name)
        assert (each.type == "counter") == each.name.endswith("_total")
        assert (each.type == "histogram") <= each.name.endswith("_seconds")


# Requests


def test_requests_are_counted_by_their_rule_alone(client: FlaskClient, ask: Ask) -> None:
    rule = "/uapi/phoneCalls/<user>/<extension>"
    with counted() as more:
        ask("GET", "/uapi/phoneCalls/@me/0003*210")
        client.get("/uapi/phoneCalls/@me/0003*210?accessRequestToken=s3cret-token")
        client.get("/5550001234/s3cret-path")
        client.open("/uapi/phoneCalls/@me/0003*210", method="S3CRET")
        assert more("http_requests_total", route=rule, method="GET", status="200") == 1
        assert more("http_requests_total", route=rule, method="GET", status="401") == 1
        assert more("http_request_duration_seconds_count", route=rule, method="GET") == 2
        assert more("http_requests_total", route="none", method="GET", status="404") == 1
        assert more("http_requests_total", route="none", method="other", status="405") == 1
    text = client.get("/metrics").text
    assert "s3cret" not in text.lower() and USER not in text and "5550001234" not in text


def test_alerts_ask_for_routes_that_there_are(client: FlaskClient) -> None:
    rules = [rule.rule for rule in client.application.url_map.iter_rules()]
    asked = re.findall(r'route[=!]~"([^"]+)"', ALERTS.read_text())
    assert asked and all(any(re.fullmatch(route, rule) for rule in rules) for route in asked)


# Calls


def test_a_call_from_its_acceptance_to_its_end(call: Call, store: CallStore) -> None:
    source, destination = call.sources[0], call.destinations[0]
    at = call.accepted
    with counted() as more:
        for change in (
            lambda c: transitions.claim(c, worker="w", switch="s", core_uuid="u", at=at + 0.01),
            lambda c: evolve(c, state=State.ANSWERED, answered=at + 3),
            lambda c: evolve(c, state=State.BRIDGED, bridged=at + 4),
            lambda c: c.with_leg(evolve(source, ended=at + 9, cause="NORMAL_CLEARING")),
            lambda c: c.with_leg(evolve(destination, ended=at + 9, cause="5550001234")),
            lambda c: transitions.end(c, transitions.EVENTS_LOST, at=at + 9),
        ):
            call = store.change(call, change, Note("event", "x"))
        counting.originate(call, "s", "sent", 0.01, at + 0.02)
        assert more("calls_entered_total", state="dialing") == 1
        assert more("calls_entered_total", state="ringing") == 0
        assert more("calls_entered_total", state="bridged") == 1
        assert more("call_dial_delay_seconds_bucket", le="0.025") == 1
        assert more("call_dial_delay_seconds_bucket", le="0.01") == 0
        assert more("call_bridge_delay_seconds_bucket", le="5.0") == 1
        assert more("call_talk_seconds_sum") == pytest.approx(5)
        gateway = source.trunk or ""
        assert more("legs_ended_total", gateway=gateway, cause="NORMAL_CLEARING") == 1
        assert more("legs_ended_total", gateway=gateway, cause="other") == 1
        assert more("organization_calls_ended_total", organization="3", disposition="answered") == 1
        ended = {"disposition": "answered", "ended_by": "events_lost", "switch": "s"}
        assert more("calls_ended_total", cause="NORMAL_UNSPECIFIED", **ended) == 1


def test_a_gateway_is_judged_by_its_legs(call: Call, store: CallStore) -> None:
    source, at = call.sources[0], call.accepted
    gateway = source.trunk or ""
    talked = {"answered": at + 3, "ended": at + 63, "cause": "NORMAL_CLEARING"}
    one_way = '{"packets_in":0,"packets_out":900,"marks":["one_way"]}'
    ends: list[tuple[str, dict[str, Any]]] = [
        ("answered", {**talked, "ringing": at + 2.5, "quality": one_way}),
        ("answered", {**talked, "quality": '{"mos":4.5,"packets_in":9}'}),
        ("busy", {"cause": "USER_BUSY", "sip_status": 486}),
        ("declined", {"cause": "CALL_REJECTED", "sip_status": 603, "sip_phrase": "Decline"}),
        ("blocked", {"cause": "CALL_REJECTED", "sip_status": 608}),
        ("no_answer", {"cause": "NO_ANSWER", "ringing": at + 2}),
        # A network may give 480 the cause of a normal end.
        ("no_answer", {"cause": "NORMAL_CLEARING", "sip_status": 480}),
        ("cancelled", {"cause": "LOSE_RACE"}),
        ("failed", {"cause": "5550001234"}),
        ("unknown", {}),
    ]
    with counted() as more:
        for _, fields in ends:
            leg = evolve(source, created=at + 1, **{"ended": at + 9, **fields})
            counting.changed(call, call.with_leg(leg))
        # It was never dialled.
        counting.changed(call, call.with_leg(evolve(source, ended=at + 9, cause="NO_ANSWER")))
        for result in endings.OUTCOMES:
            expected = sum(1 for name, _ in ends if name == result)
            assert more("gateway_legs_total", gateway=gateway, result=result) == expected
        assert more("gateway_post_dial_delay_seconds_count", gateway=gateway) == 2
        assert more("gateway_post_dial_delay_seconds_sum", gateway=gateway) == pytest.approx(2.5)
        assert more("gateway_talk_seconds_total", gateway=gateway) == pytest.approx(120)
        assert more("gateway_talks_total", gateway=gateway, audio="one_way") == 1
        assert more("gateway_talks_total", gateway=gateway, audio="good") == 1


def test_what_is_applied_once_is_counted_once(call: Call, store: CallStore) -> None:
    def end(current: Call) -> Call:
        return transitions.end(current, transitions.WORKER_LOST, at=call.accepted + 1)

    with counted() as more:
        # Both from the same old state; the second finds it done.
        store.change_many([Change(call, end, ())])
        store.change_many([Change(call, end, ())])
        assert more("calls_entered_total", state="ended") == 1


def test_an_idempotent_create_is_counted_once(ask: Ask) -> None:
    with counted() as more:
        for _ in range(2):
            assert ask("POST", SIMPLE, {**BODY, "nonce": "once"}).status_code == 202
        assert more("calls_accepted_total", organization="3") == 1
        assert more("calls_entered_total", state="queued") == 1


def test_organizations_that_are_too_many_are_one() -> None:
    few = counting._Capped(2)
    assert [few.label(name) for name in ("1", "2", "3", "1", "4")] == [
        "1",
        "2",
        "other",
        "1",
        "other",
    ]
    assert counting._Capped(0).label("1") == "other"


def test_the_causes_are_freeswitchs() -> None:
    assert set(causes._NAMES) == counting.CAUSES


def test_jobs_that_fail_are_told_from_those_that_are_done() -> None:
    with counted() as more:
        with counting.jobs("ringback-calls", 5):
            pass
        with pytest.raises(ValueError), counting.jobs("ringback-calls", 2):
            raise ValueError
        assert more("jobs_total", queue="ringback-calls", result="done") == 5
        assert more("jobs_total", queue="ringback-calls", result="failed") == 2


def test_what_cannot_be_counted_hurts_nobody(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        counting.changed(call, None)  # type: ignore[arg-type]
        counting.delivery("unheard of")
    assert len(caplog.records) == 2


@given(st.lists(st.floats(-1, 20)))
def test_what_is_written_later_is_as_the_library_does_it(amounts: list[float]) -> None:
    ours, theirs = (
        Histogram("a_seconds", "…", registry=CollectorRegistry(), buckets=(0.5, 1, 5, 10))
        for _ in range(2)
    )
    spread = counting._Spread(ours)
    for amount in amounts:
        spread.observe(amount)
        theirs.observe(max(0.0, amount))
    spread.write()
    spread.write()
    (found,), (expected,) = ours.collect(), theirs.collect()
    assert [s.value for s in found.samples] == pytest.approx([s.value for s in expected.samples])
    counting._all.remove(spread)


# What is read from Redis


def follow(redis: Redis, store: CallStore, name: str = "main") -> None:
    """As a listener would tell of a switch."""
    keys = Keys()
    fields: Any = {"up_since": 1, "sessions": 7, "max_sessions": 1000, "listener": "l"}
    redis.hset(keys.switch(name), mapping=fields)
    redis.hset(keys.limits, f"switch:{name}", "30:1000")
    redis.zadd(keys.switch_listeners(name), {"l": store.now(), "m": store.now()})


def test_gauges(scrape: Callable[[], Samples], call: Call, redis: Redis, store: CallStore) -> None:
    follow(redis, store)
    SwitchStore(redis, store.keys).pause("main", Pause("me", 1.0))
    redis.zadd(store.keys.switch_calls("main"), {"a": 1, "b": 2})
    redis.zadd(store.keys.deadlines("main"), {"a": store.now() - 60, "b": store.now() - 1})
    redis.xadd(store.keys.outbox, {"type": "0"}, id=f"{int((store.now() - 30) * 1000)}-0")
    redis.xadd(store.keys.dead_letters, {"reason": "HTTP 500"})
    redis.hset(f"rq:job:{call.id}", "enqueued_at", "2026-01-01T00:00:00.000000Z")
    found = scrape()

    def value(name: str, **labels: str) -> float:
        return found[f"ringback_{name}", frozenset(labels.items())]

    assert value("redis_up") == 1
    assert value("calls_live", switch="main") == 2
    assert value("switch_up", switch="main") == 1
    assert value("switch_listeners", switch="main") == 2
    assert value("switch_sessions", switch="main") == 7
    assert value("switch_sessions_max", switch="main") == 1000
    assert value("switch_paused", switch="main") == 1
    assert value("calls_waiting") == 1
    assert value("calls_overdue") == 1
    assert (
        value("queue_jobs", queue="ringback-calls"),
        value("queue_jobs", queue="ringback-actions"),
    ) == (1, 0)
    assert value("queue_age_seconds", queue="ringback-calls") > 1000
    assert value("queue_age_seconds", queue="ringback-actions") == 0
    assert value("queue_failed_jobs", queue="ringback-calls") == 0
    assert 30 <= value("webhook_lag_seconds") < 60
    assert value("webhook_dead_letters") == 1


def test_the_rest_is_shown_without_redis(settings: Settings) -> None:
    away = replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    client = create_app(away).test_client()
    with counted() as more:
        found = samples(client.get("/metrics").text)
        assert more("redis_errors_total") > 0
    assert found["ringback_redis_up", frozenset()] == 0
    assert ("ringback_calls_waiting", frozenset()) not in found
    assert ("ringback_calls_entered_total", frozenset({("state", "ended")})) in found
    assert client.get("/healthz").json == {"status": "ok"}
    answer = client.get("/readyz")
    why = {"status": "not ready", "why": "Redis does not answer."}
    assert (answer.status_code, answer.json) == (
        503,
        {"status": "not ready", "parts": {"redis": why}},
    )


# Health


def levels(answer: Any) -> dict[str, str]:
    return {name: part["status"] for name, part in answer.json["parts"].items()}


def test_the_api_is_ready_with_redis_and_accounts(
    client: FlaskClient, redis: Redis, store: CallStore
) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    assert answer.headers["Cache-Control"] == "no-store"
    assert levels(answer) == {
        "redis": "ready",
        "accounts": "ready",
        "limits": "ready",
        "workers": "degraded",
        "switches": "degraded",
    }
    follow(redis, store, "main")
    follow(redis, store, "spare")
    redis.hset(store.keys.switch("spare"), "unreachable_since", 1)
    for queue in ("ringback-requests", "ringback-calls", "ringback-actions"):
        worker: Any = {"queues": queue, "last_heartbeat": "2099-01-01T00:00:00.000000Z"}
        redis.hset(f"rq:worker:{queue}", mapping=worker)
        redis.sadd(f"rq:workers:{queue}", f"rq:worker:{queue}")
    answer = client.get("/readyz")
    assert (answer.status_code, levels(answer)) == (
        200,
        {
            "redis": "ready",
            "accounts": "ready",
            "limits": "ready",
            "workers": "ready",
            "switch main": "ready",
            "switch spare": "degraded",
        },
    )
    assert answer.json["parts"]["switch spare"]["why"] == "The listener cannot reach the switch."


def test_what_other_programs_leave_in_redis_hides_nothing(
    client: FlaskClient, scrape: Callable[[], Samples], redis: Redis
) -> None:
    alive: Any = {"queues": "ringback-calls", "last_heartbeat": "2099-01-01T00:00:00.000000Z"}
    redis.hset("rq:worker:ours", mapping=alive)
    redis.hset("rq:worker:theirs", mapping={"queues": b"\xff", "birth": "x", "pid": "y"})
    redis.set("rq:worker:text", "x")
    names: Any = [b"rq:worker:\xff", "rq:worker:gone", "theirs", "rq:worker:text"]
    redis.sadd("rq:workers:ringback-calls", "rq:worker:ours", "rq:worker:theirs", *names)
    redis.rpush("rq:queue:ringback-calls", b"\xff", "none")
    redis.rpush("rq:queue:ringback-actions", "broken")
    redis.hset("rq:job:broken", "enqueued_at", b"\xff")
    answer = client.get("/readyz")
    assert answer.json["parts"]["redis"]["status"] == "ready"
    why = "No worker takes actions: no call is hung up or moved."
    assert answer.json["parts"]["workers"]["why"] == why
    found = scrape()
    for queue, count in (("ringback-calls", 2), ("ringback-actions", 1)):
        labels = frozenset({("queue", queue)})
        assert found["ringback_queue_jobs", labels] == count
        assert found["ringback_queue_age_seconds", labels] == 0


def test_a_redis_that_takes_nothing(client: FlaskClient, redis: Redis) -> None:
    assert client.get("/readyz").status_code == 200
    redis.config_set("maxmemory", 1)
    try:
        answer = client.get("/readyz")
        # Another API would be no better, and this one still hangs up calls.
        assert (answer.status_code, levels(answer)["redis"]) == (200, "degraded")
        why = answer.json["parts"]["redis"]["why"]
        assert why == "Redis is full: no call is accepted or dialled."
        assert client.get("/metrics").status_code == 200
    finally:
        redis.config_set("maxmemory", 0)
    assert client.get("/readyz").status_code == 200


def test_what_cannot_be_read_takes_no_api_away(
    client: FlaskClient, scrape: Callable[[], Samples], redis: Redis, store: CallStore
) -> None:
    follow(redis, store)
    redis.hset(store.keys.switch("main"), "sessions", "many")
    answer = client.get("/readyz")
    assert (answer.status_code, levels(answer)["others"]) == (200, "degraded")
    found = scrape()
    assert found["ringback_redis_up", frozenset()] == 1
    assert ("ringback_calls_waiting", frozenset()) in found


def test_an_api_without_accounts_is_not_ready(client: FlaskClient, redis: Redis) -> None:
    redis.hset(Keys().accounts, mapping={"document": "{}", "version": 99})
    eventually(lambda: client.get("/readyz").status_code != 200)
    assert levels(client.get("/readyz"))["accounts"] == "not ready"


def test_neither_page_tells_secrets(settings: Settings, redis: Redis, call: Call) -> None:
    url = settings.require_redis().replace("redis://", "redis://someone:s3cret@")
    client = create_app(replace(settings, redis_url=url)).test_client()
    text = client.get("/readyz").text + client.get("/metrics").text
    for secret in ("s3cret", "someone", "127.0.0.1", call.organization_name, call.legs[0].number):
        assert secret not in text
    assert "not ready" in text


def test_a_listener_asks_what_others_hear(redis: Redis, store: CallStore) -> None:
    switches = SwitchStore(redis, store.keys)
    for listener in ("own", "other"):
        switches.sign("a", listener, hears=True, at=store.now(), lasts=9.0)
    switches.sign("b", "own", hears=True, at=store.now(), lasts=9.0)
    assert parts.OtherListeners(store, "own")(["a", "b", "c"]) == {"a"}
    away = CallStore(connect(f"redis://127.0.0.1:{free_port()}", retries=0), store.keys)
    # Redis may say later that another one hears it.
    assert parts.OtherListeners(away, "own")(["a"]) == ["a"]


def test_a_redis_that_is_late_is_slow_and_not_down(
    redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_app(settings).test_client()
    assert client.get("/readyz").status_code == 200
    pid = int(redis.info("server")["process_id"])  # type: ignore[index]
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = client.get("/readyz")
        assert (answer.status_code, levels(answer)) == (200, {"redis": "degraded"})
        why = answer.json["parts"]["redis"]["why"]
        assert why == "Redis answers late: requests may get 503."
        # A process that has heard nothing yet does not know whether it is slow.
        other = create_app(settings).test_client().get("/readyz")
        assert (other.status_code, levels(other)) == (503, {"redis": "not ready"})
        monkeypatch.setattr(parts, "_SLOW_LIMIT", 0.1)
        answer = client.get("/readyz")
        assert (answer.status_code, levels(answer)) == (503, {"redis": "not ready"})
        monkeypatch.setattr(parts, "_SLOW_LIMIT", LIMIT)
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: levels(client.get("/readyz"))["redis"] == "ready")


def test_a_slow_redis_takes_no_api_away(settings: Settings, redis: Redis) -> None:
    """Each refusal is Ringback's own, with the time to retry."""
    with late(settings.require_redis(), 1.1) as slow:
        app = create_app(replace(settings, redis_url=slow.url))
        assert app.test_client().get("/readyz").status_code == 200
        slow.begin()

        def ask(method: str, path: str) -> Any:
            return app.test_client().open(
                f"/uapi/phoneCalls/@me/{path}",
                method=method,
                json=BODY,
                headers={"Authorization": f"Bearer {USER}"},
            )

        asked = [("POST", "simple"), ("GET", "@self/x"), ("DELETE", "@self/x")]
        with ThreadPoolExecutor() as pool:
            ready = pool.submit(app.test_client().get, "/readyz")
            answers = [each.result() for each in [pool.submit(ask, *words) for words in asked]]
            assert levels(ready.result())["redis"] == "degraded"
        assert app.test_client().get("/readyz").status_code == 200
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.json["error"]["code"] in ("service_unavailable", "outcome_unknown")
        assert answer.headers["Retry-After"] == "1"


def test_what_a_worker_and_a_listener_need() -> None:
    some = {"a": True, "b": False}
    assert parts.is_ready(parts.worker_parts(some))
    assert not parts.is_ready(parts.worker_parts({"a": False, "b": False}))
    assert not parts.is_ready(parts.listener_parts(some, lambda names: names))
    # Nobody hears the switch, so an update may go on.
    away = parts.listener_parts(some, lambda names: ())
    assert parts.is_ready(away)
    why = "This listener does not hear the switch, and no other does."
    assert away["switch b"] == parts.Part(parts.Readiness.DEGRADED, why)
    assert parts.is_ready(parts.listener_parts({"a": True}, lambda names: names))
    document = parts.document(parts.worker_parts(some))
    why = "This worker is not connected to the switch."
    assert document == {
        "status": "ready",
        "parts": {"switch a": {"status": "ready"}, "switch b": {"status": "degraded", "why": why}},
    }


def test_a_bad_address_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_METRICS", "9100")
    with pytest.raises(SettingsError, match="RINGBACK_METRICS must be host:port"):
        load_settings()


def test_the_settings_reach_what_counts(settings: Settings, redis: Redis) -> None:
    try:
        Runtime.create(replace(settings, metrics_organizations=7))
        assert counting._organizations.most == 7
        create_app(replace(settings, metrics_organizations=8))
        assert counting._organizations.most == 8
    finally:
        counting.tell_apart(settings.metrics_organizations)
