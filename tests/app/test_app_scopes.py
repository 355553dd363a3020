"""What an app is let do: scopes, tokens with dates, and tokens that are revoked."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.accounts.model import token_sha256
from app.accounts.scopes import ALL, DEFAULT, AppScope
from app.accounts.store import AccountStore, read_accounts
from app.console.charts import SPANS
from app.openapi.operations import OPERATIONS, scope_of
from app.settings import Settings, SettingsError
from app.store.calls import CallStore
from app.store.keys import Keys
from app.stream import services
from app.web import needs
from tests.app.test_phone_calls import BODY, LIST, SIMPLE, is_error
from tests.conftest import eventually

OFFICE = """
[[organizations]]
id = "3"
number = "0003"
name = "Office"
caller_ids = ["*"]

[[users]]
id = "12"
organization = "0003"

[[extensions]]
number = "0003*210"
type = "phone_terminal"
owner = "12"
dial_string = "user/210"

[[routes]]
prefix = ""
gateways = ["pstn"]
"""
TOKEN = "a-token-that-is-long-enough"
SECRET = "a-secret-that-is-long-enough"

Serve = Callable[..., FlaskClient]


def app_row(level: str = "user", **fields: str) -> str:
    account = {"user": 'user = "12"', "organization": 'organization = "0003"'}.get(level, "")
    words = {"token": f'"{TOKEN}"', "client_secret": f'"{SECRET}"', **fields}
    lines = "\n".join(f"{name} = {value}" for name, value in words.items() if value)
    return f'[[apps]]\nid = "crm"\nlevel = "{level}"\n{account}\n{lines}\n'


@pytest.fixture
def serve(settings: Settings, redis: Redis, accounts_file: Path) -> Serve:
    def _serve(row: str) -> FlaskClient:
        accounts_file.write_text(OFFICE + row)
        quick = replace(settings, accounts=accounts_file, action_timeout=0.05)
        return create_app(quick).test_client()

    return _serve


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def scopes(*named: AppScope) -> str:
    return "[" + ", ".join(f'"{scope}"' for scope in named) + "]"


# Routes

EVENTS = "/uapi/extensions/@me/0003*210/phoneCallEvents"
# A request of each scope that an app of a user may have.
REQUESTS: dict[AppScope, list[tuple[str, str, Any]]] = {
    AppScope.CALLS_PLACE: [
        ("POST", SIMPLE, BODY),
        ("POST", "/uapi/phoneCalls/@me/callback", BODY),
        ("POST", "/uapi/phoneCalls/@me/conferenceInvite", BODY),
    ],
    AppScope.CALLS_READ: [
        ("GET", LIST, None),
        ("GET", f"{LIST}/0123456789abcdef0123", None),
        ("GET", "/uapi/extensions/@me/0003*210/presence", None),
    ],
    AppScope.CALLS_ACT: [
        ("PUT", LIST, {"action": "OnHold", "phoneCallViewId": "00"}),
        ("PUT", f"{LIST}/0123456789abcdef0123", {"action": "OnHold", "phoneCallViewId": "00"}),
        ("DELETE", LIST, None),
        ("DELETE", f"{LIST}/0123456789abcdef0123", None),
    ],
    AppScope.EVENTS: [
        ("GET", EVENTS, None),
        ("POST", EVENTS, {"type": 2, "url": "https://example.com", "method": 1}),
        ("DELETE", EVENTS, None),
        ("PUT", f"{EVENTS}/2/1", {"status": "0"}),
        ("GET", "/uapi/phoneCalls/@me/events", None),
    ],
    AppScope.CDR_READ: [("GET", "/uapi/cdr", None), ("GET", "/uapi/cdr/@me", None)],
}


KINDS = "<any(simple, callback, conferenceInvite):kind>"


def test_every_route_says_which_scope_it_needs(routes: Flask) -> None:
    needed = {}
    for rule in routes.url_map.iter_rules():
        # A route that says nothing raises here.
        scope = needs.scope_of(routes.view_functions[rule.endpoint])
        for method in rule.methods or ():
            needed[method.lower(), re.sub(r"<(?!any)[^>]+>", "{}", rule.rule)] = scope
    for operation in OPERATIONS:
        path = re.sub(r"\{\w+\}", "{}", operation.path)
        path = re.sub(r"/(simple|callback|conferenceInvite)$", f"/{KINDS}", path)
        assert needed[operation.method, path] is scope_of(operation), operation.path
    open_to_all = {rule for (_, rule), scope in needed.items() if scope is None}
    assert not {rule for rule in open_to_all if rule.startswith("/uapi/phoneCalls")}
    assert {rule for rule in open_to_all if rule.startswith("/console/api")} == {
        "/console/api/session"
    }


@pytest.mark.parametrize("scope", REQUESTS)
def test_a_request_needs_its_scope(serve: Serve, redis: Redis, scope: AppScope) -> None:
    others = [each for each in DEFAULT if each is not scope]
    for compatibility, status, code in (
        ("default", 403, "scope_insufficient"),
        ("voipnow", 400, None),
    ):
        row = app_row(scopes=scopes(*others), compatibility=f'"{compatibility}"')
        client = serve(row)
        redis.delete(*redis.keys("rq:*"), *redis.keys("ringback:call*"), "nothing")
        for method, path, body in REQUESTS[scope]:
            for base in ("", "/unifiedapi"):
                where = path.replace("/uapi", base) if base else path
                answer = client.open(where, method=method, json=body, headers=bearer())
                assert answer.status_code == status, (method, where, answer.json)
                error = answer.json["error"]
                if code:
                    is_error(answer, status, code)
                    assert f'scope="{scope}"' in answer.headers["WWW-Authenticate"]
                else:
                    assert error["reason"] == "scope_insufficient"
                    assert error["code"] in ("pc_action_invalid", "request_invalid")
                assert error["scope"] == scope
        assert redis.keys("rq:*") == redis.keys("ringback:call*") == []


@pytest.mark.parametrize("scope", REQUESTS)
def test_one_scope_is_enough_for_its_requests(serve: Serve, scope: AppScope) -> None:
    client = serve(app_row(scopes=scopes(scope)))
    for of, requests in REQUESTS.items():
        for method, path, body in requests:
            if path.endswith("/events"):
                continue
            answer = client.open(path, method=method, json=body, headers=bearer())
            assert (answer.status_code == 403) == (of is not scope), (method, path, answer.json)


def test_a_status_callback_needs_the_scope_for_events(serve: Serve) -> None:
    """It tells what the stream tells."""
    asked = {**BODY, "statusCallback": {"url": "https://crm.example.com"}}
    for named, status in (((AppScope.EVENTS,), 202), ((), 403)):
        client = serve(app_row(scopes=scopes(AppScope.CALLS_PLACE, *named)))
        answer = client.post(SIMPLE, json=asked, headers=bearer())
        assert answer.status_code == status, answer.json
    assert answer.json["error"]["code"] == "scope_insufficient"


def test_an_app_has_the_scopes_of_its_level(accounts_file: Path) -> None:
    for level, granted in (("user", DEFAULT), ("organization", DEFAULT), ("administrator", ALL)):
        accounts_file.write_text(OFFICE + app_row(level))
        assert read_accounts(accounts_file).apps["crm"].granted == granted


def test_to_hang_up_a_whole_call_needs_the_scope_to_supervise(serve: Serve, redis: Redis) -> None:
    placing = (AppScope.CALLS_PLACE, AppScope.CALLS_READ, AppScope.CALLS_ACT)
    client = serve(app_row(scopes=scopes(*placing)))
    view = {"source": ["15550100"], "destination": ["15550101"]}
    body = {"extension": "210", "phoneCallView": [view]}
    (entry,) = client.post(SIMPLE, json=body, headers=bearer()).json
    path = f"{LIST}/{entry['id']}"
    is_error(client.delete(path, headers=bearer()), 403, "scope_insufficient")
    is_error(client.delete(LIST, headers=bearer()), 403, "scope_insufficient")
    call = CallStore(redis, Keys()).get(entry["id"])
    assert call is not None and call.hangup_requested is None
    AccountStore(redis, Keys()).replace(
        replace(
            read := AccountStore(redis, Keys()).current(),
            tokens={
                digest: replace(app, scopes=(*placing, AppScope.CALLS_SUPERVISE))
                for digest, app in read.tokens.items()
            },
            apps={
                name: replace(app, scopes=(*placing, AppScope.CALLS_SUPERVISE))
                for name, app in read.apps.items()
            },
        )
    )
    eventually(lambda: client.delete(path, headers=bearer()).status_code == 200)


# OAuth


def asked(client: FlaskClient, path: str = "/oauth/token", **form: Any) -> Any:
    given = {"grant_type": "client_credentials", "client_id": "crm", "client_secret": SECRET}
    return client.post(path, data={**given, **form})


def test_a_token_has_the_scopes_that_were_asked_for(serve: Serve) -> None:
    client = serve(app_row())
    answer = asked(client, scope="calls:read events")
    assert answer.json["scope"] == "calls:read events"
    token = bearer(answer.json["access_token"])
    assert client.get(LIST, headers=token).status_code == 200
    assert client.get(EVENTS, headers=token).status_code == 200
    is_error(client.post(SIMPLE, json=BODY, headers=token), 403, "scope_insufficient")
    is_error(client.get("/uapi/cdr", headers=token), 403, "scope_insufficient")
    # Without one it has all that the app has.
    whole = bearer(asked(client).json["access_token"])
    assert client.post(SIMPLE, json=BODY, headers=whole).status_code == 202


@pytest.mark.parametrize("scope", ["calls", "admin", "calls:read calls:write", "CALLS:READ", "é"])
def test_a_scope_that_the_app_lacks_is_refused(serve: Serve, scope: str) -> None:
    answer = asked(serve(app_row()), scope=scope)
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_scope")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_token_loses_the_scopes_that_its_app_loses(
    serve: Serve, redis: Redis, accounts_file: Path
) -> None:
    client = serve(app_row())
    token = bearer(asked(client, scope="calls:read events").json["access_token"])
    accounts_file.write_text(OFFICE + app_row(scopes=scopes(AppScope.EVENTS)))
    AccountStore(redis, Keys()).replace(read_accounts(accounts_file))
    eventually(lambda: client.get(LIST, headers=token).status_code == 403)
    assert client.get(EVENTS, headers=token).status_code == 200


def test_a_refresh_keeps_the_scopes_or_narrows_them(serve: Serve) -> None:
    client = serve(app_row())
    first = asked(client, scope="calls:read events offline_access").json
    assert first["scope"] == "calls:read events offline_access"

    def refresh(token: str, **form: str) -> Any:
        return asked(client, grant_type="refresh_token", refresh_token=token, **form)

    wider = refresh(first["refresh_token"], scope="calls:read cdr:read")
    assert (wider.status_code, wider.json["error"]) == (400, "invalid_scope")
    second = refresh(first["refresh_token"], scope="events").json
    assert second["scope"] == "events offline_access"
    token = bearer(second["access_token"])
    assert client.get(EVENTS, headers=token).status_code == 200
    is_error(client.get(LIST, headers=token), 403, "scope_insufficient")
    third = bearer(refresh(second["refresh_token"]).json["access_token"])
    assert client.get(LIST, headers=third).status_code == 200
    is_error(client.post(SIMPLE, json=BODY, headers=third), 403, "scope_insufficient")


def status(client: FlaskClient, token: str) -> int:
    return client.get(LIST, headers=bearer(token)).status_code


def test_a_second_use_of_a_refresh_token_ends_its_family(serve: Serve) -> None:
    client = serve(app_row())
    other = asked(client, scope="offline_access").json
    pairs = [asked(client, scope="offline_access").json]
    for _ in range(3):
        token = pairs[-1]["refresh_token"]
        pairs.append(asked(client, grant_type="refresh_token", refresh_token=token).json)
    again = asked(client, grant_type="refresh_token", refresh_token=pairs[1]["refresh_token"])
    assert (again.status_code, again.json["error"]) == (400, "invalid_grant")
    for pair in pairs:
        assert status(client, pair["access_token"]) == 401
        token = pair["refresh_token"]
        refused = asked(client, grant_type="refresh_token", refresh_token=token)
        assert refused.json["error"] == "invalid_grant"
    # Another request for tokens is another family.
    assert status(client, other["access_token"]) == 200
    token = other["refresh_token"]
    assert asked(client, grant_type="refresh_token", refresh_token=token).status_code == 200


def test_a_revoked_token_counts_in_no_process(serve: Serve, settings: Settings) -> None:
    client = serve(app_row())
    another = serve(app_row())
    given = asked(client, scope="offline_access").json
    second = asked(client, scope="offline_access").json
    tokens = [given["access_token"], second["access_token"]]
    assert [status(each, token) for each in (client, another) for token in tokens] == [200] * 4
    assert asked(client, "/oauth/revoke", token=given["access_token"]).status_code == 200
    assert status(client, given["access_token"]) == 401
    begun = datetime.now(UTC)
    eventually(lambda: status(another, given["access_token"]) == 401)
    assert datetime.now(UTC) - begun < timedelta(seconds=1)
    # Its refresh token goes on. With that, all that came of the request end.
    token = given["refresh_token"]
    third = asked(client, grant_type="refresh_token", refresh_token=token).json
    assert status(client, third["access_token"]) == 200
    assert asked(client, "/oauth/revoke", token=third["refresh_token"]).json == {}
    assert status(client, third["access_token"]) == 401
    token = third["refresh_token"]
    refused = asked(client, grant_type="refresh_token", refresh_token=token)
    assert refused.json["error"] == "invalid_grant"
    assert status(client, second["access_token"]) == 200


def test_what_a_revocation_needs(serve: Serve) -> None:
    row = app_row()
    other = row.replace('"crm"', '"other"').replace(TOKEN, "another-" + TOKEN)
    client = serve(row + other.replace(SECRET, "another-" + SECRET))
    given = asked(client, scope="offline_access").json
    for form, status_code, error in (
        ({"client_secret": "wrong-secret-of-the-app"}, 401, "invalid_client"),
        ({"token": ""}, 400, "invalid_request"),
    ):
        answer = asked(client, "/oauth/revoke", **{"token": given["access_token"], **form})
        assert (answer.status_code, answer.json["error"]) == (status_code, error)
    assert asked(client, "/oauth/revoke", token="unknown").status_code == 200
    # Another client revokes nothing.
    for token in (given["access_token"], given["refresh_token"]):
        form = {"client_id": "other", "client_secret": "another-" + SECRET, "token": token}
        assert asked(client, "/oauth/revoke", **form).status_code == 200
    assert status(client, given["access_token"]) == 200


def test_two_ways_of_authentication_are_refused(serve: Serve) -> None:
    client = serve(app_row())
    basic = f"Basic {base64.b64encode(f'crm:{SECRET}'.encode()).decode()}"
    grant = {"grant_type": "client_credentials"}

    def answer(**form: str) -> Any:
        headers = {"Authorization": basic}
        return client.post("/oauth/token", data={**grant, **form}, headers=headers)

    assert answer().status_code == 200
    assert answer(client_id="crm").status_code == 200
    for form in ({"client_id": "crm", "client_secret": SECRET}, {"client_id": "other"}):
        refused = answer(**form)
        assert (refused.status_code, refused.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("name", ["grant_type", "client_id", "client_secret", "scope", "x"])
def test_a_parameter_that_comes_twice_is_refused(serve: Serve, name: str) -> None:
    form = {
        "grant_type": ["client_credentials"],
        "client_id": ["crm"],
        "client_secret": [SECRET],
        "scope": ["events"],
        "x": ["1"],
    }
    client = serve(app_row())
    assert client.post("/oauth/token", data=form).status_code == 200
    refused = client.post("/oauth/token", data={**form, name: form[name] * 2})
    assert (refused.status_code, refused.json["error"]) == (400, "invalid_request")
    assert name in refused.json["error_description"]


def test_a_401_says_how_to_authenticate(serve: Serve) -> None:
    client = serve(app_row())
    assert client.get(LIST).headers["WWW-Authenticate"] == 'Bearer realm="ringback"'
    wrong = client.get(LIST, headers=bearer("an-unknown-token-of-nobody"))
    assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]
    refused = asked(client, client_secret="wrong-secret-of-the-app")
    assert refused.headers["WWW-Authenticate"].startswith("Basic ")


# Dates


def day(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds")


def test_two_tokens_and_secrets_at_a_time(serve: Serve) -> None:
    names = ("old", "new", "late")
    tokens = {name: f"the-{name}-token-of-the-app" for name in names}
    secrets = {name: f"the-{name}-secret-of-the-app" for name in names}

    def rows(of: str, known: dict[str, str]) -> str:
        old = f'{{{of}_sha256 = "{token_sha256(known["old"])}", expires = {day(1)}}}'
        new = f'{{{of} = "{known["new"]}", not_before = {day(-1)}, expires = {day(9)}}}'
        return f"[{old}, {new}]"

    client = serve(
        app_row(
            token="",
            client_secret="",
            tokens=rows("token", tokens),
            client_secrets=rows("client_secret", secrets),
        )
    )
    for name in ("old", "new"):
        assert status(client, tokens[name]) == 200
        issued = asked(client, client_secret=secrets[name])
        assert status(client, issued.json["access_token"]) == 200
    assert status(client, tokens["late"]) == 401


@pytest.mark.parametrize(
    ("dates", "counts"),
    [
        ("", True),
        (f", expires = {day(1)}", True),
        (f", expires = {day(-1)}", False),
        (f", not_before = {day(1)}", False),
        (f", not_before = {day(-2)}, expires = {day(-1)}", False),
        (", expires = 2020-01-01", False),
        (", not_before = 2020-01-01", True),
        (", not_before = 2020-01-01T00:00:00, expires = 2999-01-01T00:00:00Z", True),
    ],
    # The times differ between the processes that collect the tests.
    ids=range(8),
)
def test_the_dates_of_a_token(serve: Serve, dates: str, counts: bool) -> None:
    client = serve(
        app_row(
            token="",
            client_secret="",
            tokens=f'[{{token = "{TOKEN}"{dates}}}]',
            client_secrets=f'[{{client_secret = "{SECRET}"{dates}}}]',
        )
    )
    assert status(client, TOKEN) == (200 if counts else 401)
    assert asked(client).status_code == (200 if counts else 401)
    login = client.post(
        "/console/api/session", json={"token": TOKEN}, headers={"X-Ringback-Console": "1"}
    )
    assert login.status_code == (201 if counts else 401)


def test_tokens_end_with_the_date_of_the_app_or_the_secret(
    serve: Serve, redis: Redis, accounts_file: Path
) -> None:
    client = serve(app_row(expires=day(1)))
    access = asked(client).json["access_token"]
    assert status(client, TOKEN) == status(client, access) == 200
    for changed in (
        app_row(expires=day(-1)),
        app_row(
            client_secret="",
            client_secrets=f'[{{client_secret = "{SECRET}", expires = {day(-1)}}}]',
        ),
    ):
        accounts_file.write_text(OFFICE + app_row())
        AccountStore(redis, Keys()).replace(read_accounts(accounts_file))
        eventually(lambda: status(client, access) == 200)
        accounts_file.write_text(OFFICE + changed)
        AccountStore(redis, Keys()).replace(read_accounts(accounts_file))
        eventually(lambda: status(client, access) == 401)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"token": '"a-short-token-19chr"'}, r"apps\[1\]\.token: Takes 20"),
        ({"tokens": '[{token = "short"}]'}, r"apps\[1\]\.tokens\[1\]\.token: Takes 20"),
        ({"tokens": '[{token = "demo-user-token"}]'}, r"apps\[1\]\.token: .*demo"),
        ({"tokens": f'[{{token = "{TOKEN}"}}]'}, r"apps\[1\]\.token: Is taken"),
        ({"tokens": "[{expires = 2020-01-01}]"}, r"tokens\[1\]\.token: Give either"),
        ({"tokens": f'[{{token = "{TOKEN}1", expires = 7}}]'}, r"expires: Takes a date"),
        ({"tokens": f'[{{token = "{TOKEN}1", color = 7}}]'}, r"color: Unknown"),
        (
            {"tokens": f'[{{token = "{TOKEN}1", not_before = 2020-01-02, expires = 2020-01-01}}]'},
            r"expires: Takes a time after",
        ),
        (
            {"tokens": f'[{{token = "{TOKEN}1"}}, {{token = "{TOKEN}2"}}]'},
            r"apps\[1\]\.tokens: An app has at most 2",
        ),
        (
            {
                "token": "",
                "tokens": str([{"token": f"{TOKEN}{n}"} for n in range(3)])
                .replace(":", " =")
                .replace("'token'", "token"),
            },
            r"apps\[1\]\.tokens",
        ),
        ({"scopes": '["calls:write"]'}, r"apps\[1\]\.scopes"),
        ({"scopes": "[]"}, r"apps\[1\]\.scopes"),
        ({"scopes": '["admin"]'}, r"apps\[1\]\.scopes: admin is only"),
        ({"expires": '"soon"'}, r"apps\[1\]\.expires: Takes a date"),
    ],
)
def test_what_is_wrong_is_named(accounts_file: Path, fields: dict[str, str], named: str) -> None:
    accounts_file.write_text(OFFICE + app_row(**fields))
    with pytest.raises(SettingsError, match=named):
        read_accounts(accounts_file)


def test_redis_holds_what_the_file_said(redis: Redis, accounts_file: Path) -> None:
    row = app_row(
        tokens=f'[{{token = "{TOKEN}1", not_before = 2020-01-01, expires = 2030-01-01T12:00:00Z}}]',
        client_secrets=f'[{{client_secret = "{SECRET}1", expires = 2030-01-01}}]',
        scopes='["calls:read", "events"]',
        supervise='["0003*2*"]',
        expires="2030-02-01",
        token_in_query="true",
    )
    accounts_file.write_text(OFFICE + row)
    accounts = read_accounts(accounts_file)
    AccountStore(redis, Keys()).replace(accounts)
    assert AccountStore(redis, Keys()).current() == accounts
    document = b"".join(redis.hvals("ringback:accounts:rows"))
    assert TOKEN.encode() not in document and SECRET.encode() not in document


# The token in the query


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({}, False),
        ({"compatibility": '"voipnow"'}, True),
        ({"token_in_query": "true"}, True),
        ({"compatibility": '"voipnow"', "token_in_query": "false"}, False),
    ],
)
def test_which_apps_take_a_token_in_the_query(
    serve: Serve, fields: dict[str, str], taken: bool
) -> None:
    client = serve(app_row(**fields))
    for token in (TOKEN, asked(client).json["access_token"]):
        answer = client.get(LIST, query_string={"accessRequestToken": token})
        assert answer.status_code == (200 if taken else 401)
        if not taken:
            assert "takes no token in the query" in answer.json["error"]["message"]


# The console


def test_a_session_has_the_scopes_of_its_app(serve: Serve) -> None:
    client = serve(app_row("administrator", scopes='["calls:read"]'))
    headers = {"X-Ringback-Console": "1"}
    told = client.post("/console/api/session", json={"token": TOKEN}, headers=headers)
    assert told.json["scopes"] == ["calls:read"]
    assert client.get("/console/api/calls").status_code == 200
    for method, path, body in (
        ("POST", "calls/simple", {**BODY, "extension": "0003*210"}),
        ("PUT", "calls/0123456789abcdef0123", {"action": "OnHold", "phoneCallViewId": "00"}),
        ("DELETE", "calls/0123456789abcdef0123", None),
        ("GET", f"charts/{next(iter(SPANS))}", None),
        ("GET", "queues", None),
        ("GET", "switches", None),
        ("POST", "switches/main/pause", {}),
    ):
        answer = client.open(f"/console/api/{path}", method=method, json=body, headers=headers)
        is_error(answer, 403, "scope_insufficient")


def test_a_session_ends_with_its_token_alone(
    serve: Serve, redis: Redis, accounts_file: Path
) -> None:
    client = serve(app_row())
    headers = {"X-Ringback-Console": "1"}
    client.post("/console/api/session", json={"token": TOKEN}, headers=headers)

    def change(row: str) -> None:
        accounts_file.write_text(OFFICE + row)
        AccountStore(redis, Keys()).replace(read_accounts(accounts_file))

    # A second token beside it changes nothing; its own end ends it.
    change(app_row(token="", tokens=f'[{{token = "{TOKEN}"}}, {{token = "{TOKEN}2"}}]'))
    eventually(lambda: status(client, f"{TOKEN}2") == 200)
    assert client.get("/console/api/calls").status_code == 200
    change(app_row(token=f'"{TOKEN}2"'))
    eventually(lambda: client.get("/console/api/calls").status_code == 401)


# The stream


def test_a_stream_ends_with_its_token(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its next sign of life."""
    monkeypatch.setattr(services, "_HEARTBEAT", 3600.0)
    client = serve(app_row())
    token = asked(client).json["access_token"]
    answer = client.get("/uapi/phoneCalls/@me/events", headers=bearer(token))
    chunks = iter(answer.iter_encoded())
    assert next(chunks).startswith(b"retry:")
    assert asked(client, "/oauth/revoke", token=token).status_code == 200
    assert b"event:" not in b"".join(chunks)
    answer.close()
