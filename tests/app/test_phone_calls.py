"""The API against a real Redis; no switch is needed for what it answers."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

from app import create_app
from app.calls import transitions
from app.calls.model import State
from app.phone_calls.schemas import MAX_PARTIES
from app.settings import Settings, SettingsError
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.store.pace import Claims, Limit, Pacer
from app.store.steering import Steer, SteerStore
from app.store.writes import Note
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, USER, VOIPNOW, Ask
from tests.conftest import eventually, redis_running
from tests.own_accounts import own_accounts

SIMPLE = "/uapi/phoneCalls/@me/simple"
LIST = "/uapi/phoneCalls/@me/@self"
CALLBACK = "/uapi/phoneCalls/@me/callback"

# The requests of the two create pages.
VIEW = {
    "source": ["5354353", "5302040"],
    "destination": ["3235742879"],
    "callerId": "John Doe <4242425>",
}
BODY: dict[str, Any] = {"extension": "210", "phoneCallView": [VIEW]}
CALLBACK_BODY: dict[str, Any] = {
    "extension": "212",
    "phoneCallView": [
        {
            "source": ["3334444"],
            "destination": ["3235742879"],
            "callerId": "John Doe <4242425>",
        }
    ],
}

# The demo's accounts under other tokens and secrets.
OTHER = own_accounts("another-of")


def body(**view: Any) -> dict[str, Any]:
    return {"extension": "210", "phoneCallView": [{**VIEW, **view}]}


def written(redis: Redis) -> set[bytes]:
    """Every key but those that the API writes when it starts, and when it looks whether Redis
    works, and the audit of what is refused."""
    own = {*(b"ringback:accounts", b"ringback:format", b"ringback:limits", b"ringback:audit")}
    own.add(b"ringback:probe")
    return {key for key in redis.keys("*") if not key.startswith(b"ringback:accounts:")} - own


def only_call(redis: Redis, store: CallStore) -> Any:
    (key,) = [k for k in redis.keys("ringback:call:*") if not k.endswith(b":timeline")]
    call = store.get(re.search(rb"{(\w+)}", key)[1].decode())  # type: ignore[index]
    assert call is not None
    return call


def is_error(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code), answer.json
    assert {"code", "message"} <= set(answer.json["error"])
    assert answer.json["error"]["message"]


# Create


def test_the_simple_pages_example(ask: Ask, redis: Redis, store: CallStore) -> None:
    answer = ask("POST", SIMPLE, BODY)
    assert answer.status_code == 202
    (entry,) = answer.json
    assert re.fullmatch(r"[0-9a-f]{20}", entry["id"])
    link = f"http://localhost/uapi/phoneCalls/@me/210/{entry['id']}"
    assert entry == {
        "id": entry["id"],
        "extension": "210",
        "link": {"self": link},
        "links": {"self": link},
    }
    call = store.get(entry["id"])
    assert call is not None
    assert (call.extension, call.user, call.organization) == ("0003*210", "12", "3")
    assert [leg.number for leg in call.legs] == ["5354353", "5302040", "3235742879"]
    assert (call.wait_for_pickup, call.video, call.allow_public_transfer) == (25, False, False)
    assert call.caller_id == "John Doe <4242425>"
    assert call.caller_id_destination == "Demo Desk <0003210>"
    assert len({leg.uuid for leg in call.legs} | {call.job_uuid}) == 4


def test_the_job_is_enqueued_with_the_calls_id(ask: Ask, redis: Redis) -> None:
    (entry,) = ask("POST", SIMPLE, BODY).json
    queue = Queue("ringback-calls", connection=redis, serializer=JSONSerializer)
    (job,) = queue.jobs
    assert (job.id, job.func_name) == (entry["id"], "workers.jobs.place_call")
    assert job.args == [entry["id"]]


def test_the_job_is_written_as_rq_writes_it(ask: Ask, redis: Redis) -> None:
    (entry,) = ask("POST", SIMPLE, BODY).json
    queue = Queue("ringback-calls", connection=redis, serializer=JSONSerializer)
    theirs = queue.create_job(
        "workers.jobs.place_call",
        args=("theirs",),
        job_id="theirs",
        description="place call theirs",
        timeout=60 + 30,
        result_ttl=60,
        failure_ttl=86_400,
    )
    queue.enqueue_job(theirs)
    assert queue.get_job_ids() == [entry["id"], "theirs"]
    ours, other = (redis.hgetall(f"rq:job:{name}") for name in (entry["id"], "theirs"))
    assert ours.keys() == other.keys()
    varies = {b"created_at", b"enqueued_at", b"data", b"description"}
    assert {name for name in ours if ours[name] != other[name]} <= varies
    assert redis.ttl(f"rq:job:{entry['id']}") == redis.ttl("rq:job:theirs")
    assert redis.smembers("rq:queues") == {b"rq:queue:ringback-calls"}
    assert queue.jobs[0].get_status() == "queued"


def test_a_redis_that_came_back_empty_gets_accounts_and_limits_again(
    ask: Ask, redis: Redis, store: CallStore, client: FlaskClient
) -> None:
    before = ask("POST", SIMPLE, BODY)
    redis.flushall()
    store.keys = Keys()
    call = store.get(before.json[0]["id"])
    assert call is None
    # An API writes both as soon as it looks at the accounts.
    eventually(lambda: ask("POST", SIMPLE, BODY).status_code == 202)
    limits: Any = redis.hgetall(store.keys.limits)
    assert limits[b"mark"] and redis.hexists(store.keys.account_rows, "extensions 0003*210")
    assert redis.get(store.keys.format)


def test_without_limits_no_call_is_accepted(ask: Ask, redis: Redis, client: FlaskClient) -> None:
    assert ask("POST", SIMPLE, BODY).status_code == 202
    redis.hdel(Keys().limits, "mark")
    known = written(redis)
    is_error(ask("POST", SIMPLE, BODY), 503, "service_unavailable")
    assert written(redis) == known
    parts = client.get("/readyz").json["parts"]
    assert parts["limits"]["status"] == "not ready" and "limits" in parts["limits"]["why"]


def test_a_call_that_waits_says_where_it_stands(ask: Ask, redis: Redis, store: CallStore) -> None:
    ids = [ask("POST", SIMPLE, BODY).json[0]["id"] for _ in range(3)]
    entries = ask("GET", LIST, fields="id,queuePosition,expectedWait").json["entry"]
    assert {row["id"]: row["queuePosition"] for row in entries} == {
        call_id: position for position, call_id in enumerate(ids)
    }
    assert all(row["expectedWait"] >= 0 for row in entries)
    Pacer(redis, store.keys).set_switch_limit("main", Limit())
    SteerStore(redis, store.keys).tell("main", Steer(until=1e12))
    Claims(store, "w").next({"main": "run"}, 1)
    assert "queuePosition" not in ask("GET", f"{LIST}/{ids[0]}").json["entry"][0]


def test_the_callback_pages_example(ask: Ask, redis: Redis, store: CallStore) -> None:
    answer = ask("POST", CALLBACK, CALLBACK_BODY)
    assert answer.status_code == 202
    assert answer.json[0]["extension"] == "212"
    call = only_call(redis, store)
    assert (call.kind, call.extension) == ("callback", "0003*212")


def test_every_parameter(ask: Ask, redis: Redis, store: CallStore) -> None:
    ask(
        "POST",
        SIMPLE,
        body(callerIdDestination="Shop <4242400>"),
        waitForPickup="40",
        callDuration="600",
        allowPublicTransfer="true",
        video="true",
    )
    call = only_call(redis, store)
    assert (call.wait_for_pickup, call.call_duration) == (40, 600)
    assert (call.allow_public_transfer, call.video) == (True, True)
    assert call.caller_id_destination == "Shop <4242400>"


@pytest.mark.parametrize(
    ("token", "user", "extension"),
    [
        (USER, "@me", "210"),
        (USER, "@viewer", "210"),
        (USER, "@owner", "0003*210"),
        (USER, "12", "0003*210"),
        (ORGANIZATION, "12", "210"),
        (ORGANIZATION, "@owner", "0003*210"),
        (ADMINISTRATOR, "12", "0003*210"),
        (ADMINISTRATOR, "@owner", "0003*210"),
    ],
)
def test_who_may_ask(ask: Ask, token: str, user: str, extension: str) -> None:
    answer = ask(
        "POST", f"/uapi/phoneCalls/{user}/simple", {**BODY, "extension": extension}, token=token
    )
    assert answer.status_code == 202, answer.json
    assert f"/uapi/phoneCalls/{user}/{extension}/" in answer.json[0]["links"]["self"]


@pytest.mark.parametrize(
    ("token", "user", "extension", "code"),
    [
        (ORGANIZATION, "@me", "210", "user_invalid"),
        (ORGANIZATION, "@viewer", "210", "user_invalid"),
        (ADMINISTRATOR, "@me", "0003*210", "user_invalid"),
        (USER, "13", "210", "user_invalid"),
        (ADMINISTRATOR, "nobody", "0003*210", "user_invalid"),
        # An administrator's app has no organization whose short numbers it could mean.
        (ADMINISTRATOR, "12", "210", "extension_invalid"),
        (USER, "@me", "999", "extension_invalid"),
        (USER, "@me", "0004*210", "extension_invalid"),
        (USER, "@me", "@self", "extension_invalid"),
        (USER, "@me", "", "extension_invalid"),
        (USER, "@me", "212", "extension_invalid"),
        (USER, "@me", "003", "extension_invalid"),
    ],
)
def test_who_may_not(
    ask: Ask, redis: Redis, token: str, user: str, extension: str, code: str
) -> None:
    answer = ask(
        "POST", f"/uapi/phoneCalls/{user}/simple", {**BODY, "extension": extension}, token=token
    )
    is_error(answer, 400, code)
    assert written(redis) == set()


def test_without_an_extension_the_first_source_is_charged(
    ask: Ask, redis: Redis, store: CallStore
) -> None:
    view = {"source": ["211", "5354353"], "destination": ["3235742879"]}
    answer = ask("POST", SIMPLE, {"phoneCallView": [view]})
    assert answer.status_code == 202
    assert only_call(redis, store).extension == "0003*211"
    is_error(ask("POST", SIMPLE, {"phoneCallView": [VIEW]}), 400, "extension_invalid")
    is_error(ask("POST", CALLBACK, {"phoneCallView": [view]}), 400, "extension_invalid")


@pytest.mark.parametrize(
    ("path", "changed", "query", "code"),
    [
        (SIMPLE, body(source=[]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=None), {}, "pc_source_invalid"),
        (SIMPLE, body(source=["12a"]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=["1", None]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=[""]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=["1\n2"]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=["0003*999"]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=["0003*212"]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=[True]), {}, "pc_source_invalid"),
        (SIMPLE, body(source={"a": 1}), {}, "pc_source_invalid"),
        (SIMPLE, body(source=["1" * 33]), {}, "pc_source_invalid"),
        (SIMPLE, body(source=["+"]), {}, "pc_source_invalid"),
        (
            SIMPLE,
            body(source=[str(n) for n in range(1000, 1001 + MAX_PARTIES)]),
            {},
            "pc_source_invalid",
        ),
        (SIMPLE, {"extension": "210"}, {}, "pc_source_invalid"),
        (SIMPLE, {**BODY, "phoneCallView": []}, {}, "pc_source_invalid"),
        (SIMPLE, {**BODY, "phoneCallView": "x"}, {}, "pc_source_invalid"),
        (SIMPLE, {**BODY, "phoneCallView": [7]}, {}, "pc_source_invalid"),
        (
            SIMPLE,
            {**BODY, "phoneCallView": [VIEW, {**VIEW, "source": []}]},
            {},
            "pc_source_invalid",
        ),
        (SIMPLE, body(destination=[]), {}, "pc_destination_invalid"),
        (SIMPLE, body(destination=None), {}, "pc_destination_invalid"),
        (SIMPLE, body(destination=["sip:x@y"]), {}, "pc_destination_invalid"),
        (SIMPLE, body(destination=["0004*210"]), {}, "pc_destination_invalid"),
        (SIMPLE, body(destination=["1 &system(x)"]), {}, "pc_destination_invalid"),
        (SIMPLE, body(destination=["${x}"]), {}, "pc_destination_invalid"),
        (SIMPLE, body(callerId=""), {}, "pc_callerid_invalid"),
        (SIMPLE, body(callerId="John Doe"), {}, "pc_callerid_invalid"),
        (SIMPLE, body(callerId=["John <1>"]), {}, "pc_callerid_invalid"),
        (SIMPLE, body(callerId='say "hi" <1>'), {}, "pc_callerid_invalid"),
        (SIMPLE, body(callerId="a\\ <1>"), {}, "pc_callerid_invalid"),
        (SIMPLE, body(callerId="a\nb <1>"), {}, "pc_callerid_invalid"),
        (SIMPLE, body(callerIdDestination="Shop"), {}, "pc_callerid_invalid"),
        (SIMPLE, {**BODY, "nonce": ""}, {}, "pc_nonce_invalid"),
        (SIMPLE, {**BODY, "nonce": "x" * 256}, {}, "pc_nonce_invalid"),
        (SIMPLE, {**BODY, "nonce": "a\tb"}, {}, "pc_nonce_invalid"),
        (SIMPLE, {**BODY, "nonce": 7}, {}, "pc_nonce_invalid"),
        (SIMPLE, {**BODY, "extension": ["210"]}, {}, "extension_invalid"),
        (SIMPLE, BODY, {"waitForPickup": "0"}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"waitForPickup": "601"}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"waitForPickup": "-1"}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"waitForPickup": "1.5"}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"waitForPickup": "soon"}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"waitForPickup": ""}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"waitForPickup": "1_0"}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"waitForPickup": "٣"}, "pc_timeout_invalid"),
        (SIMPLE, BODY, {"callDuration": "0"}, "pc_duration_invalid"),
        (SIMPLE, BODY, {"callDuration": "86401"}, "pc_duration_invalid"),
        (SIMPLE, BODY, {"callDuration": "long"}, "pc_duration_invalid"),
        (SIMPLE, BODY, {"allowPublicTransfer": "perhaps"}, "pc_transfer_invalid"),
        (SIMPLE, BODY, {"video": "perhaps"}, "pc_video_invalid"),
        (SIMPLE, BODY, {"fields": "colour"}, "fields_invalid"),
        (CALLBACK, {**CALLBACK_BODY, "extension": "210"}, {}, "extension_invalid"),
        (CALLBACK, {**CALLBACK_BODY, "extension": None}, {}, "extension_invalid"),
        (CALLBACK, CALLBACK_BODY, {"waitForPickup": "0"}, "pc_timeout_invalid"),
        (CALLBACK, CALLBACK_BODY, {"callDuration": "0"}, "pc_duration_invalid"),
    ],
)
def test_bad_input_has_its_code_and_writes_nothing(
    ask: Ask, redis: Redis, path: str, changed: Any, query: dict[str, str], code: str
) -> None:
    is_error(ask("POST", path, changed, **query), 400, code)
    assert written(redis) == set()


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 30_000, "[]", "7", '"x"', '{"extension": "210" "x"}', b"\xff"]
)
def test_a_body_that_is_no_json_object(ask: Ask, redis: Redis, text: str | bytes) -> None:
    is_error(ask("POST", SIMPLE, text), 400, "request_invalid")
    assert written(redis) == set()


def test_a_body_too_large(ask: Ask, client: FlaskClient) -> None:
    is_error(ask("POST", SIMPLE, " " * (64 * 1024 + 1)), 413, "request_too_large")
    assert ask("POST", SIMPLE, json.dumps(BODY).ljust(64 * 1024)).status_code == 202
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    large = io.BytesIO(b" " * 70_000)
    answer = client.post(
        SIMPLE,
        input_stream=large,
        environ_overrides=chunked,
        headers={"Authorization": f"Bearer {USER}"},
    )
    is_error(answer, 413, "request_too_large")


@pytest.mark.parametrize("token", [USER, VOIPNOW])
def test_what_clients_send_otherwise(ask: Ask, redis: Redis, store: CallStore, token: str) -> None:
    view = {
        "source": 5354353,
        "destination": "3235742879",
        "callerDestination": "Jane <+15551234>",
    }
    request = {"extension": 210, "phoneCallView": [view], "nonce": None}
    query = {"waitForPickUp": "30"}
    if token == VOIPNOW:
        # Names that nothing reads.
        view["unknown"] = {"x": 1}
        request["more"], query["sortOder"] = [], "x"
    answer = ask("POST", SIMPLE + "/", request, token=token, **query)
    assert answer.status_code == (200 if token == VOIPNOW else 202), answer.json
    call = only_call(redis, store)
    assert [leg.number for leg in call.legs] == ["5354353", "3235742879"]
    assert call.caller_id_destination == "Jane <+15551234>"
    assert call.wait_for_pickup == 30


def test_the_old_name_and_slashes_need_no_redirect(ask: Ask) -> None:
    for path in (SIMPLE, SIMPLE + "/", SIMPLE.replace("/uapi", "/unifiedapi") + "/"):
        assert ask("POST", path, BODY).status_code == 202
    for path in ("/uapi/phoneCalls/@me/@self", "/unifiedapi/phoneCalls/@me/210/"):
        assert ask("GET", path).status_code == 200


def test_a_number_twice_rings_once(ask: Ask, redis: Redis, store: CallStore) -> None:
    ask("POST", SIMPLE, body(source=["5354353", "210", "0003*210", "5354353"]))
    assert [leg.number for leg in only_call(redis, store).sources] == ["5354353", "0003*210"]


def test_several_destinations_and_sandbox(ask: Ask, redis: Redis, store: CallStore) -> None:
    ask("POST", SIMPLE, body(destination=["0003*211", "0003*00"]))
    call = only_call(redis, store)
    assert [leg.kind.value for leg in call.destinations] == ["extension", "sandbox"]


def test_several_views_are_a_call_each(ask: Ask, redis: Redis) -> None:
    answer = ask("POST", SIMPLE, {**BODY, "nonce": "n", "phoneCallView": [VIEW, VIEW]})
    assert answer.status_code == 202
    assert len({entry["id"] for entry in answer.json}) == 2
    again = ask("POST", SIMPLE, {**BODY, "nonce": "n", "phoneCallView": [VIEW, VIEW]})
    assert again.json == answer.json
    assert Queue("ringback-calls", connection=redis, serializer=JSONSerializer).count == 2


def test_the_gateways_of_a_route_are_tried_in_order(
    settings: Settings, redis: Redis, store: CallStore, accounts_file: Path
) -> None:
    accounts_file.write_text(
        OTHER.replace('gateways = ["pstn"]', 'gateways = ["pstn", "pstn2"]').replace(
            'caller_id = "Callback <0003212>"', "may_set_caller_id = false"
        )
    )
    client = create_app(replace(settings, accounts=accounts_file)).test_client()
    headers = {"Authorization": "Bearer another-of-user-token"}
    assert client.post(SIMPLE, json=body(source=["5354353"]), headers=headers).status_code == 202
    call = only_call(redis, store)
    assert [(leg.id, leg.gateway) for leg in call.legs] == [
        ("a1", "pstn"),
        ("a1.2", "pstn2"),
        ("b1", "pstn"),
        ("b1.2", "pstn2"),
    ]
    # An extension whose caller id is not for the request to say.
    answer = client.post(CALLBACK, json=CALLBACK_BODY, headers=headers)
    is_error(answer, 400, "pc_callerid_invalid")
    del (view := dict(CALLBACK_BODY["phoneCallView"][0]))["callerId"]
    allowed = client.post(
        CALLBACK, json={"extension": "212", "phoneCallView": [view]}, headers=headers
    )
    assert allowed.status_code == 202
    stored = store.get(allowed.json[0]["id"])
    assert stored is not None and stored.caller_id == "<0003*212>"


TWO = """
[[organizations]]
id = "4"
number = "0004"
name = "Two"

