"""Connections that a client opens, and then keeps busy: what three parts have in common."""

import contextlib
import http.client
import select
import socket
import threading
import time

from bench.abuse.harness import Stack

# As many as took every place of an API, when there was no limit for one address.
COUNT = 1_010
# To open some thousand connections a second costs both sides CPU. What counts is that a new client
# is answered.
BOUND = 10.0
LIMITS = {"longest until a new client is answered, s": 1.0}
# The address of the new client, which is neither the hostile nor the quiet one's.
_NEW_CLIENT = "127.0.0.77"
# The bytes that a connection which reads nothing takes.
_WINDOW = 4_096


def hold(
    stack: Stack, stop: threading.Event, text: bytes, *, then: bytes = b""
) -> dict[str, object]:
    """Keep COUNT connections that have each sent ``text``, send them ``then`` again and again, and
    open those anew that the server closes. Returns the figures."""
    held: list[socket.socket] = []
    watching = threading.Thread(target=_watch, args=(stack, stop, found := []))
    watching.start()
    opened = 0
    while not stop.is_set():
        held = [each for each in held if _is_open(each, then)]
        missing = COUNT - len(held)
        for _ in range(missing):
            with contextlib.suppress(OSError):
                held.append(_opened(stack, text))
                opened += 1
            # Over a second, since each connection is also looked at and sent to once a second.
            stop.wait(1.0 / COUNT)
        stop.wait(1.0 - missing / COUNT)
    watching.join()
    for each in held:
        each.close()
    return {
        "connections opened": opened,
        "new clients": len(found),
        "longest until a new client is answered, s": max(found, default=0.0),
    }


def _opened(stack: Stack, text: bytes) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
    connection.settimeout(30.0)
    connection.connect(stack.address)
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        connection.send(text)
    return connection


def _is_open(connection: socket.socket, then: bytes) -> bool:
    """Send more, if there is more to send, and look whether the server has closed it."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    with contextlib.suppress(OSError):
        connection.send(then)
    if not poll.poll(0):
        return True
    connection.close()
    return False


def _watch(stack: Stack, stop: threading.Event, found: list[float]) -> None:
    """Note how long each new client waits for its answer."""
    while not stop.wait(0.1):
        begun = time.monotonic()
        connection = http.client.HTTPConnection(
            *stack.address, timeout=30.0, source_address=(_NEW_CLIENT, 0)
        )
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/healthz")
                answered = connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                answered = False
        found.append(time.monotonic() - begun if answered else 30.0)
