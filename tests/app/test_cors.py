"""Web pages of other origins."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.settings import Settings
from tests.app.conftest import USER
from tests.app.test_phone_calls import LIST, SIMPLE

Allowing = Callable[[str | None], FlaskClient]

TOKEN = {"Authorization": f"Bearer {USER}"}
CRM, APP, OTHER = "https://crm.example.com", "http://127.0.0.1:3000", "https://crm.example.com.evil"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture
def allowing(settings: Settings, redis: Redis) -> Allowing:
    """The API with the setting."""

    def allow(text: str | None) -> FlaskClient:
        return create_app(replace(settings, cors_origins=text)).test_client()

    return allow


def cors(answer: Any) -> dict[str, str]:
    named = {name.lower(): value for name, value in answer.headers}
    return {
        name.removeprefix("access-control-"): value
        for name, value in named.items()
        if name.startswith("access-control-")
    }


@pytest.mark.parametrize("text", [None, f"{CRM}, {APP}"])
def test_a_page_of_another_origin_may_nothing(allowing: Allowing, text: str | None) -> None:
    client = allowing(text)
    for origin in (OTHER, "null", CRM.upper(), f"{CRM}:443", *(() if text else (CRM,))):
        headers = {"Origin": origin}
        assert cors(client.get(LIST, headers={**TOKEN, **headers})) == {}
        assert cors(client.options(SIMPLE, headers={**headers, **PREFLIGHT})) == {}


def test_a_page_of_an_allowed_origin(allowing: Allowing) -> None:
    client = allowing(f"{CRM}, {APP}")
    for origin in (CRM, APP):
        preflight = client.options(SIMPLE, headers={"Origin": origin, **PREFLIGHT})
        assert preflight.status_code == 200
        found = cors(preflight)
        assert found["allow-origin"] == origin and "POST" in found["allow-methods"]
        assert {"Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"} <= set(
            found["allow-headers"].split(", ")
        )
        assert set(found) == {"allow-origin", "allow-methods", "allow-headers", "max-age"}
        for path, status in ((LIST, 200), (f"{LIST}?count=0", 400), ("/uapi/nothing", 404)):
            answer = client.get(path, headers={**TOKEN, "Origin": origin})
            assert answer.status_code == status and "Origin" in answer.vary
            read = cors(answer)
            assert read["allow-origin"] == origin
            exposed = set(read["expose-headers"].split(", "))
            assert {"X-Request-Id", "Location", "Retry-After", "ETag"} <= exposed
            assert {"RateLimit", "RateLimit-Policy"} <= exposed
            assert "allow-credentials" not in read
    # An answer that a proxy keeps for others says that it depends on the origin.
    assert "Origin" in client.get(LIST, headers=TOKEN).vary


def test_any_origin(allowing: Allowing) -> None:
    client = allowing("*")
    answer = client.get(LIST, headers={**TOKEN, "Origin": OTHER})
    assert cors(answer)["allow-origin"] == "*" and "allow-credentials" not in cors(answer)


def test_the_rest_stays_closed(allowing: Allowing) -> None:
    client = allowing("*")
    for path in ("/console/api/session", "/oauth/token", "/metrics", "/healthz"):
        assert cors(client.get(path, headers={"Origin": CRM})) == {}
        assert cors(client.options(path, headers={"Origin": CRM, **PREFLIGHT})) == {}