[[users]]
id = "40"
organization = "0004"

[[extensions]]
number = "0004*300"
type = "phone_terminal"
owner = "40"
dial_string = "user/300@example.com"
"""


def test_two_organizations_do_not_see_each_other(
    settings: Settings, redis: Redis, accounts_file: Path
) -> None:
    accounts_file.write_text(OTHER + TWO)
    client = create_app(replace(settings, accounts=accounts_file)).test_client()

    def post(token: str, user: str, **view: Any) -> Any:
        headers = {"Authorization": f"Bearer another-of-{token}-token"}
        request = {"extension": "0003*210", "phoneCallView": [{**VIEW, **view}]}
        return client.post(f"/uapi/phoneCalls/{user}/simple", json=request, headers=headers)

    for token in ("user", "organization"):
        for number in ("0004*300", "0004*301", "0004*00"):
            is_error(post(token, "12", destination=[number]), 400, "pc_destination_invalid")
            is_error(post(token, "12", source=[number]), 400, "pc_source_invalid")
        is_error(post(token, "40"), 400, "user_invalid")
    assert written(redis) == set()
    assert post("administrator", "12", destination=["0004*300"]).status_code == 202


def test_more_ways_than_one_originate_holds(
    settings: Settings, redis: Redis, accounts_file: Path
) -> None:
    accounts_file.write_text(OTHER.replace('["pstn"]', '["a", "b", "c", "d"]'))
    client = create_app(replace(settings, accounts=accounts_file)).test_client()
    headers = {"Authorization": "Bearer another-of-user-token"}
    many = body(source=[str(number) for number in range(1000, 1017)])
    is_error(client.post(SIMPLE, json=many, headers=headers), 400, "pc_source_invalid")
    assert written(redis) == set()


def test_the_demo_accounts_stay_on_loopback_and_replace_no_others(
    settings: Settings, redis: Redis, accounts_file: Path
) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        create_app(replace(settings, http="0.0.0.0:8080"))
    # Known tokens are for the simulator that `ringback up` starts.
    with pytest.raises(SettingsError, match="RINGBACK_ACCOUNTS is not set"):
        create_app(replace(settings, demo=None))
    accounts_file.write_text(OTHER)
    create_app(replace(settings, accounts=accounts_file, http="0.0.0.0:8080"))
    with pytest.raises(SettingsError, match="RINGBACK_ACCOUNTS"):
        create_app(settings)


# The nonce


def test_a_nonce_makes_the_request_idempotent(ask: Ask, redis: Redis) -> None:
    request = {**BODY, "nonce": "order 4711"}
    first, second = (ask("POST", SIMPLE, request) for _ in range(2))
    assert first.status_code == second.status_code == 202
    assert first.json == second.json and first.json[0]["nonce"] == "order 4711"
    assert Queue("ringback-calls", connection=redis, serializer=JSONSerializer).count == 1
    other = {**body(destination=["3235742880"]), "nonce": "order 4711"}
    is_error(ask("POST", SIMPLE, other), 400, "pc_nonce_invalid")
    # Another app's nonce is another nonce.
    assert ask("POST", "/uapi/phoneCalls/12/simple", request, token=ORGANIZATION).json != first.json
    found = ask("GET", "/uapi/phoneCalls/@me/@self", filterBy="nonce", filterValue="order 4711")
    assert [entry["id"] for entry in found.json["entry"]] == [first.json[0]["id"]]


def test_for_voipnow_a_nonce_is_a_label(ask: Ask, redis: Redis) -> None:
    request = {**BODY, "nonce": "MTE1NDQzNzc3"}
    first, second = (ask("POST", SIMPLE, request, token=VOIPNOW) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.json[0]["id"] != second.json[0]["id"]


# Token


@pytest.mark.parametrize("token", [None, "", "wrong-token", "demo-user-toke", "é"])
def test_no_or_bad_token(ask: Ask, redis: Redis, token: str | None) -> None:
    for method, path in (("POST", SIMPLE), ("GET", "/uapi/phoneCalls/@me/@self")):
        is_error(
            ask(method, path, BODY, token=token and token.encode().decode("latin-1")),
            401,
            "access_denied",
        )
    assert written(redis) == set()


@pytest.mark.parametrize("value", [VOIPNOW, f"Bearer {VOIPNOW}"])
def test_the_token_in_the_query(ask: Ask, value: str) -> None:
    for _ in range(3):
        ask("POST", SIMPLE, BODY)
    query = {"accessRequestToken": value, "count": 1, "startIndex": 1}
    answer = ask("GET", "/uapi/phoneCalls/@me/@self", token=None, **query)
    assert answer.status_code == 200
    assert set(answer.json["paging"]) == {"next", "prev"}
    # No link holds it.
    assert VOIPNOW not in answer.text and "accessRequestToken" not in answer.text
    created = ask("POST", SIMPLE, BODY, token=None, accessRequestToken=value)
    assert created.status_code == 200 and VOIPNOW not in created.text


def test_the_token_in_the_query_is_for_apps_that_say_so(ask: Ask, redis: Redis) -> None:
    for value in (USER, f"Bearer {USER}"):
        answer = ask("POST", SIMPLE, BODY, token=None, accessRequestToken=value)
        is_error(answer, 401, "access_denied")
        assert "token_in_query" in answer.json["error"]["message"]
        assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]
    assert written(redis) == set()


# Errors of HTTP itself


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "request_not_found"),
        ("GET", "/uapi/nothing", 404, "request_not_found"),
        ("PATCH", "/uapi/phoneCalls/@me/210", 405, "method_not_allowed"),
        ("GET", "/uapi/phoneCalls", 404, "request_not_found"),
    ],
)
def test_errors_are_json(ask: Ask, method: str, path: str, status: int, code: str) -> None:
    is_error(ask(method, path, {}), status, code)


def test_redis_away_is_503(settings: Settings) -> None:
    with redis_running() as url:
        client = create_app(replace(settings, redis_url=url)).test_client()
    answer = client.post(SIMPLE, json=BODY, headers={"Authorization": f"Bearer {USER}"})
    is_error(answer, 503, "service_unavailable")
    assert answer.headers["Retry-After"]


def test_an_unexpected_fault_is_answered_in_form(settings: Settings, redis: Redis) -> None:
    app = create_app(settings)
    redis.set("ringback:accounts", "no hash")
    answer = app.test_client().get("/uapi/phoneCalls/@me/@self")
    is_error(answer, 500, "internal_server_error")


# Get


def test_the_resource_while_queued(ask: Ask, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, {**BODY, "nonce": "n"}).json
    answer = ask("GET", f"/uapi/phoneCalls/@me/210/{created['id']}")
    collection = answer.json
    assert answer.status_code == 200
    assert {k: v for k, v in collection.items() if k != "entry"} == {
        "totalResults": 1,
        "startIndex": 0,
        "itemsPerPage": 20,
    }
    (entry,) = collection["entry"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry.pop("published"))
    views = entry.pop("phoneCallView")
    assert entry == {
        "id": created["id"],
        "extension": "0003*210",
        "ownerId": "3",
        "ownerName": "Default Organization",
        "nonce": "n",
        "state": "queued",
        "queuePosition": 0,
        "expectedWait": 0.0,
        "link": created["link"],
        "links": created["links"],
    }
    shared = {
        "extension": "0003*210",
        "source": ["5354353", "5302040"],
        "destination": ["3235742879"],
        "flow": 4,
        "status": 2,
    }
    assert views == [
        {"id": "00", "callerId": "John Doe <4242425>", **shared},
        {"id": "01", "callerId": "Demo Desk <0003210>", **shared},
    ]


def test_flows(ask: Ask) -> None:
    for view, flow in (
        ({"source": ["210"], "destination": ["211"]}, 2),
        ({"source": ["210"], "destination": ["3235742879"]}, 4),
        ({"source": ["3235742879"], "destination": ["211"]}, 8),
        ({"source": ["210"], "destination": ["0003*05"]}, 2),
    ):
        (created,) = ask("POST", SIMPLE, {"extension": "210", "phoneCallView": [view]}).json
        entry = ask("GET", f"/uapi/phoneCalls/@me/@self/{created['id']}").json["entry"][0]
        assert [v["flow"] for v in entry["phoneCallView"]] == [flow, flow]
    assert entry["phoneCallView"][1]["destination"] == ["Sandbox"]


def test_lists(ask: Ask) -> None:
    path = "/uapi/phoneCalls/@me"
    assert ask("GET", f"{path}/@self").json == {
        "totalResults": 0,
        "startIndex": 0,
        "itemsPerPage": 20,
        "entry": [],
    }
    first, second = (ask("POST", SIMPLE, BODY).json[0]["id"] for _ in range(2))
    third = ask("POST", SIMPLE, {**body(destination=["211"]), "extension": "024"}).json[0]["id"]

    def ids(path: str, **query: Any) -> list[str]:
        return [entry["id"] for entry in ask("GET", path, **query).json["entry"]]

    assert ids(f"{path}/@self") == [third, second, first]
    assert ids(f"{path}/210") == ids(f"{path}/0003*210") == [second, first]
    # An extension that is in a call it does not pay for.
    assert ids(f"{path}/211") == [third]
    assert ids(f"{path}/@self", startIndex=1, count=1) == [second]
    for there_is_none in (f"{path}/211/{first}", f"{path}/@self/{'0' * 20}"):
        is_error(ask("GET", there_is_none), 404, "pc_phonecall_invalid")
        is_error(
            ask("GET", there_is_none, filterBy="id", filterValue="x"), 404, "pc_phonecall_invalid"
        )
        assert ask("GET", there_is_none, token=VOIPNOW).json["entry"] == []
    # A call that the filter leaves out is there.
    assert ids(f"{path}/210/{first}", filterBy="id", filterValue="x") == []
    assert ids("/uapi/phoneCalls/@owner/@self") == [third, second, first]
    only = ask("GET", f"{path}/210/{first}", fields="id,phoneCallView").json["entry"][0]
    assert set(only) == {"id", "phoneCallView"}
    is_error(ask("GET", f"{path}/999"), 400, "extension_invalid")
    is_error(ask("GET", "/uapi/phoneCalls/13/@self"), 400, "user_invalid")
    is_error(ask("GET", f"{path}/@self", count=0), 400, "count_invalid")
    is_error(ask("GET", f"{path}/@self", filterBy="colour"), 400, "filterby_invalid")


# Hang up, while no worker has the call


def test_a_queued_call_is_cancelled_at_once(ask: Ask, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, BODY).json
    path = f"/uapi/phoneCalls/@me/210/{created['id']}"
    answer = ask("DELETE", path)
    assert answer.status_code == 200
    (entry,) = answer.json
    assert (entry["state"], entry["endedBy"], entry["hangupCause"]) == (
        "ended",
        "api",
        "ORIGINATOR_CANCEL",
    )
    assert [view["disposition"] for view in entry["phoneCallView"]] == [3, 3]
    assert all("status" not in view for view in entry["phoneCallView"])
    # Still answered by its id, no longer in the list; ended once.
    assert ask("GET", path).json["entry"] == [entry]
    assert ask("GET", "/uapi/phoneCalls/@me/210").json["entry"] == []
    assert ask("DELETE", path).json == [entry]


def test_for_voipnow_an_ended_call_is_gone(ask: Ask) -> None:
    (created,) = ask("POST", SIMPLE, BODY, token=VOIPNOW).json
    path = f"/uapi/phoneCalls/@me/210/{created['id']}/"
    assert len(ask("GET", path, token=VOIPNOW).json["entry"]) == 1
    assert len(ask("DELETE", path, token=VOIPNOW).json) == 1
    gone = ask("GET", path, token=VOIPNOW).json
    assert (gone["entry"], gone["totalResults"]) == ([], 0)
    assert ask("DELETE", path, token=VOIPNOW).json == []


def test_all_calls_of_an_extension(ask: Ask) -> None:
    for _ in range(3):
        ask("POST", SIMPLE, BODY)
    other = ask("POST", SIMPLE, {**BODY, "extension": "024"}).json[0]["id"]
    assert len(ask("DELETE", "/uapi/phoneCalls/@me/210").json) == 3
    left = ask("GET", "/uapi/phoneCalls/@me/@self").json["entry"]
    assert [entry["id"] for entry in left] == [other]


def test_a_number_leaves_a_queued_call(ask: Ask, store: CallStore) -> None:
    (created,) = ask("POST", SIMPLE, BODY).json
    path = f"/uapi/phoneCalls/@me/210/{created['id']}"
    assert ask("DELETE", path, phoneNumber="999999").json == []
    for blank in ("", " ", "-"):
        is_error(ask("DELETE", path, phoneNumber=blank), 400, "pc_destination_invalid")
    (entry,) = ask("DELETE", path, phoneNumber="5302040").json
    assert entry["state"] == "queued"
    call = store.get(created["id"])
    assert call is not None
    assert [leg.id for leg in call.sources if leg.hangup_requested is None] == ["a1"]
    # The last of a side ends the call.
    (entry,) = ask("DELETE", path, phoneNumber="3235742879").json
    assert (entry["state"], entry["endedBy"]) == ("ended", "api")


def test_an_unknown_call(ask: Ask) -> None:
    is_error(ask("DELETE", "/uapi/phoneCalls/@me/210/nosuch"), 400, "pc_phonecall_invalid")


def test_a_claimed_call_is_hung_up_by_a_worker(ask: Ask, redis: Redis, store: CallStore) -> None:
    """No worker runs here: the answer is 202, and the job waits for one."""
    (created,) = ask("POST", SIMPLE, BODY).json
    call = store.get(created["id"])
    assert call is not None
    store.change(
        call,
        lambda c: transitions.claim(c, worker="w", switch="s", core_uuid="u", at=c.accepted),
        Note("command", "claim"),
    )
    answer = ask("DELETE", f"/uapi/phoneCalls/@me/210/{created['id']}")
    assert answer.status_code == 202
    assert answer.json[0]["state"] == State.DIALING
    (job,) = Queue("ringback-actions", connection=redis, serializer=JSONSerializer).jobs
    assert job.args == [created["id"]]


def test_an_api_that_is_started_while_redis_is_away_serves_once_it_is_there(
    settings: Settings,
) -> None:
    port = free_port()
    url = f"redis://:secret@127.0.0.1:{port}/0"
    client = create_app(replace(settings, redis_url=url)).test_client()
    headers = {"Authorization": f"Bearer {USER}"}
    answer = client.get("/uapi/phoneCalls/@me/@self", headers=headers)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "service_unavailable")
    server = EmbeddedRedis(port, password="secret")
    try:
        redis = connect(url)
        eventually(lambda: answers(redis) and redis.exists(Keys().accounts) == 1)
        assert client.get("/uapi/phoneCalls/@me/@self", headers=headers).status_code == 200
    finally:
        server.stop()


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


# The header Idempotency-Key


def keyed(client: FlaskClient, key: Any, more: Any = None, token: str = USER) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    return client.post(SIMPLE, json=BODY | (more or {}), headers=headers)


def test_an_idempotency_key_is_a_nonce(client: FlaskClient, ask: Ask, redis: Redis) -> None:
    first = keyed(client, "order 4711")
    assert first.status_code == 202 and first.json[0]["nonce"] == "order 4711"
    assert "Idempotent-Replayed" not in first.headers
    # In quotation marks, as the IETF's draft writes it; the same nonce in the body; or in both.
    for again in (
        keyed(client, "order 4711"),
        keyed(client, '"order 4711"'),
        keyed(client, "order 4711", {"nonce": "order 4711"}),
        ask("POST", SIMPLE, BODY | {"nonce": "order 4711"}),
    ):
        assert (again.status_code, again.json) == (202, first.json)
        assert again.headers["Idempotent-Replayed"] == "true"
    assert Queue("ringback-calls", connection=redis, serializer=JSONSerializer).count == 1
    other = keyed(client, "order 4711", {"extension": "211"})
    is_error(other, 400, "pc_nonce_invalid")
    error = other.json["error"]
    assert error["message"] == "This nonce was used for another request."
    assert (error["field"], error["value"]) == ("Idempotency-Key", "order 4711")
    other = ask("POST", SIMPLE, {**BODY, "extension": "211", "nonce": "order 4711"})
    assert other.json["error"]["field"] == "/nonce"
    # Letters beyond ASCII are those of the body.
    assert keyed(client, "Auftrag für Ä".encode().decode("latin-1")).json[0]["nonce"][-1] == "Ä"


@pytest.mark.parametrize(
    ("key", "nonce", "message"),
    [
        ("", None, "nonce takes 1 to 255 printable characters."),
        ('""', None, "nonce takes 1 to 255 printable characters."),
        ("x" * 256, None, "nonce takes 1 to 255 printable characters."),
        ("\x7f", None, "nonce takes 1 to 255 printable characters."),
        ("\xff", None, "nonce takes 1 to 255 printable characters."),
        ("a", "b", "nonce and the header Idempotency-Key differ."),
    ],
)
def test_a_bad_idempotency_key(
    client: FlaskClient, redis: Redis, key: str, nonce: str | None, message: str
) -> None:
    answer = keyed(client, key, {"nonce": nonce} if nonce else None)
    is_error(answer, 400, "pc_nonce_invalid")
    error = answer.json["error"]
    assert (error["message"], error["field"]) == (message, "Idempotency-Key")
    assert written(redis) == set()


def test_for_voipnow_an_idempotency_key_is_a_label(client: FlaskClient) -> None:
    first, second = (keyed(client, "k", token=VOIPNOW) for _ in range(2))
    assert first.json[0]["nonce"] == second.json[0]["nonce"] == "k"
    assert first.json[0]["id"] != second.json[0]["id"]
    assert "Idempotent-Replayed" not in second.headers


# Hang up all


@pytest.mark.parametrize("extension", ["@self", "210", "0003*210"])
def test_a_slash_without_an_id_hangs_up_nothing(ask: Ask, extension: str) -> None:
    path = f"/uapi/phoneCalls/@me/{extension}"
    ids = [ask("POST", SIMPLE, BODY).json[0]["id"] for _ in range(2)]
    for prefix in ("/uapi/", "/unifiedapi/"):
        slash = path.replace("/uapi/", prefix) + "/"
        for query in ({}, {"all": "false"}, {"phoneNumber": "5302040"}):
            answer = ask("DELETE", slash, **query)
            is_error(answer, 400, "pc_phonecall_invalid")
            assert "all=true" in answer.json["error"]["message"]
            assert answer.json["error"]["field"] == "all"
    is_error(ask("DELETE", path, all="false"), 400, "pc_phonecall_invalid")
    is_error(ask("DELETE", slash, all="perhaps"), 400, "pc_phonecall_invalid")
    is_error(ask("DELETE", f"{path}/{ids[0]}/", all="true"), 400, "pc_phonecall_invalid")
    assert ask("GET", path).json["totalResults"] == 2
    (ended,) = ask("DELETE", f"{path}/{ids[0]}/").json
    assert (ended["id"], ended["state"]) == (ids[0], "ended")
    assert [each["id"] for each in ask("DELETE", slash, all="true").json] == [ids[1]]


def test_without_the_slash_all_calls_are_hung_up(ask: Ask) -> None:
    for path, more in ((LIST, {}), (LIST, {"all": "true"}), (f"{LIST}/", {"token": VOIPNOW})):
        made = ask("POST", SIMPLE, BODY).json[0]["id"]
        assert [each["id"] for each in ask("DELETE", path, **more).json] == [made]
