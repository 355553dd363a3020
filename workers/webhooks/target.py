"""Connections to the addresses that a client's URL may lead to (app.web.addresses), and no others.

The check tests the resolved address that the connection uses, so a name that resolves to another
address a moment later gains nothing.
"""

import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from ssl import create_default_context
from typing import Any

from app.web.addresses import Networks, address_of, is_allowed, literal
from app.web.look_ups import LookUps, Rows


class TargetRefused(OSError):
    """The host has no allowed address."""


def connect(
    host: str, port: int, timeout: float, allow: Networks, look_ups: LookUps, app: str
) -> socket.socket:
    """A TCP connection to the first address of a host that is allowed and accepts it.

    Raises TargetRefused, or another OSError. ``timeout`` is the seconds for each address.
    """
    failed: OSError = TargetRefused(f"{host} has no address that may be called")
    if (address := literal(host)) is not None:
        # No look-up of a name, so that it waits for no name server.
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        rows: Rows = ((family, (str(address),)),)
    else:
        rows = look_ups.of(host, app)
    for family, place in rows:
        if not is_allowed(address_of(place), allow):
            continue
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect((place[0], port, *place[2:]))
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

    def __init__(
        self, host: str, port: int, timeout: float, open_socket: Callable[..., socket.socket]
    ) -> None:
        """``open_socket`` is :func:`connect` without its first three arguments."""
        super().__init__(host, port, timeout=timeout)
        self._open = open_socket

    def connect(self) -> None:
        self.sock = self._open(self.host, self.port, self.timeout or 0.0)


class CheckedTlsConnection(HTTPSConnection):
    """A TLS connection to allowed addresses only. The certificate must be for the host."""

    _tls = create_default_context()

    def __init__(
        self, host: str, port: int, timeout: float, open_socket: Callable[..., socket.socket]
    ) -> None:
        """As of CheckedConnection."""
        super().__init__(host, port, timeout=timeout, context=self._tls)
        self._open = open_socket

    def connect(self) -> None:
        plain = self._open(self.host, self.port, self.timeout or 0.0)
        try:
            self.sock: Any = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
