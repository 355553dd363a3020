"""The switches behind a DNS name."""

import socket
from collections.abc import Iterator
from threading import Thread

import dns.message
import dns.resolver
import dns.rrset
import pytest

from freeswitch.address import SwitchAddress
from freeswitch.sources import look_up, member_name

NAME = "_esl._tcp.freeswitch.default.svc.cluster.local."
TARGETS = (
    *("0 0 8021 freeswitch-1.freeswitch.default.svc.cluster.local.",),
    *("0 0 8021 freeswitch-0.freeswitch.default.svc.cluster.local.",),
    *("0 0 8022 fs.example.com.",),
)


def answer(server: socket.socket) -> None:
    while True:
        data, client = server.recvfrom(4096)
        if not data:
            return
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        if query.question[0].name.to_text() == NAME:
            response.answer.append(dns.rrset.from_text(NAME, 5, "IN", "SRV", *TARGETS))
        server.sendto(response.to_wire(), client)


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        place = server.getsockname()
        thread = Thread(target=answer, args=(server,))
        thread.start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [place[0]], place[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        yield
        server.sendto(b"", place)
        thread.join()


def source(url: str, name: str = "freeswitch") -> SwitchAddress:
    return SwitchAddress.parse(f"{name}={url}", "secret")


def test_the_targets_of_srv_records(name_server: None) -> None:
    found = look_up(source(f"srv+esls://{NAME[:-1]}?ca=/ca.pem"))
    assert [(each.name, each.host, each.port) for each in found] == [
        ("freeswitch-0", "freeswitch-0.freeswitch.default.svc.cluster.local", 8021),
        ("freeswitch-1", "freeswitch-1.freeswitch.default.svc.cluster.local", 8021),
        ("freeswitch-fs-example-com-8022", "fs.example.com", 8022),
    ]
    assert {(each.password, each.found_by) for each in found} == {("secret", None)}
    # The certificate is that of the target, unless the URL says another.
    assert found[2].tls is not None and found[2].tls.name == "fs.example.com"
    (named, *_) = look_up(source(f"srv+esls://{NAME[:-1]}?name=fleet"))
    assert named.tls is not None and named.tls.name == "fleet"
    with pytest.raises(OSError, match="no SRV records of other"):
        look_up(source("srv+esl://other"))


def test_the_addresses_of_a_host() -> None:
    (found,) = look_up(source("dns+esls://localhost:9000", "fs"))
    assert (found.name, found.host, found.port) == ("fs-127-0-0-1", "127.0.0.1", 9000)
    assert found.tls is not None and found.tls.name == "localhost"
    with pytest.raises(OSError):
        look_up(source("dns+esl://nowhere.invalid"))


@pytest.mark.parametrize(
    ("rest", "name"),
    [
        ("10.1.2.3", "fs-10-1-2-3"),
        ("fd00::5", "fs-fd00-5"),
        ("fs-0", "fs-0"),
        ("a" * 29, f"fs-{'a' * 29}"),
        ("a" * 30, "fs-aaaaaaaaaaaaaaaaaaaa-78c858fc"),
    ],
)
def test_the_name_of_a_switch_is_stable(rest: str, name: str) -> None:
    assert member_name("fs", rest) == name and len(name) <= 32
