"""Steering: the leader says how many calls its switch gets (app/store/steering.py).

The leader asks the switch each second for what no event says: its sessions, its idle CPU, and
whether an operator has paused it or shuts it down by `fsctl`.
"""

import logging
import time
from collections import deque

from gevent.event import Event as Flag

from app.calls.model import Call
from app.store.pace import Limit
from app.store.steering import LASTS, PAUSED, SHUTDOWN, UNREACHABLE, WEIGHT, Steer, SteerStore
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from workers.listener.heard import Heard
from workers.listener.window import Window
from workers.runtime import Runtime

log = logging.getLogger(__name__)

# Seconds between two entries, and between two questions to the switch.
SAID_EACH = 0.5
ASKED_EACH = 1.0
# Seconds over which a new or returned switch gets its share, unless its operator says otherwise,
# and the part of it that it gets at once.
SLOW_START = 30.0
FIRST_SHARE = 0.1
# Seconds after which a switch that nobody led, or that was unreachable, has returned.
AWAY = 10.0
# The sessions of other programs are the fewest of so many samples: those of Ringback's own legs
# that are not counted yet, or no longer, come and go.
SAMPLES = 5
# Below this idle CPU (percent) a switch gets less than its share, down to the least part of it.
BUSY, LEAST_SHARE = 20.0, 0.1
# From so many legs a second on, the switch's own sessions-per-second is no limit that somebody set.
NO_RATE = 1000.0
# The calls that are remembered as set up, and seconds after which Redis is asked whether a call is
# still being set up.
REMEMBERED, DOUBTED = 5000, 2.0


