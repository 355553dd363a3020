"""What counts as one address, and what a chain of proxies says."""

import resource

import pytest

from app.settings import parse_networks
from app.web.proxies import Client, client, told_in
from workers.connections import Addresses, network, places

PROXIES = parse_networks("10.0.0.0/8,fd00::/8")


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        # One client has all addresses of such a network.
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::2", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str) -> None:
    assert network(address) == counted


def test_requests_sent_ahead_take_turns() -> None:
    addresses = Addresses(10)
    with addresses.counted("192.0.2.1"):
        first, second = addresses.pause("192.0.2.1"), addresses.pause("192.0.2.1")
        assert first < second
        # Nobody waits for another address.
        assert addresses.pause("192.0.2.2") <= first
    assert addresses.pause("192.0.2.1") <= first


def test_what_ends_counts_no_more() -> None:
    addresses = Addresses(1)
    for _ in range(2):
        with addresses.counted("192.0.2.1") as first, addresses.counted("192.0.2.1") as second:
            assert (first, second) == (True, False)
    with Addresses(0).counted("192.0.2.1") as unlimited:
        assert unlimited


def test_a_server_leaves_files_for_all_else() -> None:
    assert 0 < places() < resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize(
    ("peer", "told", "found"),
    [
        # Of no proxy, nothing is believed.
        ("192.0.2.1", {"X_FORWARDED_FOR": "1.1.1.1", "X_FORWARDED_PROTO": "https"}, "192.0.2.1"),
        ("10.0.0.1", {}, "10.0.0.1"),
        ("10.0.0.1", {"X_FORWARDED_FOR": "192.0.2.1"}, "192.0.2.1"),
        # What the client itself has written comes first.
        ("10.0.0.1", {"X_FORWARDED_FOR": "1.1.1.1, 192.0.2.1"}, "192.0.2.1"),
        ("10.0.0.1", {"X_FORWARDED_FOR": "1.1.1.1, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"),
        ("10.0.0.1", {"X_FORWARDED_FOR": "10.0.0.3, 10.0.0.2"}, "10.0.0.3"),
        ("::ffff:10.0.0.1", {"X_FORWARDED_FOR": "192.0.2.1:4711"}, "192.0.2.1"),
        ("fd00::1", {"X_FORWARDED_FOR": "[2001:db8::1]:4711"}, "2001:db8::1"),
        ("10.0.0.1", {"X_FORWARDED_FOR": "192.0.2.1, unknown"}, "10.0.0.1"),
        ("10.0.0.1", {"X_FORWARDED_FOR": "192.0.2.1, unknown, 10.0.0.2"}, "10.0.0.2"),
        ("10.0.0.1", {"FORWARDED": 'for=1.1.1.1, for="[2001:db8::1]:47"'}, "2001:db8::1"),
        ("10.0.0.1", {"FORWARDED": "for=_hidden;proto=https"}, "10.0.0.1"),
        # The proxy sets the one and hands on the other.
        ("10.0.0.1", {"X_FORWARDED_FOR": "192.0.2.1", "FORWARDED": "for=1.1.1.1"}, "192.0.2.1"),
        ("", {"X_FORWARDED_FOR": "192.0.2.1"}, ""),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(
    peer: str, told: dict[str, str], found: str
) -> None:
    headers = {f"HTTP_{name}": value for name, value in told.items()}
    assert client(peer, headers, PROXIES).address == found
    assert client(peer, headers, ()) == Client(peer)


def test_each_proxy_may_add_a_header() -> None:
    told = told_in(
        [("X-FORWARDED-FOR", "192.0.2.1"), ("HOST", "a"), ("X-Forwarded-For", "10.0.0.2")]
    )
    assert client("10.0.0.1", told, PROXIES) == Client("192.0.2.1")


@pytest.mark.parametrize(
    ("told", "scheme", "host"),
    [
        ({}, None, None),
        ({"X_FORWARDED_PROTO": "https", "X_FORWARDED_HOST": "a.example"}, "https", "a.example"),
        # The word of the proxy that the client spoke to.
        (
            {"X_FORWARDED_FOR": "192.0.2.1", "X_FORWARDED_PROTO": "https, http"},
            "http",
            None,
        ),
        (
            {"X_FORWARDED_FOR": "192.0.2.1, 10.0.0.2", "X_FORWARDED_PROTO": "ftp, https, http"},
            "https",
            None,
        ),
        ({"FORWARDED": "for=192.0.2.1;proto=https;host=a.example"}, "https", "a.example"),
        ({"X_FORWARDED_PROTO": "javascript"}, None, None),
    ],
)
def test_the_scheme_and_the_host_that_the_client_asked_for(
    told: dict[str, str], scheme: str | None, host: str | None
) -> None:
    found = client("10.0.0.1", {f"HTTP_{n}": value for n, value in told.items()}, PROXIES)
    assert (found.scheme, found.host) == (scheme, host)
