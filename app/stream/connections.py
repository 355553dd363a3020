"""The connections of streams: whether a client is still there, though it never says a word."""

import socket
from contextlib import suppress

# Seconds without a word after which the system asks a client whether it is there, between two such
# questions, how many it asks, and for how long it sends again what is not acknowledged.
_IDLE, _INTERVAL, _PROBES, _UNHEARD = 5, 3, 3, 20


def watch(connection: socket.socket) -> None:
    """Have the system end the connection soon after its other end is gone without a word."""
    options = {"TCP_KEEPIDLE": _IDLE, "TCP_KEEPINTVL": _INTERVAL, "TCP_KEEPCNT": _PROBES}
    options["TCP_USER_TIMEOUT"] = _UNHEARD * 1000
    # Not every system has all of them, and a socket of Unix has none.
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_gone(connection: socket.socket) -> bool:
    """Whether the client has closed the connection, or the system has given it up."""
    # Another handle: nothing may wait for the first one but the greenlet that sends.
    try:
        with connection.dup() as other:
            other.setblocking(False)
            return other.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def cut(connection: socket.socket) -> None:
    """End the connection, though sending to it may be blocked."""
    # Another handle: on the first one gevent would raise an error in the greenlet that sends, and
    # gunicorn would log it.
    with suppress(OSError), connection.dup() as other:
        other.shutdown(socket.SHUT_RDWR)
