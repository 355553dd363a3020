"""Behind a proxy, and between the pages of other sites."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.settings import Settings
from app.store.keys import Keys
from app.web.proxies import UnknownProxies
from ringback_cli.checks import Level, proxies_checks
from tests.app.conftest import ADMINISTRATOR, USER

PLACE = "/uapi/phoneCalls/@me/simple"
BODY = {
    "extension": "210",
    "phoneCallView": [{"source": ["5354353"], "destination": ["3235742879"]}],
}
AUTHORIZED = {"Authorization": f"Bearer {USER}"}
SESSION, CONSOLE = "/console/api/session", {"X-Ringback-Console": "1"}
PROXY, NOBODY = {"REMOTE_ADDR": "10.0.0.1"}, {"REMOTE_ADDR": "192.0.2.1"}

Serving = Callable[..., FlaskClient]


@pytest.fixture
def serving(redis: Redis, settings: Settings) -> Serving:
    def _serving(**changes: Any) -> FlaskClient:
        return create_app(replace(settings, **changes)).test_client()

    return _serving


def placed(client: FlaskClient, peer: dict[str, str], **headers: str) -> str:
    """The URL of a new call."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.post(PLACE, json=BODY, headers=AUTHORIZED | named, environ_base=peer)
    assert answer.status_code == 202, answer.json
    assert answer.json[0]["links"]["self"] == answer.headers["Location"]
    return answer.headers["Location"]


def test_a_link_begins_as_the_client_asked(serving: Serving) -> None:
    client = serving(proxies="10.0.0.0/8")
    told = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "calls.example.com"}
    assert placed(client, PROXY, **told).startswith("https://calls.example.com/uapi/phoneCalls/")
    # Werkzeug rejects a name with an underscore, which is a usual one among containers.
    assert placed(client, PROXY, Host="ringback_api:8080").startswith("http://ringback_api:8080/")
    # Not the words of an address that is no proxy.
    assert placed(client, NOBODY, **told).startswith("http://localhost/uapi/")
    refused = client.get("/", headers={"X-Forwarded-Proto": "https"}, environ_base=NOBODY)
    assert refused.json["error"]["doc"] == "http://localhost/errors#request_not_found"


def test_a_link_begins_with_the_public_url(serving: Serving) -> None:
    client = serving(proxies="10.0.0.0/8", public_url="https://calls.example.com")
    for peer in (PROXY, NOBODY):
        found = placed(client, peer, X_Forwarded_Host="elsewhere.example")
        assert found.startswith("https://calls.example.com/uapi/phoneCalls/")
    answer = client.get("/nowhere", headers={"Host": "calls.example.com"})
    assert answer.json["error"]["doc"].startswith("https://calls.example.com/errors#")


@pytest.mark.parametrize(
    ("changes", "headers", "is_secure"),
    [
        ({}, {}, False),
        ({}, {"X-Forwarded-Proto": "https"}, False),
        ({"proxies": "127.0.0.1"}, {}, False),
        ({"proxies": "127.0.0.1"}, {"X-Forwarded-Proto": "https"}, True),
        ({"public_url": "https://calls.example.com"}, {}, True),
        ({"public_url": "http://calls.example.com"}, {}, False),
    ],
)
def test_the_cookie_is_secure_where_tls_is_ahead(
    serving: Serving, changes: dict[str, str], headers: dict[str, str], is_secure: bool
) -> None:
    client = serving(**changes)
    asked = CONSOLE | headers
    answer = client.post(SESSION, json={"token": ADMINISTRATOR}, headers=asked)
    name, _, rest = answer.headers["Set-Cookie"].partition("=")
    value, _, attributes = rest.partition("; ")
    assert name == ("__Host-" if is_secure else "") + "ringback_console"
    assert attributes.split("; ")[2:] == (
        ["Secure", "HttpOnly", "Path=/", "SameSite=Strict"]
        if is_secure
        else ["HttpOnly", "Path=/console", "SameSite=Strict"]
    )
    held = asked | {"Cookie": f"{name}={value}"}
    bare = client.application.test_client(use_cookies=False)
    assert bare.get(SESSION, headers=held).json["app"] == "demo-administrator"
    ended = bare.delete(SESSION, headers=held).headers["Set-Cookie"]
    assert ended.startswith(f"{name}=;") and ("Secure" in ended) is is_secure
    assert bare.get(SESSION, headers=held).json["app"] is None


