"""The switches behind a DNS name: its addresses, or the targets of its SRV records."""

import hashlib
import re
import socket
from collections.abc import Iterator

from freeswitch.address import DEFAULT_PORT, SRV, SwitchAddress

# Seconds that DNS may take to answer.
LIMIT = 3.0
# The longest name of a switch, and the digits of a digest at the end of a name that is cut.
_LONGEST, _DIGEST = 32, 8


def look_up(source: SwitchAddress) -> list[SwitchAddress]:
    """The switches behind the host of an address with ``found_by``, sorted by name.

    Raises OSError where DNS does not answer or knows none.
    """
    find = _targets if source.found_by == SRV else _addresses
    found = {name: source.at(name, host, port) for name, host, port in find(source)}
    return [found[name] for name in sorted(found)]


def member_name(source: str, rest: str) -> str:
    """The name of a switch: that of its source and what tells it apart there, or the second alone
    where it begins with the first. It is the same wherever and whenever it is made.

    >>> member_name("fs", "10.1.2.3"), member_name("freeswitch", "freeswitch-0")
    ('fs-10-1-2-3', 'freeswitch-0')
    """
    rest = re.sub(r"[^A-Za-z0-9_]+", "-", rest).strip("-")
    name = rest if rest.startswith(f"{source}-") else f"{source}-{rest}"
    if len(name) > _LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
        name = f"{name[: _LONGEST - _DIGEST - 1]}-{digest}"
    return name


def _addresses(source: SwitchAddress) -> Iterator[tuple[str, str, int]]:
    """One switch for each address. A host with addresses of both kinds would be two switches, so
    IPv6 counts only where there is no IPv4."""
    found = socket.getaddrinfo(source.host, source.port, type=socket.SOCK_STREAM)
    hosts = {str(place[0]): family for family, *_, place in found}
    four = [host for host, family in hosts.items() if family == socket.AF_INET]
    for host in four or hosts:
        yield member_name(source.name, host), host, source.port


def _targets(source: SwitchAddress) -> Iterator[tuple[str, str, int]]:
    # Imported here: only SRV records need it.
    from dns.exception import DNSException
    from dns.resolver import resolve

    try:
        answer = resolve(source.host, "SRV", search=True, lifetime=LIMIT)
    except DNSException as error:
        raise OSError(f"no SRV records of {source.host}: {error}") from error
    # `_esl._tcp.freeswitch.default.svc.cluster.local` is of the hosts of the name behind `_tcp`.
    domain = re.sub(r"^(_[^.]*\.)+", "", answer.qname.to_text(omit_final_dot=True))
    for record in answer:
        host = record.target.to_text(omit_final_dot=True)
        rest = host.removesuffix(f".{domain}")
        port = "" if record.port == DEFAULT_PORT else f"-{record.port}"
        yield member_name(source.name, rest + port), host, record.port
