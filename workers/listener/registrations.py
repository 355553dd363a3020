"""The registrations at one switch, as its leading listener writes them into Redis.

A new leader compares the list of the switch with what Redis has. After that only what changes is
written: phones that register, refresh, unregister, and registrations that run out.
"""

import re
from collections.abc import Sequence

import gevent
from gevent.event import Event as Flag

from app.store.registrations import Registration, Registrations
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.events import Event
from workers.runtime import Runtime

# The switch tells of registrations in these subclasses of CUSTOM. Of one that runs out the end is
# known from its begin.
BEGINS, ENDS = "sofia::register", "sofia::unregister"
EVENTS = (f"CUSTOM {BEGINS}", f"CUSTOM {ENDS}")
FILTER = ("Event-Subclass", f"/^({BEGINS}|{ENDS})$/")
# Seconds for which changes are gathered, to be written together.
_GATHER = 0.05
# Seconds between two looks for registrations that ran out without a word, and until the next
# attempt after an error.
_LOOK, _AGAIN = 60.0, 1.0
# Seconds for which the switch itself keeps a registration beyond its time.
_MARGIN = 60
_WORD = re.compile(r"[^\s@]{1,128}")
_CALL_ID = re.compile(r"\S{1,256}")


class RegistrationKeeper:
    """The keeper of the registrations at one switch."""

    def __init__(self, runtime: Runtime, link: SwitchConnection) -> None:
        """``link`` takes the command that lists the registrations."""
        self._store = Registrations(runtime.redis, runtime.keys)
        self._now = runtime.store.now
        self._link = link
        self._name = link.address.name
        self._leads = False
        # What is not written yet.
        self._begun: dict[Registration, float] = {}
        self._over: dict[Registration, None] = {}
        # Whether the whole list is to be read: events may have been missed.
        self._all = False
        self._changed = Flag()

    def begin(self) -> None:
        """Begin to lead."""
        self._leads = True
        self.look()

    def stop(self) -> None:
        """Stop leading: the next leader reads the whole list."""
        self._leads = False
        self._begun, self._over = {}, {}

    def look(self) -> None:
        """Have the whole list read, because events may have been missed."""
        self._all = True
        self._changed.set()

    def hear(self, events: Sequence[Event]) -> None:
        """Take over what a batch of events says of registrations."""
        if not self._leads:
            return
        for event in events:
            if event.name == "CUSTOM" and (found := _registration(event)) is not None:
                if event.headers.get("Event-Subclass") == BEGINS:
                    lasts = event.headers.get("expires", "")
                    seconds = int(lasts) if lasts.isascii() and lasts.isdigit() else 0
                    self._begun[found] = self._now() + seconds + _MARGIN
                    self._over.pop(found, None)
                else:
                    self._begun.pop(found, None)
                    self._over[found] = None
                self._changed.set()

    def wait(self) -> None:
        """Wait until there is something to write, or a look is due."""
        if self._changed.wait(_LOOK):
            gevent.sleep(_GATHER)

    def write(self) -> None:
        """Write what has changed. May raise an error of Redis or of the switch; then the whole list
        is read next time."""
        self._changed.clear()
        try:
            if self._all and self._link.up:
                self._compare()
            begun, over = self._begun, self._over
            self._begun, self._over = {}, {}
            self._store.write(self._name, begun, over)
            self._store.expire(self._name, self._now())
        except Exception:
            self._all = True
            gevent.spawn_later(_AGAIN, self._changed.set)
            raise

    def _compare(self) -> None:
        """Write what the switch lists, and take out what it does not. What is heard meanwhile is
        written afterwards."""
        self._all = False
        known = self._store.known(self._name)
        listed = {
            found: until
            for user, host, call_id, until in commands.registrations(self._link)
            if (found := _made(user, host, call_id)) is not None
        }
        self._store.write(self._name, listed, known - listed.keys() - self._begun.keys())


def _registration(event: Event) -> Registration | None:
    """The registration that an event is about; None for any other event."""
    headers = event.headers
    if headers.get("Event-Subclass") not in (BEGINS, ENDS):
        return None
    return _made(headers.get("from-user"), headers.get("from-host"), headers.get("call-id"))


def _made(user: object, host: object, call_id: object) -> Registration | None:
    """The registration with these parts, which a phone has chosen; None for what is no name."""
    if not (isinstance(user, str) and isinstance(host, str) and isinstance(call_id, str)):
        return None
    if not all(map(_WORD.fullmatch, (user, host))) or not _CALL_ID.fullmatch(call_id):
        return None
    return Registration(f"{user}@{host}".lower(), call_id)