def test_a_proxy_that_nobody_named_is_noted(
    serving: Serving, redis: Redis, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    client, known = serving(), UnknownProxies(redis, Keys()).known
    client.get("/healthz", environ_base=NOBODY)
    assert known() is None
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            client.get("/healthz", headers={"X-Forwarded-For": "1.1.1.1"}, environ_base=NOBODY)
    assert [line.args for line in caplog.records] == [("192.0.2.1",)]
    assert known() == "192.0.2.1"
    (check,) = proxies_checks(known(), settings)
    assert check.level is Level.WARNING and check.text.startswith("192.0.2.1 ")
    (check,) = proxies_checks(known(), replace(settings, proxies="192.0.2.0/24"))
    assert check.level is Level.OK


# What a browser says of the page, and whether that passes; None: if the page's origin is allowed.
PAGES: list[tuple[dict[str, str], bool | None]] = [
    # A program that is no browser.
    ({}, True),
    ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Origin": "http://localhost"}, True),
    # The proxy of the page changes Host.
    ({"Sec-Fetch-Site": "same-origin", "Origin": "https://calls.example.com"}, True),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, False),
    ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "http://localhost:3000"}, False),
    ({"Origin": "http://localhost.evil.example"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": "http://["}, False),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "https://crm.example.com"}, None),
    ({"Origin": "https://crm.example.com"}, None),
]


@pytest.mark.parametrize("origins", [None, "https://crm.example.com"])
def test_a_page_of_another_site_places_no_call(
    serving: Serving, redis: Redis, origins: str | None
) -> None:
    client, waiting = serving(cors_origins=origins), 0
    for headers, passes in PAGES:
        allowed = passes if passes is not None else origins is not None
        for path in (PLACE, PLACE.replace("uapi", "unifiedapi")):
            # What a form can send: no header of its own, and a text.
            answer = client.post(
                f"{path}?accessRequestToken=demo-voipnow-token",
                data=json.dumps(BODY),
                content_type="text/plain",
                headers=headers,
            )
            if allowed:
                assert answer.json[0]["id"], (headers, answer.json)
                waiting += 1
            else:
                assert answer.status_code == 403, headers
                assert answer.json["error"]["code"] == "request_forbidden"
        assert redis.hlen(Keys().waiting) == waiting
        # No page gets tokens, whatever its origin.
        form = {"grant_type": "client_credentials", "client_id": "demo-user"}
        form["client_secret"] = "demo-user-secret"
        answer = client.post("/oauth/token", data=form, headers=headers)
        assert answer.status_code == (200 if passes else 403), headers


def test_the_usual_port_and_capitals_are_no_other_site(serving: Serving) -> None:
    client = serving(public_url="https://calls.example.com:443")
    for origin, host, status in (
        ("https://calls.example.com", "localhost", 202),
        ("http://localhost", "LOCALHOST:80", 202),
        ("https://localhost", "localhost:443", 202),
        ("http://localhost", "localhost:443", 403),
        ("https://calls.example.com:8443", "localhost", 403),
    ):
        headers = AUTHORIZED | {"Origin": origin, "Host": host}
        assert client.post(PLACE, json=BODY, headers=headers).status_code == status, origin


# The hosts that a server on loopback answers to; None: if it is the public URL's.
HOSTS: list[tuple[str, bool | None]] = [
    *(("localhost", True), ("127.0.0.1:8080", True), ("[::1]:8080", True)),
    *(("localhost.:8080", True), ("ringback.localhost", True), ("127.1.2.3", True)),
    *(("evil.example", False), ("evil.example:8080", False), ("192.168.1.4:8080", False)),
    *(("127.0.0.1.evil.example", False), ("localhost.evil.example", False), ("[", False)),
    ("calls.example.com", None),
]


def test_on_loopback_a_foreign_host_is_refused(serving: Serving) -> None:
    for public in (None, "https://calls.example.com"):
        client = serving(public_url=public, proxies="10.0.0.0/8")
        for host, passes in HOSTS:
            allowed = passes if passes is not None else public is not None
            for method, status in (("GET", 200), ("POST", 405)):
                answer = client.open("/openapi.json", method=method, headers={"Host": host})
                assert answer.status_code == (status if allowed else 403), (host, answer.json)
            # The proxy knows its hosts.
            asked = client.get("/healthz", headers={"Host": host}, environ_base=PROXY)
            assert asked.status_code == 200