class Steering:
    """What the leader says of one switch."""

    def __init__(self, runtime: Runtime, link: SwitchConnection) -> None:
        """``link`` takes the commands that ask for the switch's state."""
        self._store = runtime.store
        self._steers = SteerStore(runtime.redis, runtime.keys)
        self._link = link
        self._name = link.address.name
        self._window: Window | None = None
        # The window that the leader before has found.
        self._before: tuple[int, ...] = ()
        # The calls whose first channel came up, and that had their first progress; and of these
        # those that are to be taken out.
        self._up: dict[str, None] = {}
        self._set_up: dict[str, None] = {}
        self._out: list[str] = []
        self._setups: dict[str, float] = {}
        self._asked = -ASKED_EACH
        self._status: commands.Status | None = None
        self._closed = ""
        self._others: deque[int] = deque(maxlen=SAMPLES)
        self._legs = 0
        self._spec: dict[str, object] = {}
        # From when on the switch counts as new (epoch seconds), and in which run.
        self._since: float | None = None
        self._core = ""
        self._until = 0.0
        # Set when there is something to say or to ask at once.
        self.soon = Flag()

    def begin(self) -> None:
        """Begin to lead, and go on with what the leader before said. May raise an error of
        Redis."""
        before, self._spec = self._steers.get(self._name), dict(self._steers.spec(self._name))
        self._since, self._core, self._until, self._before = None, "", 0.0, ()
        if before is not None:
            self._since, self._core, self._until = before.since, before.core, before.until
            if before.window is not None and self._store.now() - before.until < AWAY:
                self._before = (before.window,)
        self._status, self._asked = None, -ASKED_EACH
        self._window, self._setups = None, {}
        self._others.clear()

    def look(self, *, hears: bool, core: str, limit: Limit | None) -> None:
        """Ask the switch, if it is time, and say what is so now.

        ``hears`` says whether the switch's events come, ``core`` is its run, and ``limit`` is its
        limit, None while that is not known. Before that nothing is said: a switch without limits
        gets no call.
        """
        at = time.monotonic()
        if hears and at - self._asked >= ASKED_EACH:
            self._asked = at
            self._ask()
        if limit is None if hears else self._since is None:
            return
        if limit is not None:
            self._find_window(limit)
        self._say(hears, core)

    def heard(self, call: Call, one: Heard, at: float) -> None:
        """Take over what an event says of a call that is being set up, at ``at`` (epoch
        seconds)."""
        window = self._window
        if window is None or call.id in self._set_up or call.claimed is None:
            return
        told = one.report
        if told is None or told.created is None:
            # The end of an originate: without a channel, the switch refused it.
            if one.error is not None:
                self._is_set_up(call.id)
            return
        if call.id not in self._up:
            _remember(self._up, call.id)
            window.came_up(call.claimed, at - call.claimed)
        moments = [t for t in (told.ringing, told.early_media, told.answered) if t is not None]
        if moments:
            window.progressed(call.claimed, min(moments) - told.created)
        if moments or told.ended is not None:
            self._is_set_up(call.id)

    def take_out(self) -> None:
        """Make room for other calls, as far as calls were set up. May raise an error of Redis."""
        if self._out:
            out, self._out = self._out, []
            self._steers.set_up(self._name, out)

    def _is_set_up(self, call_id: str) -> None:
        _remember(self._set_up, call_id)
        self._out.append(call_id)

    def _find_window(self, limit: Limit) -> None:
        """Look at the window, if nobody has set how many legs a second the switch gets."""
        is_set = self._link.address.legs_per_second is not None
        if is_set or 0 < limit.legs_per_second < NO_RATE:
            self._window = None
            return
        if self._window is None:
            self._window = Window(*self._before)
            return
        at, status = self._store.now(), self._status
        doubtful = [i for i, claimed in self._setups.items() if at - claimed > DOUBTED]
        past = set(self._steers.past_setup(doubtful)) if doubtful else set()
        self._steers.set_up(self._name, past)
        left = {i: claimed for i, claimed in self._setups.items() if i not in past}
        self._window.look(
            at,
            setups=len(left),
            waiting=[at - claimed for i, claimed in left.items() if i not in self._up],
            idle=status.idle if status is not None else None,
            least_idle=status.least_idle if status is not None else None,
        )

    def refused(self) -> None:
        """The switch refused a call: ask at once whether it is paused."""
        self._asked = -ASKED_EACH
        self.soon.set()

    def stop(self) -> None:
        """Say that nobody leads any more."""
        self._write(Steer(until=self._store.now(), since=self._since or 0.0, core=self._core))

    def _ask(self) -> None:
        try:
            status = commands.status(self._link)
            # No event says that it is paused.
            if commands.is_shut_down(self._link):
                closed = SHUTDOWN
            else:
                closed = PAUSED if not status.ready or commands.is_paused(self._link) else ""
        except EventSocketError as error:
            # The connection itself tells that the switch is down.
            log.debug("switch %s: %s", self._name, error)
            return
        self._status = status
        if status.sessions is not None:
            self._others.append(max(0, status.sessions - self._legs))
        if closed != self._closed:
            if closed:
                log.warning("switch %s gets no new calls: %s", self._name, closed)
            else:
                log.warning("switch %s gets new calls again", self._name)
            self._closed = closed

    def _say(self, hears: bool, core: str) -> None:
        at = self._store.now()
        if hears:
            if self._since is None or core != self._core or at - self._until > AWAY:
                log.info("switch %s is new or back: it gets its share by and by", self._name)
                self._since = at
            self._core, self._until = core, at + LASTS
        elif self._since is None:
            self._since = at
        weight = _number(self._spec.get("weight"), WEIGHT)
        weight *= self._share(at - self._since)
        gateways, tags = self._spec.get("gateways"), self._spec.get("tags")
        status = self._status
        others = min(self._others, default=None)
        self._write(
            Steer(
                until=at + LASTS,
                weight=round(weight, 3),
                window=None if self._window is None else int(self._window.size),
                room=self._room(others),
                closed=self._closed if hears else UNREACHABLE,
                tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
                gateways=tuple(map(str, gateways)) if isinstance(gateways, list) else None,
                since=self._since,
                core=self._core,
                idle=status.idle if status is not None else None,
                sessions_of_others=others,
            )
        )

    def _share(self, age: float) -> float:
        """The part of its share that the switch gets at this age, in seconds."""
        whole = _number(self._spec.get("slow_start"), SLOW_START)
        part = 1.0 if age >= whole else max(FIRST_SHARE, age / whole)
        idle = self._status.idle if self._status is not None else None
        if idle is not None and idle < BUSY:
            part *= max(LEAST_SHARE, idle / BUSY)
        return part

    def _room(self, others: int | None) -> int | None:
        """How many legs fit beside the sessions of others; None if the switch has no limit."""
        status = self._status
        most = self._link.address.max_legs
        if others is None or status is None or status.max_sessions is None or most == 0:
            return None
        return max(0, max(status.max_sessions, most or 0) - others)

    def _write(self, steer: Steer) -> None:
        told = self._steers.tell(self._name, steer)
        self._legs, self._spec = told.legs, dict(told.spec)
        self._setups = dict(told.setups)


def _remember(ids: dict[str, None], call_id: str) -> None:
    ids[call_id] = None
    if len(ids) > REMEMBERED:
        del ids[next(iter(ids))]


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default
