"""Look-ups of names, with a share for each app.

The system's look-up holds a thread for as long as a name server is silent, and nothing ends it
sooner. So a look-up goes on in the background when nobody waits for it any more, and counts until
the system is done with it. An app whose name servers are silent uses up its own share.

Threads and locks are gevent's if the process has patched them.
"""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# The family and the address of each row, in the order in which to try them.
Rows = tuple[tuple[socket.AddressFamily, Any], ...]

# Seconds for which a name that no server has resolved fails at once.
FAILED_FOR = 30.0
_MOST_REMEMBERED = 1000


def share(free: int, part: int = 4) -> int:
    """The most that one app may have under way of a thing while ``free`` more are possible: one
    ``part`` of them, and always one.

    The more apps take their share, the less is left for each, and a newcomer still finds some.
    """
    return max(1, free // part)


class NoAddress(OSError):
    """The name has no address, or no server has told one in time."""


class LookUps:
    """The look-ups of one process."""

    def __init__(
        self,
        most: int,
        limit: float,
        *,
        part: int = 4,
        waits: bool = True,
        remembered: float = 0.0,
        resolve: Callable[..., Any] | None = None,
    ) -> None:
        """``most`` look-ups go on at a time, and of one app a ``part`` of those that are free. A
        caller waits ``limit`` seconds at most; without ``waits`` it does so for an answer alone,
        and not for its turn. Addresses that were found are ``remembered`` for so many seconds.
        ``resolve`` looks up in place of ``socket.getaddrinfo``."""
        self._most = most
        self._limit = limit
        self._part = part
        self._waits = waits
        self._remembered = remembered
        self._resolve = resolve
        self._changed = threading.Condition()
        self._running: dict[str, _LookUp] = {}
        self._of_app: Counter[str] = Counter()
        # Until when (monotonic) which addresses are known of a name; no addresses after a failure.
        self._known: dict[str, tuple[float, Rows]] = {}

    def of(self, host: str, app: str) -> Rows:
        """The addresses of a name, looked up in the share of an app. Raises NoAddress."""
        end = time.monotonic() + self._limit
        look: _LookUp | None = None
        with self._changed:
            while True:
                now = time.monotonic()
                if look is None:
                    until, rows = self._known.get(host, (0.0, ()))
                    if until > now:
                        return _checked(host, rows)
                    look = self._running.get(host)
                    if look is None and self._has_room(app):
                        look = self._start(host, app)
                if look is not None and look.done:
                    return _checked(host, look.rows)
                if now >= end or (look is None and not self._waits):
                    break
                self._changed.wait(end - now)
            if look is None:
                raise NoAddress(f"too many other names of app {app} are being looked up")
            # Others need not wait for it, until the name server answers after all.
            self._know(host, FAILED_FOR, ())
        raise NoAddress(f"no name server has told the address of {host} in {self._limit:g} s")

    def _has_room(self, app: str) -> bool:
        free = self._most - len(self._running)
        return free > 0 and self._of_app[app] < share(free, self._part)

    def _start(self, host: str, app: str) -> "_LookUp":
        look = self._running[host] = _LookUp(app)
        self._of_app[app] += 1
        threading.Thread(target=self._look, args=(host, look), name="look-up", daemon=True).start()
        return look

    def _look(self, host: str, look: "_LookUp") -> None:
        try:
            resolve = self._resolve or socket.getaddrinfo
            found = resolve(host, None, type=socket.SOCK_STREAM)
            look.rows = tuple((family, place) for family, _, _, _, place in found)
        except (OSError, ValueError):
            # No such name, or none that a name server may be asked for.
            pass
        finally:
            with self._changed:
                look.done = True
                del self._running[host]
                self._of_app[look.app] -= 1
                if not self._of_app[look.app]:
                    del self._of_app[look.app]
                self._know(host, self._remembered if look.rows else FAILED_FOR, look.rows)
                self._changed.notify_all()

    def _know(self, host: str, seconds: float, rows: Rows) -> None:
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[host] = time.monotonic() + seconds, rows


@dataclass(slots=True, eq=False)
class _LookUp:
    """A look-up under way, and what it has found when it is done."""

    app: str
    rows: Rows = ()
    done: bool = False


def _checked(host: str, rows: Rows) -> Rows:
    if not rows:
        raise NoAddress(f"no name server has an address of {host}")
    return rows
