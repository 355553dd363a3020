"""Suspended organizations and disabled apps: who is refused what, by every process, at once."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app.accounts.guard import barred
from app.accounts.model import Suspension
from app.accounts.store import AccountStore, read_accounts
from app.accounts.suspension import Suspensions
from app.calls.model import evolve
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.writes import Note
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, USER, VOIPNOW, Ask
from tests.app.test_audit import bridged
from tests.app.test_console import HEADER, SESSION
from tests.app.test_phone_calls import BODY, SIMPLE, is_error
from tests.conftest import eventually

WHO = Suspension("ada@host", 1_796_040_000.0, "unpaid")
NOTE = Note("event", "test")


@pytest.fixture
def suspensions(redis: Redis) -> Suspensions:
    return Suspensions(redis, Keys())


def place(ask: Ask, token: str) -> Any:
    return ask("POST", "/uapi/phoneCalls/12/simple", BODY, token=token)


def test_a_suspended_organization_may_read_and_hang_up(
    ask: Ask, suspensions: Suspensions, store: CallStore
) -> None:
    (talking,), (waiting,) = (place(ask, ORGANIZATION).json for _ in range(2))
    call = store.get(talking["id"])
    assert call is not None
    store.change(call, bridged, NOTE)
    assert suspensions.add("organization:0003", WHO)
    # Of the apps, and of the administrator, who acts for the organization.
    for token in (USER, ORGANIZATION, ADMINISTRATOR):
        body = {**BODY, "extension": "0003*210"}
        eventually(
            lambda t=token, b=body: (  # type: ignore[misc]
                ask("POST", "/uapi/phoneCalls/12/simple", b, token=t).status_code == 403
            )
        )
        answer = ask("POST", "/uapi/phoneCalls/12/simple", body, token=token)
        is_error(answer, 403, "organization_suspended")
        path = f"/uapi/phoneCalls/12/@self/{talking['id']}"
        answer = ask("PUT", path, {"action": "OnHold", "phoneCallViewId": "00"}, token=token)
        is_error(answer, 403, "organization_suspended")
        assert ask("GET", path, token=token).json["totalResults"] == 1
    path = f"/uapi/phoneCalls/12/210/{waiting['id']}"
    assert ask("DELETE", path, token=ORGANIZATION).json[0]["state"] == "ended"
    assert suspensions.remove("organization:0003")
    eventually(lambda: place(ask, ORGANIZATION).status_code == 202)
    assert not suspensions.remove("organization:0003")


def test_a_program_for_voipnow_gets_400(ask: Ask, suspensions: Suspensions) -> None:
    """It takes 403 for a token that has expired."""
    (created,) = ask("POST", SIMPLE, BODY, token=VOIPNOW).json
    suspensions.add("organization:0003", WHO)
    eventually(lambda: ask("POST", SIMPLE, BODY, token=VOIPNOW).status_code == 400)
    answer = ask("POST", SIMPLE, BODY, token=VOIPNOW)
    is_error(answer, 400, "extension_invalid")
    assert answer.json["error"]["reason"] == "organization_suspended"
    body = {"action": "OnHold", "phoneCallViewId": "00"}
    path = f"/uapi/phoneCalls/@me/@self/{created['id']}"
    answer = ask("PUT", path, body, token=VOIPNOW)
    is_error(answer, 400, "pc_action_invalid")
    assert answer.json["error"]["reason"] == "organization_suspended"


def test_a_disabled_app_may_do_nothing(
    ask: Ask, client: FlaskClient, suspensions: Suspensions
) -> None:
    (created,) = ask("POST", SIMPLE, BODY).json
    form = {
        "grant_type": "client_credentials",
        "client_id": "demo-user",
        "client_secret": "demo-user-secret",
    }
    issued = client.post("/oauth/token", data=form).json["access_token"]
    client.post(SESSION, json={"token": USER}, headers=HEADER)
    suspensions.add("app:demo-user", WHO)
    eventually(lambda: ask("GET", "/uapi/cdr").status_code == 403)
    path = f"/uapi/phoneCalls/@me/@self/{created['id']}"
    for token in (USER, issued):
        for method in ("GET", "DELETE", "PUT"):
            is_error(ask(method, path, {}, token=token), 403, "app_disabled")
        is_error(ask("POST", SIMPLE, BODY, token=token), 403, "app_disabled")
        is_error(ask("GET", "/uapi/phoneCalls/@me/events", token=token), 403, "app_disabled")
    is_error(client.get("/console/api/calls"), 403, "app_disabled")
    assert client.get(SESSION).json == {"app": None}
    is_error(client.post(SESSION, json={"token": USER}, headers=HEADER), 403, "app_disabled")
    refused = client.post("/oauth/token", data=form)
    assert (refused.status_code, refused.json["error"]) == (400, "unauthorized_client")
    # A wrong secret learns nothing.
    wrong = client.post("/oauth/token", data={**form, "client_secret": "x" * 16})
    assert (wrong.status_code, wrong.json["error"]) == (401, "invalid_client")
    # Another app goes on.
    assert ask("GET", path.replace("@me", "12"), token=ORGANIZATION).status_code == 200
    suspensions.remove("app:demo-user")
    eventually(lambda: ask("GET", path, token=issued).status_code == 200)


def test_what_is_about_to_be_dialled_is_barred(
    redis: Redis, suspensions: Suspensions, store: CallStore, ask: Ask
) -> None:
    call = store.get(ask("POST", SIMPLE, BODY).json[0]["id"])
    assert call is not None
    accounts = AccountStore(redis, Keys())
    assert barred(accounts.current(), call) is None
    for name, text in (
        ("organization:0003", "The organization 0003 is suspended."),
        ("app:demo-user", "The app demo-user is disabled."),
    ):
        suspensions.add(name, WHO)
        found = barred(accounts.current(), call)
        assert found is not None
        assert (found[0], found[1].entry, found[1].reason) == (None, "suspended", text)
        suspensions.remove(name)
    assert barred(accounts.current(), call) is None
    suspensions.add("organization:0003", WHO)
    suspensions.add("app:demo-user", WHO)
    other = evolve(call, extension="0004*100", app="demo-organization")
    assert accounts.current().barred(other.extension, other.app) is None


def test_every_process_sees_it_and_keeps_it(redis: Redis, suspensions: Suspensions) -> None:
    keys = Keys()
    redis.flushall()
    one, two = AccountStore(redis, keys), AccountStore(redis, keys)
    one.replace(read_accounts(None), demo=True)
    assert not one.current().suspended
    suspensions.add("organization:0003", WHO)
    suspensions.add("app:demo-user", WHO)
    known = {"organization:0003": WHO, "app:demo-user": WHO}
    assert one.current().suspended == two.current().suspended == known
    # Other accounts come in.
    two.replace(read_accounts(None), demo=True)
    assert one.current().suspended == two.current().suspended == known
    # Redis comes back empty. Either process writes it again.
    for first, second in ((one, two), (two, one)):
        redis.flushall()
        assert first.current().suspended == known
        assert second.current().suspended == known
        assert AccountStore(redis, keys).current().suspended == known
    # An API that starts at that moment writes accounts without it.
    redis.flushall()
    AccountStore(redis, keys).replace(read_accounts(None), demo=True)
    assert one.current().suspended == known
    assert AccountStore(redis, keys).current().suspended == known
    # What was taken back does not come back.
    suspensions.remove("app:demo-user")
    suspensions.remove("organization:0003")
    assert one.current().suspended == two.current().suspended == {}
    redis.flushall()
    assert one.current().suspended == AccountStore(redis, keys).current().suspended == {}


def test_a_fresh_look_sees_a_change_at_once(redis: Redis, suspensions: Suspensions) -> None:
    """A worker has one before it refuses what an API has just accepted."""
    store = AccountStore(redis, Keys(), max_age=3600)
    store.replace(read_accounts(None), demo=True)
    suspensions.add("organization:0003", WHO)
    assert store.latest().is_suspended("0003")
    suspensions.remove("organization:0003")
    assert store.latest().is_suspended("0003")
    assert not store.latest(fresh=True).is_suspended("0003")


def test_a_redis_without_accounts_gets_no_version(redis: Redis, suspensions: Suspensions) -> None:
    """Or a process would take it for one with accounts."""
    redis.flushall()
    suspensions.add("app:demo-user", WHO)
    assert not redis.exists(Keys().accounts)
    store = AccountStore(redis, Keys())
    store.replace(read_accounts(None), demo=True)
    assert store.current().is_disabled("demo-user")
