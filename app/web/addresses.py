"""The addresses that a client's URL may lead to.

An app that names a URL chooses what this machine connects to. The rule keeps it out of the
operator's own network. The API judges the URL when it is registered. The process that connects
judges the address of the connection (workers.webhooks.target), whatever the name was before.
"""

import socket
import threading
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from app.web.urls import port

Networks = Sequence[IPv4Network | IPv6Network]
_Address = IPv4Address | IPv6Address

# IPv6 addresses that a translator turns into the IPv4 address in their last 32 bits (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")
# Names of this machine (RFC 6761, section 6.3, and /etc/hosts of distributions).
_LOCAL = frozenset("localhost localhost.localdomain ip6-localhost ip6-loopback".split())
_LOOPBACK = IPv4Address("127.0.0.1"), IPv6Address("::1")
# Seconds that a look-up of a name may take, and for which its result is remembered. The most
# look-ups at a time: each has a thread for as long as the name server takes.
_LOOK_UP = 1.0
_REMEMBERED = 30.0
_MOST_REMEMBERED = 1000
_look_ups = threading.BoundedSemaphore(4)
_known: dict[str, tuple[float, tuple[_Address, ...]]] = {}


def is_allowed(address: _Address, allow: Networks) -> bool:
    """Whether an address is a public unicast address, or in an allowed network."""
    if any(address.version == network.version and address in network for network in allow):
        return True
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _TRANSLATED:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_allowed(inner, allow)
        if address.is_site_local or address.teredo is not None:
            return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
    )


def refusal(url: str, allow: Networks) -> str | None:
    """Why a URL (app.web.urls.is_callable) may not be registered; None if it may.

    A name is looked up for _LOOK_UP seconds at most. A name that no server resolves in that time
    may be registered: the process that connects judges it again.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    addresses: Iterable[_Address]
    if host in _LOCAL or host.endswith(".localhost"):
        addresses = _LOOPBACK
    elif (literal := _literal(host)) is not None:
        addresses = (literal,)
    else:
        addresses = _looked_up(host, port(parts))
        if not addresses:
            return None
    if any(is_allowed(address, allow) for address in addresses):
        return None
    return (
        f"url leads to {host}, which has no public address. The networks of "
        "RINGBACK_WEBHOOK_ALLOW may be called too."
    )


def _literal(host: str) -> _Address | None:
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


def _looked_up(host: str, number: int) -> tuple[_Address, ...]:
    """The addresses of a name; none if the look-up fails, takes too long, or has no room."""
    now = time.monotonic()
    until, known = _known.get(host, (0.0, ()))
    if until > now:
        return known
    if not _look_ups.acquire(blocking=False):
        return ()
    found: list[_Address] = []
    done = threading.Event()

    def look() -> None:
        try:
            rows = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
            # Cut off the zone of a link-local address.
            found.extend(ip_address(str(row[4][0]).partition("%")[0]) for row in rows)
        except (OSError, ValueError):
            # No such name, or none that a name server may be asked for.
            pass
        finally:
            _look_ups.release()
            done.set()

    threading.Thread(target=look, name="look-up", daemon=True).start()
    done.wait(_LOOK_UP)
    if len(_known) >= _MOST_REMEMBERED:
        _known.clear()
    # A slow name server holds up one request, not each.
    _known[host] = now + _REMEMBERED, tuple(found)
    return tuple(found)
