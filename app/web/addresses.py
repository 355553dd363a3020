"""The addresses that a client's URL may lead to.

An app that names a URL chooses what this machine connects to. The rule keeps it out of the
operator's own network. The API judges the URL when it is registered. The process that connects
judges the address of the connection (workers.webhooks.target), whatever the name was before.
"""

import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

from app.web.look_ups import LookUps, NoAddress
from app.web.special_addresses import embedded, is_special

Networks = Sequence[IPv4Network | IPv6Network]
_Address = IPv4Address | IPv6Address

# Names of this machine (RFC 6761, section 6.3, and /etc/hosts of distributions).
_LOCAL = frozenset("localhost localhost.localdomain ip6-localhost ip6-loopback".split())
_LOOPBACK = IPv4Address("127.0.0.1"), IPv6Address("::1")
# The look-ups for registrations, each of a second at most. gevent has ten threads for look-ups, and
# the process needs some of them to reach Redis by name.
_look_ups = LookUps(8, 1.0, part=2, waits=False, remembered=30.0)


def is_allowed(address: _Address, allow: Networks) -> bool:
    """Whether an address is a public unicast address, or in an allowed network."""
    if any(address.version == network.version and address in network for network in allow):
        return True
    if isinstance(address, IPv6Address) and (inner := embedded(address)) is not None:
        return is_allowed(inner, allow)
    # The library may know of networks that were registered later.
    return address.is_global and not address.is_reserved and not is_special(address)


def refusal(url: str, allow: Networks, app: str) -> str | None:
    """Why an app may not register a URL (app.web.urls.is_callable); None if it may.

    A name is looked up for a second at most. A name that no server resolves in that time may be
    registered: the process that connects judges it again.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    addresses: Iterable[_Address]
    if host in _LOCAL or host.endswith(".localhost"):
        addresses = _LOOPBACK
    elif (address := literal(host)) is not None:
        addresses = (address,)
    else:
        try:
            addresses = [address_of(place) for _, place in _look_ups.of(host, app)]
        except NoAddress:
            return None
    if any(is_allowed(address, allow) for address in addresses):
        return None
    return (
        f"url leads to {host}, which has no public address. The networks of "
        "RINGBACK_WEBHOOK_ALLOW may be called too."
    )


def literal(host: str) -> _Address | None:
    """The address that a host is written as, also in the forms that a connection takes for one:
    ``127.1``, ``0x7f000001``."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def address_of(place: Any) -> _Address:
    """The address of a row of a look-up, without the zone of a link-local one."""
    return ip_address(str(place[0]).partition("%")[0])
