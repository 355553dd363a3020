"""Connections to the addresses that a client's URL may lead to (app.web.addresses), and no others.

The check tests the resolved address that the connection uses, so a name that resolves to another
address a moment later gains nothing.
"""

import socket
from http.client import HTTPConnection, HTTPSConnection
from ipaddress import ip_address
from ssl import create_default_context
from typing import Any

from app.web.addresses import Networks, is_allowed


class TargetRefused(OSError):
    """The host has no allowed address."""


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
