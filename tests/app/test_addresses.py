"""The addresses that a client's URL may lead to, when it is registered."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from app.services import create_services
from app.settings import Settings, parse_networks
from app.web import addresses
from app.web.addresses import refusal
from app.web.look_ups import LookUps
from app.web.services import EXTENSION
from tests.app.test_phone_calls import SIMPLE, is_error
from tests.conftest import eventually
from tests.receiver import LIMIT
from tests.silence import silent

EVENTS = "/uapi/extensions/@me/210/phoneCallEvents/1"
LOOPBACK = parse_networks("127.0.0.0/8,::1/128")

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str]]]:
    """The addresses of names, in place of a name server's."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if not str(host).endswith(".example.com"):
            return real(host, port, *args, **options)
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [row for each in known[host] for row in real(each, port, *args, **options)]

    monkeypatch.setattr(
        addresses, "_look_ups", LookUps(8, LIMIT, part=2, waits=False, remembered=30.0)
    )
    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    yield known


@pytest.mark.parametrize(
    "host",
    """
    127.0.0.1 10.1.2.3 192.168.0.9 169.254.169.254 0.0.0.0 127.1 0x7f000001 2130706433 0177.0.0.1
    [::1] [fe80::1%25eth0] [fd00::1] [::ffff:10.0.0.1] [64:ff9b::a00:1] 10.0.0.1.
    localhost LOCALHOST localhost. a.localhost localhost.localdomain ip6-loopback
    """.split(),
)
def test_private_addresses_are_refused_without_a_look_up(host: str) -> None:
    reason = refusal(f"https://{host}:8443/hook", (), "app")
    assert reason is not None and "RINGBACK_WEBHOOK_ALLOW" in reason


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]", "134744072"])
def test_public_addresses_are_taken(host: str) -> None:
    assert refusal(f"http://{host}/", (), "app") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1"])
def test_what_the_operator_allows_is_taken(host: str) -> None:
    assert refusal(f"http://{host}/", LOOPBACK, "app") is None
    assert refusal("http://10.0.0.1/", LOOPBACK, "app") is not None


def test_a_name_is_refused_if_all_of_its_addresses_are_private(
    names: dict[str, list[str]],
) -> None:
    names["inside.example.com"] = ["10.0.0.1", "fd00::1"]
    names["both.example.com"] = ["10.0.0.1", "8.8.8.8"]
    reason = refusal("http://inside.example.com/", (), "app")
    assert reason is not None and "inside.example.com" in reason and "10.0.0.1" not in reason
    assert refusal("http://inside.example.com/", parse_networks("10.0.0.0/8"), "app") is None
    assert refusal("http://both.example.com/", (), "app") is None
    assert refusal("http://nobody-knows.example.com/", (), "app") is None


def test_a_silent_name_server_holds_up_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as silence:
        look_ups = LookUps(8, 0.05, part=2, waits=False, resolve=silence.resolve)
        monkeypatch.setattr(addresses, "_look_ups", look_ups)
        for path in ("", "again"):
            assert refusal(f"http://slow.example.com/{path}", (), "app") is None
        assert silence.asked() == ["slow"]
        # Look-ups that hang leave room for no more of the same app, and its requests do not wait.
        for number in range(9):
            assert refusal(f"http://slow{number}.example.com/", (), "app") is None
        assert len(silence.asked()) == 3
        assert refusal("http://other.example.com/", (), "another") is None
        assert len(silence.asked()) == 4
        eventually(lambda: silence.refuse() or not look_ups._running)


def test_a_call_event_to_a_private_address_is_refused(ask: Ask) -> None:
    url = "http://192.168.0.9/hook"
    answer = ask("POST", EVENTS, {"url": url})
    is_error(answer, 400, "pce_url_invalid")
    error = answer.json["error"]
    assert (error["field"], error["value"]) == ("/url", url) and "192.168.0.9" in error["reason"]
    event = ask("POST", EVENTS, {"url": "https://8.8.8.8/hook"}).json
    is_error(ask("PUT", f"{EVENTS}/{event['id']}", {"url": url}), 400, "pce_url_invalid")
    assert ask("PUT", f"{EVENTS}/{event['id']}", {"note": "x"}).status_code == 200
    (kept,) = ask("GET", EVENTS).json["entry"]
    assert kept["url"] == "https://8.8.8.8/hook"


def test_a_status_callback_to_a_private_address_is_refused(
    ask: Ask, routes: Flask, settings: Settings
) -> None:
    view = {"source": "210", "destination": "5302040"}
    body = {"extension": "210", "phoneCallView": [view], "nonce": "n"}
    body["statusCallback"] = {"url": "http://localhost:9000/"}
    answer = ask("POST", SIMPLE, body)
    is_error(answer, 400, "pc_callback_invalid")
    assert answer.json["error"]["field"] == "/statusCallback/url"
    assert ask("GET", "/uapi/phoneCalls/@me/@self").json["entry"] == []
    allowing = replace(settings, webhook_allow="127.0.0.0/8")
    routes.extensions[EXTENSION] = {type(each): each for each in create_services(allowing)}
    assert ask("POST", SIMPLE, body).status_code == 202
