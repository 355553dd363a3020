"""The registry of switches in Redis: where each is, what it may get, and who said so.

Workers and listeners follow it (workers/following.py). The registry keeps no connection and checks
no address: ``app`` knows nothing of the event socket.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from redis import Redis
from redis.client import Pipeline

from app.store.keys import Keys
from app.store.switches import Pause

# Who has added what comes from RINGBACK_SWITCHES.
SETTING = "RINGBACK_SWITCHES"
# The weight of a switch, and the seconds of its slow start, if nobody says another.
WEIGHT = 100
SLOW_START = 30.0
# Seconds for which a removed switch stays paused.
_FORGOTTEN = 60


class AlreadyRegistered(Exception):
    """A switch of that name is registered."""


class NotRegistered(Exception):
    """No switch of that name is registered."""


@dataclass(frozen=True, slots=True)
class Dead:
    """An operator's word that a switch is gone for good: by whom, when (epoch seconds), and why."""

    by: str
    at: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """One switch of the registry, or a DNS name whose addresses are switches.

    ``url`` is an address as in RINGBACK_SWITCHES without name and limits. It has no password where
    ``password_file`` or ``password_env`` says where each process finds it, or where ``setting``
    does. ``legs_per_second`` and ``max_legs`` replace the switch's own limits: None keeps these, 0
    is no limit. ``gateways`` are those that it has, None for all. ``slow_start`` is in seconds.
    """

    name: str
    url: str
    password_file: str | None = None
    password_env: str | None = None
    weight: int = WEIGHT
    tags: tuple[str, ...] = ()
    legs_per_second: float | None = None
    max_legs: int | None = None
    gateways: tuple[str, ...] | None = None
    slow_start: float = SLOW_START
    # It gets no new call, and goes from the registry when its last call has ended.
    removing: bool = False
    added: float = 0.0
    by: str = ""
    dead: Dead | None = None
    # The entry of RINGBACK_SWITCHES, without its password, that this came from: each process takes
    # the password from its own RINGBACK_SWITCHES.
    setting: str | None = None
    # The registered DNS name that has this address.
    source: str | None = None

    @property
    def is_source(self) -> bool:
        """Whether this is a DNS name: no switch itself, but where switches come from."""
        return self.url.partition("://")[0].partition("+")[2] != ""

    def dumps(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def loads(cls, name: str, text: str | bytes) -> "Registered":
        """The switch of a JSON text. Fields that are not known are left out. Raises ValueError."""
        try:
            found: dict[str, Any] = json.loads(text)
            known = {field.name for field in fields(cls)}
            found = {key: value for key, value in found.items() if key in known} | {"name": name}
            if not isinstance(found["url"], str):
                raise TypeError("no url")
            for key in ("tags", "gateways"):
                if found.get(key) is not None:
                    found[key] = tuple(found[key])
            if found.get("dead") is not None:
                dead = found["dead"]
                found["dead"] = Dead(dead["by"], dead["at"], dead.get("why", ""))
            return cls(**found)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the registered switch {name} cannot be read: {error!r}") from None

    def shown(self) -> dict[str, Any]:
        """The switch for people and programs, without its password."""
        return asdict(self) | {"url": without_password(self.url)}


def has_password(url: str) -> bool:
    """Whether a password stands in a URL."""
    return ":" in url.partition("://")[2].rpartition("@")[0]


def without_password(url: str) -> str:
    """A URL whose password, if it has one, is replaced by stars."""
    scheme, slashes, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{slashes}{user}{colon}{'***' if colon else ''}{at}{place}"


class SwitchRegistry:
    """The registry in Redis. Each change has a new version, and is published on a channel."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._known: tuple[int | None, dict[str, Registered]] | None = None

    def all(self) -> dict[str, Registered]:
        """All registered switches by name, DNS names included. One that cannot be read is left
        out."""
        return self.read()[1]

    def version(self) -> int | None:
        """The number of changes so far; None where Redis has no registry, or has lost it."""
        found: Any = self._redis.get(self._keys.switches_version)
        return None if found is None else int(found)

    def latest(self) -> dict[str, Registered]:
        """All registered switches, read again only after a change. It costs one GET."""
        version = self.version()
        if self._known is None or version is None or self._known[0] != version:
            self._known = self.read()
        return self._known[1]

    def read(self) -> tuple[int | None, dict[str, Registered]]:
        """The version and all registered switches, read in one step."""
        with self._redis.pipeline() as pipe:
            pipe.get(self._keys.switches_version)
            pipe.hgetall(self._keys.switches)
            version, found = pipe.execute()
        return None if version is None else int(version), _loaded(found)

    def add(self, new: Registered) -> None:
        """Register a switch. Raises AlreadyRegistered."""

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            if new.name in found:
                raise AlreadyRegistered(new.name)
            self._admit(pipe, new)
            pipe.hdel(self._keys.switches_removed, new.name)

        self._change(work)

    def set(self, name: str, change: Callable[[Registered], Registered]) -> Registered:
        """Change a registered switch, and return it. Raises NotRegistered."""
        changed: list[Registered] = []

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            changed[:] = [change(_named(found, name))]
            if changed[0] != found[name]:
                self._put(pipe, changed[0])

        self._change(work)
        return changed[0]

    def begin_removal(self, name: str, pause: Pause) -> Registered:
        """Give a switch no new call from now on, and have it go when its last call has ended
        (:meth:`finish_removal`). Raises NotRegistered."""
        changed: list[Registered] = []

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            changed[:] = [replace(_named(found, name), removing=True)]
            self._put(pipe, changed[0])
            if not changed[0].is_source:
                self._pause(pipe, name, pause)

        self._change(work)
        return changed[0]

    def finish_removal(self, name: str) -> bool:
        """Remove a switch that is being removed and has no live call, or a DNS name that is and has
        no switch. Returns whether it is gone now.

        A claim looks at the pause and lists its call in one step. So no call comes after a count of
        none.
        """
        gone = [True]
        calls = self._keys.switch_calls(name)

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            entry = found.get(name)
            if entry is None:
                return
            gone[0] = entry.removing and not self._redis.zcard(calls)
            gone[0] = gone[0] and all(each.source != name for each in found.values())
            if gone[0]:
                self._take_out(pipe, entry)

        self._change(work, calls)
        return gone[0]

    def clean(self, name: str) -> None:
        """Take out what a listener has written of a switch that was removed, while it did not know
        of the removal yet."""

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            if name not in found:
                pipe.hdel(self._keys.limits, f"switch:{name}")
                pipe.hdel(self._keys.steer, name)
                pipe.expire(self._keys.switch(name), _FORGOTTEN)

        self._redis.transaction(
            lambda pipe: self._attempt(pipe, work, changes=False), self._keys.switches
        )
        fields: Any = self._redis.hkeys(self._keys.ejected)
        if gone := [field for field in fields if field.split(b" ")[0] == name.encode()]:
            self._redis.hdel(self._keys.ejected, *gone)

    def takes_dns(self, who: str, lasts: float) -> bool:
        """Whether this process looks up DNS names for all, for so many seconds from now on."""
        key, seconds = self._keys.switches_dns, int(lasts)
        if self._redis.set(key, who, nx=True, ex=seconds):
            return True
        found: Any = self._redis.get(key)
        return found == who.encode() and bool(self._redis.expire(key, seconds))

    def declare_dead(self, name: str, by: str, at: float, why: str = "") -> Registered:
        """Note that a switch is gone for good: it gets no new call, and its listener's leader ends
        its calls. Raises NotRegistered."""
        changed: list[Registered] = []

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            changed[:] = [replace(_named(found, name), dead=Dead(by, at, why))]
            self._put(pipe, changed[0])
            self._pause(pipe, name, Pause(by, at, why or "declared dead"))

        self._change(work)
        return changed[0]

    def revive(self, name: str) -> bool:
        """Take back that a switch is dead or is being removed. Its pause stays. Returns whether it
        was either."""
        was = [False]

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            entry = found.get(name)
            was[0] = entry is not None and (entry.dead is not None or entry.removing)
            if entry is not None and was[0]:
                self._put(pipe, replace(entry, dead=None, removing=False))

        self._change(work)
        return was[0]

    def fill(self, entries: Iterable[Registered]) -> list[str]:
        """Register what RINGBACK_SWITCHES says. Returns the names that this has changed.

        A name that is new is added, unless an operator has removed it. A name that came from the
        setting, and that nobody has changed since, follows a changed setting. All else stays as the
        registry has it.
        """
        wanted = list(entries)
        changed: list[str] = []

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            changed.clear()
            removed: Any = self._redis.hkeys(self._keys.switches_removed)
            for each in wanted:
                old = found.get(each.name)
                if old is None:
                    if each.name.encode() not in removed:
                        changed.append(each.name)
                        self._admit(pipe, each)
                elif old.setting != each.setting and old.by == SETTING:
                    changed.append(each.name)
                    kept = {"added": old.added, "removing": old.removing, "dead": old.dead}
                    self._put(pipe, replace(each, **kept))  # type: ignore[arg-type]
                elif old.setting != each.setting:
                    # Once removed, it must not come back while it stands in the setting.
                    self._put(pipe, replace(old, setting=each.setting))

        self._change(work, self._keys.switches_removed)
        return changed

    def restore(self, known: Iterable[Registered]) -> bool:
        """Write what a process knows into a Redis that came back empty. Returns whether it was."""
        restored = [False]

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            restored[0] = self.version() is None and not found
            for each in known if restored[0] else ():
                self._put(pipe, each)

        self._change(work, self._keys.switches_version)
        return restored[0]

    def follow_source(
        self, name: str, members: Iterable[Registered], vanished: Callable[[str], Pause | None]
    ) -> tuple[list[str], list[str]]:
        """Make the switches of a DNS name those that it has now. A new address is added. One that
        is gone, or all if the name itself is being removed, is drained with the pause that
        ``vanished`` gives for it; None leaves it. One that comes back in time stays.

        Returns the names of the switches that came and went.
        """
        wanted = {each.name: each for each in members}
        came: list[str] = []
        went: list[str] = []

        def work(found: dict[str, Registered], pipe: Pipeline) -> None:
            came.clear()
            went.clear()
            source = found.get(name)
            if source is None:
                return
            for each in {} if source.removing else wanted.values():
                old = found.get(each.name)
                if old is None or (old.source == name and old.removing):
                    came.append(each.name)
                    self._admit(pipe, each)
                elif old.source == name:
                    # The name's own settings may have changed.
                    new = replace(each, added=old.added, dead=old.dead)
                    if new != old:
                        self._put(pipe, new)
            for old in found.values():
                if old.source != name or old.removing:
                    continue
                if old.name in wanted and not source.removing:
                    continue
                if (pause := vanished(old.name)) is not None:
                    went.append(old.name)
                    self._put(pipe, replace(old, removing=True))
                    self._pause(pipe, old.name, pause)

        self._change(work)
        return came, went

    def _change(
        self, work: Callable[[dict[str, Registered], Pipeline], None], *watched: str
    ) -> None:
        """Read the registry, have ``work`` queue its commands, and run them unless the registry or
        a watched key has changed meanwhile: then try again."""
        self._redis.transaction(
            lambda pipe: self._attempt(pipe, work), self._keys.switches, *watched
        )

    def _attempt(
        self,
        pipe: Pipeline,
        work: Callable[[dict[str, Registered], Pipeline], None],
        *,
        changes: bool = True,
    ) -> None:
        found: Any = pipe.hgetall(self._keys.switches)
        pipe.multi()
        work(_loaded(found), pipe)
        if pipe.command_stack and changes:
            pipe.incr(self._keys.switches_version)
            pipe.publish(self._keys.switches, "")

    def _admit(self, pipe: Pipeline, entry: Registered) -> None:
        """Put a switch that was not there. One of that name may have gone a moment ago."""
        self._put(pipe, entry)
        pipe.hdel(self._keys.switch(entry.name), "paused")
        pipe.persist(self._keys.switch(entry.name))

    def _put(self, pipe: Pipeline, entry: Registered) -> None:
        pipe.hset(self._keys.switches, entry.name, entry.dumps())

    def _pause(self, pipe: Pipeline, name: str, pause: Pause) -> None:
        pipe.hset(self._keys.switch(name), "paused", json.dumps(asdict(pause)))

    def _take_out(self, pipe: Pipeline, entry: Registered) -> None:
        keys, name = self._keys, entry.name
        pipe.hdel(keys.switches, name)
        pipe.hdel(keys.limits, f"switch:{name}")
        pipe.hdel(keys.steer, name)
        # The pause stays for a while: a listener that has not read of this yet would set limits
        # again, and workers would give the switch calls.
        pipe.expire(keys.switch(name), _FORGOTTEN)
        if entry.setting is not None and entry.source is None:
            # It stands in RINGBACK_SWITCHES, perhaps, and must not come back with the next start.
            pipe.hset(keys.switches_removed, name, entry.setting)


def _loaded(found: Mapping[bytes, bytes]) -> dict[str, Registered]:
    loaded = {}
    for name, text in sorted(found.items()):
        try:
            loaded[name.decode()] = Registered.loads(name.decode(), text)
        except ValueError:
            # Another version's, or by hand. The others do not suffer for it.
            continue
    return loaded


def _named(found: Mapping[str, Registered], name: str) -> Registered:
    if name not in found:
        raise NotRegistered(name)
    return found[name]
