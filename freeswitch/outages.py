"""The log lines about a switch that cannot be reached."""

import logging
import time

log = logging.getLogger(__name__)

REMINDER = 60.0
"""Seconds between two lines while a switch is down."""

MOST_LINES = 10
"""The lines about a switch in REMINDER seconds, whatever the switch does. All others are DEBUG: one
that breaks each connection as soon as it is up would bring several lines a second."""

# Characters of a line.
_LONGEST = 500


class Outages:
    """The outages of one switch, as the connections of a process to that switch find them.

    The log has a line when the first connection is down, one every REMINDER seconds, and one when
    all connections are up again. Each failed attempt in between is DEBUG.
    """

    def __init__(self, switch: str) -> None:
        self._switch = switch
        self._down: set[object] = set()
        # Since when (monotonic) the switch is down; None while it is up, and at the beginning.
        self._since: float | None = None
        self._reminded = 0.0
        self._lines = 0
        self._counted_since = time.monotonic()

    def add(self, connection: object) -> None:
        """Add a connection, which is not up yet."""
        self._down.add(connection)

    def up(self, connection: object, core_uuid: str | None) -> None:
        """Note that a connection is up, to the run of the switch with this Core-UUID."""
        self._down.discard(connection)
        if self._down:
            return
        if self._since is None:
            self._tell(logging.INFO, f"is up, core {core_uuid}")
        else:
            self._tell(logging.INFO, f"is up after {self._seconds} s, core {core_uuid}")
        self._since = None

    def down(self, connection: object, reason: str | None) -> None:
        """Note that a connection has ended, or that an attempt to connect has failed."""
        self._down.add(connection)
        now = time.monotonic()
        if self._since is None:
            self._since = self._reminded = now
            self._tell(logging.WARNING, f"is down: {reason}")
        elif now - self._reminded >= REMINDER:
            self._reminded = now
            self._tell(logging.WARNING, f"has been down for {self._seconds} s: {reason}")
        else:
            self._log(logging.DEBUG, f"is down: {reason}")

    @property
    def _seconds(self) -> int:
        return round(time.monotonic() - (self._since or 0.0))

    def _tell(self, level: int, text: str) -> None:
        now = time.monotonic()
        if now - self._counted_since >= REMINDER:
            self._lines, self._counted_since = 0, now
        self._lines += 1
        self._log(level if self._lines <= MOST_LINES else logging.DEBUG, text)

    def _log(self, level: int, text: str) -> None:
        # The reason may be an answer of the switch, as long as the switch likes.
        log.log(
            level, "switch %s %s", self._switch, text[:_LONGEST], extra={"switch": self._switch}
        )
