"""The console's own small API: who may ask, from where, and what is told to whom."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app.calls.model import Call, State, evolve
from app.console import trail
from app.console.charts import Charts
from app.console.resource import detail
from app.console.sessions import LIFETIME
from app.console.views import _STATIC
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.switches import SwitchStore
from app.store.writes import Note
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, USER, VOIPNOW, Ask
from tests.app.test_cdr import refused
from tests.app.test_phone_calls import BODY, SIMPLE

HEADER = {"X-Ringback-Console": "1"}
SESSION = "/console/api/session"
COOKIE = "ringback_console"

LogIn = Callable[..., Any]


@pytest.fixture
def log_in(client: FlaskClient) -> LogIn:
    def _log_in(token: str = USER, **given: str) -> Any:
        return client.post(SESSION, json=given or {"token": token}, headers=HEADER)

    return _log_in


@pytest.fixture
def placed(ask: Ask) -> str:
    call_id: str = ask("POST", SIMPLE, BODY).json[0]["id"]
    return call_id


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json["error"]["code"]


@pytest.mark.parametrize(
    ("given", "level"),
    [
        ({"token": USER}, "user"),
        ({"token": ORGANIZATION}, "organization"),
        ({"token": ADMINISTRATOR}, "administrator"),
        ({"client_id": "demo-user", "client_secret": "demo-user-secret"}, "user"),
    ],
)
def test_log_in(log_in: LogIn, client: FlaskClient, given: dict[str, str], level: str) -> None:
    answer = log_in(**given)
    assert (answer.status_code, answer.json["level"]) == (201, level)
    assert client.get(SESSION).json == answer.json


def test_the_cookie_is_out_of_reach(log_in: LogIn, client: FlaskClient, redis: Redis) -> None:
    answer = log_in(ADMINISTRATOR)
    words = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/console", f"Max-Age={LIFETIME}"} <= set(words)
    assert "Secure" not in words
    name = words[0].partition("=")[2]
    (key,) = redis.keys("ringback:console:session:*")
    assert name not in key.decode() and ADMINISTRATOR not in (redis.get(key) or b"").decode()
    assert 0 < redis.ttl(key) <= LIFETIME
    assert ADMINISTRATOR not in answer.text


@pytest.mark.parametrize(
    "given",
    [
        {"token": "no-such-token"},
        {"client_id": "demo-user", "client_secret": "wrong"},
        {"client_id": "nobody", "client_secret": "wrong"},
        {"client_id": "demo-user", "client_secret": ""},
        {"token": {"a": 1}},
    ],
)
def test_wrong_credentials(client: FlaskClient, given: Any) -> None:
    answer = client.post(SESSION, json=given, headers=HEADER)
    assert code(answer) == (401, "access_denied")
    assert "Set-Cookie" not in answer.headers


def test_who_guesses_is_refused(log_in: LogIn) -> None:
    for _ in range(10):
        assert log_in(client_id="demo-user", client_secret="guess").status_code == 401
    answer = log_in(client_id="demo-user", client_secret="demo-user-secret")
    assert code(answer) == (429, "slow_down")


def test_nobody_who_guesses_locks_out_the_one_that_was_here_before(log_in: LogIn) -> None:
    right = {"client_id": "demo-user", "client_secret": "demo-user-secret"}
    assert log_in(**right).status_code == 201
    for _ in range(10):
        assert log_in(client_id="demo-user", client_secret="guess").status_code == 401
    assert log_in(client_id="demo-user", client_secret="guess").status_code == 429
    assert log_in(**right).status_code == 201


def test_log_out(log_in: LogIn, client: FlaskClient, redis: Redis) -> None:
    log_in()
    kept = client.get_cookie(COOKIE, path="/console")
    assert client.delete(SESSION, headers=HEADER).status_code == 200
    assert client.get(SESSION).json == {"app": None}
    assert not redis.keys("ringback:console:session:*")
    # The name alone opens nothing any more.
    assert kept is not None
    client.set_cookie(COOKIE, kept.value, path="/console")
    assert code(client.get("/console/api/calls")) == (401, "access_denied")


ASKED = [
    ("GET", "/console/api/calls"),
    ("GET", "/console/api/calls/0"),
    ("POST", "/console/api/calls/simple"),
    ("PUT", "/console/api/calls/0"),
    ("DELETE", "/console/api/calls/0"),
    ("GET", "/console/api/events"),
    ("GET", "/console/api/charts/15m"),
    ("GET", "/console/api/queues"),
    ("GET", "/console/api/switches"),
    ("POST", "/console/api/switches/main/pause"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_nothing_without_a_session(client: FlaskClient, method: str, path: str) -> None:
    headers = {**HEADER, "Authorization": f"Bearer {ADMINISTRATOR}"}
    answer = client.open(path, method=method, headers=headers, json={})
    assert code(answer) == (401, "access_denied")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**HEADER, "Origin": "https://elsewhere.example"},
        {**HEADER, "Origin": "null"},
        {**HEADER, "Sec-Fetch-Site": "cross-site"},
        {**HEADER, "Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", [path for method, path in ASKED if method != "GET"] + [SESSION])
def test_another_sites_page_changes_nothing(
    log_in: LogIn, client: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    log_in(ADMINISTRATOR)
    for method in ("POST", "PUT", "DELETE"):
        answer = client.open(path, method=method, headers=headers, json={"token": USER})
        assert answer.status_code == 405 or code(answer) == (403, "request_forbidden")
    assert client.get(SESSION).json["app"] == "demo-administrator"


def test_the_api_takes_no_cookie(log_in: LogIn, client: FlaskClient) -> None:
    log_in(ADMINISTRATOR)
    assert code(client.get("/uapi/phoneCalls/@owner/@self")) == (401, "access_denied")


@pytest.mark.parametrize(
    "path", ["/console", "/console/calls/x", "/console/charts", "/console/static/main.js"]
)
def test_pages_run_nothing_but_their_own_files(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_files_are_found_by_name_alone(client: FlaskClient) -> None:
    for name in ("../views.py", "..%2fviews.py", "nothing.js", "uplot"):
        assert client.get(f"/console/static/{name}").status_code == 404


def test_light() -> None:
    ours = [path for path in _STATIC.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in ours) < 100_000


def test_calls_as_far_as_the_app_may_see(
    ask: Ask, log_in: LogIn, client: FlaskClient, placed: str
) -> None:
    for token, inside in (
        (USER, False),
        (ORGANIZATION, False),
        (ADMINISTRATOR, True),
        (VOIPNOW, False),
    ):
        log_in(token)
        found = client.get("/console/api/calls").json
        assert [call["id"] for call in found["calls"]] == [placed] and found["total"] == 1
        shown = client.get(f"/console/api/calls/{placed}").json
        assert shown["timeline"][0]["name"] == "accepted"
        assert ("job_uuid" in shown["fields"]) is inside
        assert ("uuid" in shown["legs"][0]) is inside
        assert "request_digest" not in shown["fields"]


def test_anothers_call_is_not_there(
    store: CallStore, log_in: LogIn, client: FlaskClient, placed: str
) -> None:
    call = store.get(placed)
    assert call is not None
    other = evolve(call, id="f" * 20, user="99", extension="0009*100", legs=())
    Acceptor(store).accept([other], lambda *_: None)
    log_in(ORGANIZATION)
    assert code(client.get(f"/console/api/calls/{other.id}")) == (400, "pc_phonecall_invalid")
    assert (
        client.get(f"/console/api/calls?ids={other.id},{placed}").json["calls"][0]["id"] == placed
    )
    assert client.get("/console/api/calls?q=0009").json["calls"] == []
    answer = client.delete(f"/console/api/calls/{other.id}", headers=HEADER)
    assert code(answer) == (400, "pc_phonecall_invalid")


def ended(store: CallStore, call_id: str, at: float) -> None:
    call = store.get(call_id)
    assert call is not None

    def end(current: Call) -> Call:
        return evolve(
            current,
            state=State.ENDED,
            answered=current.accepted + 2,
            ended=at,
            hangup_cause="NORMAL_CLEARING",
            ended_by="source",
            disposition=0,
        )

    store.change(call, end, Note("event", "test"))


def test_the_page_of_a_call_says_how_the_network_ended_its_legs(
    ask: Ask, log_in: LogIn, client: FlaskClient, store: CallStore
) -> None:
    placed = ask("POST", SIMPLE, BODY).json[0]["id"]
    call = store.get(placed)
    assert call is not None
    store.change(call, refused, Note("event", "test"))
    log_in()
    leg = client.get(f"/console/api/calls/{placed}").json["legs"][-1]
    assert (leg["sip_status"], leg["sip_phrase"], leg["blocked"]) == (
        *(603, "Network Blocked"),
        "by analytics",
    )
    assert (leg["post_dial_delay"], leg["mos"], leg["marks"]) == (1.5, 4.5, ["one_way"])


def test_search(ask: Ask, log_in: LogIn, client: FlaskClient, store: CallStore) -> None:
    first = ask("POST", SIMPLE, {**BODY, "nonce": "order 4711"}).json[0]["id"]
    second = ask("POST", SIMPLE, BODY).json[0]["id"]
    ended(store, first, store.now())
    log_in(ADMINISTRATOR)

    def search(text: str) -> list[str]:
        found = client.get("/console/api/calls", query_string={"q": text}).json
        return [call["id"] for call in found["calls"]]

    assert search(first) == [first] and search(second) == [second]
    # An administrator's app finds what another app's nonce named.
    assert search("order 4711") == [first]
    assert search("0003*210") == [second, first]
    assert search("no such") == []


def test_place_hang_up_and_what_is_wrong(log_in: LogIn, client: FlaskClient) -> None:
    log_in()
    view = {"source": ["210"], "destination": ["15517"]}
    path = "/console/api/calls/simple"
    wrong = client.post(
        path,
        json={"extension": "210", "phoneCallView": [{**view, "source": ["x"]}]},
        headers=HEADER,
    )
    assert code(wrong) == (400, "pc_source_invalid")
    made = client.post(path, json={"extension": "210", "phoneCallView": [view]}, headers=HEADER)
    assert made.status_code == 202
    call_id = made.json["ids"][0]
    act = client.put(
        f"/console/api/calls/{call_id}",
        json={"action": "OnHold", "phoneCallViewId": "00"},
        headers=HEADER,
    )
    assert code(act) == (400, "pc_action_invalid")
    over = client.delete(f"/console/api/calls/{call_id}", headers=HEADER)
    assert (over.status_code, over.json["state"], over.json["endedBy"]) == (200, "ended", "api")


@pytest.mark.parametrize("token", [USER, ORGANIZATION])
def test_switches_and_queues_are_for_administrators(
    log_in: LogIn, client: FlaskClient, token: str
) -> None:
    log_in(token)
    for path in ("switches", "queues", "access", "audit"):
        assert code(client.get(f"/console/api/{path}")) == (403, "request_forbidden")
    for path in ("switches/main/pause", "organizations/0003/suspend", "apps/demo-user/disable"):
        answer = client.post(f"/console/api/{path}", json={}, headers=HEADER)
        assert code(answer) == (403, "request_forbidden")


def test_pause_and_resume_a_switch(
    log_in: LogIn, client: FlaskClient, store: CallStore, redis: Redis
) -> None:
    redis.hset(store.keys.limits, "switch:main", "30:100")
    switches = SwitchStore(redis, store.keys)
    log_in(ADMINISTRATOR)
    for verb, drain in (("pause", False), ("drain", True)):
        path = f"/console/api/switches/main/{verb}"
        answer = client.post(path, json={"why": "its disk"}, headers=HEADER)
        assert answer.json["switches"][0]["paused"]["why"] == "its disk"
        (switch,) = switches.get_many(["main"])
        assert switch.paused is not None
        assert (switch.paused.by, switch.paused.drain) == ("demo-administrator (console)", drain)
    client.post("/console/api/switches/main/resume", json={}, headers=HEADER)
    assert switches.get_many(["main"])[0].paused is None
    answer = client.post("/console/api/switches/other/pause", json={}, headers=HEADER)
    assert code(answer) == (404, "request_not_found")


def test_a_page_that_does_not_exist_has_links_to_those_that_do(client: FlaskClient) -> None:
    answer = client.get("/console/nopage")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    links = re.findall(r'<a href="([^"]+)"', answer.text)
    assert {"/console", "/docs"} < set(links)
    assert {client.get(link).status_code for link in links} == {200}
    assert client.get("/console/calls/1/2").mimetype == "text/html"
    for answer in (
        *(client.get(f"/console/{path}") for path in ("api/nopage", "static/nopage")),
        client.post("/console/nopage"),
        client.get("/nopage"),
    ):
        assert code(answer) == (404, "request_not_found")


def test_suspend_and_disable(
    log_in: LogIn, client: FlaskClient, store: CallStore, placed: str
) -> None:
    log_in(ADMINISTRATOR)

    def post(path: str, **body: Any) -> Any:
        return client.post(f"/console/api/{path}", json=body, headers=HEADER)

    found = client.get("/console/api/access").json
    assert found["organizations"] == [
        {"name": "0003", "about": "Default Organization", "barred": False}
    ]
    assert {app["name"]: app["about"] for app in found["apps"]}["demo-user"] == "user 12"
    (row,) = post("organizations/0003/suspend", why="unpaid").json["organizations"]
    assert (row["barred"], row["by"], row["why"]) == (
        True,
        "demo-administrator (console)",
        "unpaid",
    )
    call = store.get(placed)
    assert call is not None and call.state is State.QUEUED
    found = post("organizations/0003/suspend", hangUp=True).json
    assert found["ended"] == 1 and "why" not in found["organizations"][0]
    call = store.get(placed)
    assert call is not None and (call.state, call.ended_by) == (State.ENDED, "api")
    assert not post("organizations/0003/resume").json["organizations"][0]["barred"]
    apps = {app["name"]: app for app in post("apps/demo-user/disable").json["apps"]}
    assert apps["demo-user"]["barred"] and not apps["demo-voipnow"]["barred"]
    apps = {app["name"]: app for app in post("apps/demo-user/enable").json["apps"]}
    assert not apps["demo-user"]["barred"]
    for path in ("organizations/9/suspend", "apps/nobody/enable"):
        assert code(post(path)) == (404, "request_not_found")
    # That would lock out whoever does it.
    answer = post("apps/demo-administrator/disable")
    assert code(answer) == (400, "request_invalid")
    told = [
        (entry["what"], entry["on"], entry.get("data"))
        for entry in client.get("/console/api/audit?result=accepted").json["entries"]
        if entry["kind"] == "session" and "on" in entry
    ]
    assert told == [
        ("enable_app", "demo-user", None),
        ("disable_app", "demo-user", None),
        ("resume_organization", "0003", None),
        ("suspend_organization", "0003", None),
        ("hang_up", placed, None),
        ("suspend_organization", "0003", "unpaid"),
    ]
    refused = client.get("/console/api/audit?result=refused").json["entries"]
    assert {"demo-administrator", "9"} <= {entry["on"] for entry in refused}


def test_pages_of_the_audit(
    log_in: LogIn, client: FlaskClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(ADMINISTRATOR)
    redis.delete(Keys().audit)
    monkeypatch.setattr(trail, "_PAGE", 4)
    for number in range(20):
        # Some of the same millisecond, in both streams.
        key = Keys().audit_calls if number % 2 else Keys().audit
        fields: Any = {"at": str(number), "what": "x", "app": f"a{number % 3}", "result": "y"}
        redis.xadd(key, fields, id=f"{1_790_000_000_000 + number // 4}-{number // 2}")

    def pages(**query: str) -> list[list[int]]:
        found = []
        while True:
            answer = client.get("/console/api/audit", query_string=query).json
            found.append([int(entry["at"]) for entry in answer["entries"]])
            if "next" not in answer:
                return found
            query["before"] = answer["next"]

    assert [at for page in pages() for at in page] in (
        [*range(19, -1, -1)],
        # The order of two entries with the same id is that of their streams.
        [at for n in range(9, -1, -1) for at in (2 * n, 2 * n + 1)],
    )
    assert all(4 <= len(page) <= 5 for page in pages())
    some = sorted(at for page in pages(app="a1", result="refused") for at in page)
    assert some == [n for n in range(20) if n % 3 == 1]
    monkeypatch.setattr(trail, "_LOOKED_AT", 3)
    assert sorted(at for page in pages(app="a2") for at in page) == [2, 5, 8, 11, 14, 17]
    bad = client.get("/console/api/audit?before=soon")
    assert code(bad) == (400, "request_invalid")


def test_queues(log_in: LogIn, client: FlaskClient, placed: str) -> None:
    log_in(ADMINISTRATOR)
    found = client.get("/console/api/queues").json
    assert {q["name"]: q["waiting"] for q in found["queues"]} == {
        "ringback-calls": 1,
        "ringback-actions": 0,
        "ringback-requests": 0,
    }
    assert found["workers"] == []
    assert [(line["organization"], line["waiting"]) for line in found["lines"]] == [
        ("Default Organization", 1)
    ]


def test_charts_count_all_and_read_some(redis: Redis, store: CallStore, ask: Ask) -> None:
    ids = [ask("POST", SIMPLE, BODY).json[0]["id"] for _ in range(4)]
    for call_id in ids[:3]:
        ended(store, call_id, store.now())
    charts = Charts(redis, store.keys)
    found = charts.chart(store.keys.records, store.keys.calls, "15m", store.now())
    assert sum(point["calls"] for point in found["points"]) == 4
    assert (found["ended"], found["read"], found["causes"]) == (3, 3, [("NORMAL_CLEARING", 3)])
    assert (found["all"]["rate"], found["all"]["p50"]) == (1.0, 2.0)
    # Who talks was answered; who still rings says nothing yet.
    talks = store.get(ids[3])
    assert talks is not None
    at = talks.accepted + 1
    store.change(talks, lambda call: evolve(call, answered=at, bridged=at), Note("event", "test"))
    found = Charts(redis, store.keys).chart(
        store.keys.records, store.keys.calls, "24h", store.now()
    )
    assert (found["ended"], found["all"]["rate"], found["all"]["p50"]) == (3, 1.0, 2.0)
    assert max(point.get("p90", 0) for point in found["points"]) == 2.0
    charts = Charts(redis, store.keys)
    found = charts.chart(store.keys.records, store.keys.calls, "15m", store.now())
    # What it costs is the same for the next who looks: nothing.
    assert charts.chart(store.keys.records, store.keys.calls, "15m", store.now()) is found


def test_the_charts_of_a_user_are_of_his_calls(
    log_in: LogIn, client: FlaskClient, placed: str
) -> None:
    for token in (USER, ORGANIZATION, ADMINISTRATOR):
        log_in(token)
        for span in ("15m", "24h"):
            points = client.get(f"/console/api/charts/{span}").json["points"]
            assert sum(point["calls"] for point in points) == 1


def test_secrets_in_a_command_are_not_shown(store: CallStore, placed: str) -> None:
    call = store.get(placed)
    assert call is not None
    told = "originate {sip_auth_password=hunter2,pin='12 34'}[x=1]user/210"
    entry = {"id": "1-0", "at": "1.0", "kind": "command", "name": "originate", "data": told}
    (shown,) = detail(call, None, None, [entry], inside=True)["timeline"]
    assert shown["data"] == "originate {sip_auth_password=…,pin=…}[x=1]user/210"
    (shown,) = detail(call, None, None, [entry], inside=False)["timeline"]
    assert "data" not in shown


def test_events_tell_which_call_changed(
    log_in: LogIn, client: FlaskClient, ask: Ask, store: CallStore, placed: str
) -> None:
    log_in()
    headers = {"Last-Event-ID": "0-0"}
    with client.get("/console/api/events", headers=headers, buffered=False) as answer:
        assert answer.mimetype == "text/event-stream"
        text = ""
        for part in answer.response:
            text += part if isinstance(part, str) else part.decode()
            if placed in text:
                break
    assert 'event: call\ndata: {"id":"' + placed + '"}' in text
