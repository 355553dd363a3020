"""The addresses that a client's URL may lead to, and connections to only these.

An app that creates a call event chooses what this machine connects to. The check keeps it out of
the operator's own network. It tests the resolved address that the connection uses, so a name
that resolves to another address a moment later gains nothing.
"""

import socket
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPSConnection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from ssl import create_default_context
from typing import Any

Networks = Sequence[IPv4Network | IPv6Network]

# IPv6 addresses that a translator turns into the IPv4 address in their last 32 bits (RFC 6052).
_TRANSLATED = IPv6Network("64:ff9b::/96")


class TargetRefused(OSError):
    """The host has no allowed address."""


def is_allowed(address: IPv4Address | IPv6Address, allow: Networks) -> bool:
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


def connect(host: str, port: int, timeout: float, allow: Networks) -> socket.socket:
    """A TCP connection to the first address of a host that is allowed and accepts it.

    Raises TargetRefused, or another OSError. ``timeout`` is the seconds for each address.
    """
    failed: OSError = TargetRefused(f"{host} has no address that may be called")
    for family, kind, protocol, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        # Cut off the zone of a link-local address.
        if not is_allowed(ip_address(str(place[0]).partition("%")[0]), allow):
            continue
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(place)
        except OSError as error:
            connection.close()
            failed = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failed


class CheckedConnection(HTTPConnection):
    """An HTTP connection to allowed addresses only."""

    def __init__(self, host: str, port: int, timeout: float, allow: Networks) -> None:
        super().__init__(host, port, timeout=timeout)
        self._allow = allow

    def connect(self) -> None:
        self.sock = connect(self.host, self.port, self.timeout or 0.0, self._allow)


class CheckedTlsConnection(HTTPSConnection):
    """A TLS connection to allowed addresses only. The certificate must be for the host."""

    _tls = create_default_context()

    def __init__(self, host: str, port: int, timeout: float, allow: Networks) -> None:
        super().__init__(host, port, timeout=timeout, context=self._tls)
        self._allow = allow

    def connect(self) -> None:
        plain = connect(self.host, self.port, self.timeout or 0.0, self._allow)
        try:
            self.sock: Any = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
