"""A process follows the registry of switches: it learns of each change at once, finds the
passwords, and looks up the DNS names that stand for switches."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import gevent
from gevent.lock import BoundedSemaphore
from redis.exceptions import RedisError

from app.settings import Settings
from app.store.registered import SETTING, Registered, SwitchRegistry, has_password
from app.store.switches import Pause
from freeswitch.address import SwitchAddress
from freeswitch.sources import look_up
from workers.runtime import Runtime, switch_addresses

log = logging.getLogger(__name__)

# Seconds between two looks at the number of changes. A message tells of most changes sooner.
LOOK = 1.0
# Seconds between two look-ups of a DNS name, and for which an address must be gone from DNS before
# its switch is drained: a name server that starts knows little.
DNS_LOOK = 5.0
VANISHED = 15.0
# Seconds between two looks at the files of passwords.
REREAD = 10.0
# Environment variables that may hold a password. The registry is no way to read all others.
PASSWORD_ENV = re.compile(r"(RINGBACK_)?ESL_[A-Z0-9_]{1,64}")
# The longest password, in characters.
_LONGEST = 1024


class NoAddress(Exception):
    """A registered switch that this process cannot connect to; the text is a sentence for an
    operator, and holds no password."""


def filling(settings: Settings) -> list[Registered]:
    """What RINGBACK_SWITCHES registers. Its passwords stay in the processes' own settings. Raises
    SettingsError."""
    if not settings.switches:
        return []
    return [
        Registered(
            name=each.name,
            url=each.url,
            legs_per_second=each.legs_per_second,
            max_legs=each.max_legs,
            by=SETTING,
            setting=_setting(each),
        )
        for each in switch_addresses(settings)
    ]


def _setting(address: SwitchAddress) -> str:
    """All that an entry of RINGBACK_SWITCHES says, but for its password."""
    limits = {"legs_per_second": address.legs_per_second, "max_legs": address.max_legs}
    said = "&".join(f"{name}={n:g}" for name, n in limits.items() if n is not None)
    return f"{address.url} {said}".strip()


def address_of(
    entry: Registered,
    known: Mapping[str, Registered],
    own: Mapping[str, SwitchAddress],
) -> SwitchAddress:
    """The address of a registered switch, with the password that this process finds for it.

    ``own`` are those of this process' RINGBACK_SWITCHES. Raises NoAddress.
    """
    try:
        password = _password(entry, known, own)
        address = SwitchAddress.parse(f"{entry.name}={entry.url}", password)
        if address.tls is not None:
            address.tls.context()
    except (OSError, ValueError) as error:
        raise NoAddress(f"switch {entry.name} cannot be used: {error}") from None
    return replace(address, legs_per_second=entry.legs_per_second, max_legs=entry.max_legs)


def _password(
    entry: Registered, known: Mapping[str, Registered], own: Mapping[str, SwitchAddress]
) -> str | None:
    """The password, None if it stands in the switch's own URL. Raises ValueError."""
    origin = entry
    if entry.source is not None:
        if entry.source not in known:
            raise ValueError(f"it comes from {entry.source}, which is not registered")
        origin = known[entry.source]
    if has_password(origin.url):
        # An address of a DNS name is another, and its login is the same.
        found = SwitchAddress.parse(f"{origin.name}={origin.url}")
        return None if origin is entry else found.password
    if origin.password_file is not None:
        return _of_file(origin.password_file)
    if origin.password_env is not None:
        name = origin.password_env
        if PASSWORD_ENV.fullmatch(name) is None:
            raise ValueError(f"{name} is no name for the variable of a password")
        if not (text := os.environ.get(name)):
            raise ValueError(f"this process has no variable {name}")
        return text
    if origin.setting is not None:
        if origin.name not in own:
            raise ValueError(f"RINGBACK_SWITCHES of this process has no {origin.name}")
        return own[origin.name].password
    raise ValueError("the registry says nowhere what its password is")


def _of_file(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.readline(_LONGEST + 1).rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ValueError(f"its password file {path} cannot be read: {why}") from None
    if not 0 < len(text) <= _LONGEST:
        raise ValueError(f"its password file {path} has no password in its first line")
    return text


def addresses(
    known: Mapping[str, Registered], own: Mapping[str, SwitchAddress]
) -> tuple[list[SwitchAddress], dict[str, str]]:
    """The addresses of all registered switches, and why some have none, by name."""
    found: list[SwitchAddress] = []
    why: dict[str, str] = {}
    for name, entry in known.items():
        if entry.is_source:
            continue
        try:
            found.append(address_of(entry, known, own))
        except NoAddress as error:
            why[name] = str(error)
    return found, why


class Following:
    """The follower of one process, which reads each change of the registry."""

    def __init__(
        self,
        runtime: Runtime,
        follow: Callable[[list[SwitchAddress]], object],
        *,
        sees_to: bool = False,
    ) -> None:
        """``follow`` gets the addresses of all switches whenever they may have changed. A process
        that ``sees_to`` the registry fills it, looks up DNS names, and ends removals. Raises
        SettingsError.
        """
        self._runtime = runtime
        self._redis, self._keys = runtime.redis, runtime.keys
        self.registry = SwitchRegistry(runtime.redis, runtime.keys)
        self._follow = follow
        self._sees_to = sees_to
        self._filling = filling(runtime.settings)
        settings = runtime.settings
        self._own = {a.name: a for a in switch_addresses(settings)} if settings.switches else {}
        self._version: int | None = None
        self._known: dict[str, Registered] = {}
        self._filled = False
        self._looking = BoundedSemaphore()
        self._told: dict[str, str] = {}
        # The addresses that were followed last, by name, and when (monotonic) they were made.
        self._followed: dict[str, SwitchAddress] = {}
        self._applied = 0.0
        # Since when (monotonic) a switch is missing from its DNS name, and the last look-up.
        self._missing: dict[str, float] = {}
        self._looked_up = -DNS_LOOK

    def begin(self) -> None:
        """Follow what the registry has; while it cannot be read, RINGBACK_SWITCHES."""
        try:
            self.look()
        except RedisError as error:
            log.warning("the registry of switches cannot be read yet: %s", error)
            self._follow_own()

    def run(self) -> None:
        """Follow the registry until the greenlet is killed."""
        seeing_to = gevent.spawn(self._see_to) if self._sees_to else None
        try:
            self._run()
        finally:
            if seeing_to is not None:
                seeing_to.kill()

    def _run(self) -> None:
        while True:
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as hears:  # type: ignore[no-untyped-call]
                    hears.subscribe(self._keys.switches)
                    while True:
                        self._guarded_look()
                        # One message or several: one look.
                        hears.get_message(timeout=LOOK)
            except RedisError as error:
                log.debug("cannot listen for changes of the registry: %s", error)
                gevent.sleep(LOOK)

    def look(self) -> None:
        """Read the registry if it has changed. May raise an error of Redis."""
        # Jobs look too: what one has read must not replace what another has read since.
        with self._looking:
            self._look()

    def _look(self) -> None:
        version = self.registry.version()
        if self._sees_to:
            version = self._seen_to(version)
        elif version is None:
            # A listener writes what Redis has lost. One of a version before writes no registry.
            if not self._known:
                self._follow_own()
            return
        if version is None or version != self._version:
            self._version, self._known = self.registry.read()
            self._apply()
        elif time.monotonic() - self._applied > REREAD and any(
            each.password_file for each in self._known.values()
        ):
            self._apply()

    def _seen_to(self, version: int | None) -> int | None:
        """Fill a registry that is new or was lost. Returns the version, None after a change."""
        if version is None and self._known:
            # Redis came back empty. What an operator has added is known here alone.
            if self.registry.restore(self._known.values()):
                log.warning("Redis came back empty: wrote its %d switches again", len(self._known))
            self._filled = False
        if self._filled:
            return version
        if changed := self.registry.fill(self._stamped()):
            log.info("registered %s of RINGBACK_SWITCHES", ", ".join(changed))
        self._filled = True
        return None

    def _follow_own(self) -> None:
        self._follow([each for each in self._own.values() if each.found_by is None])

    def _stamped(self) -> list[Registered]:
        now = self._runtime.store.now()
        return [replace(each, added=now) for each in self._filling]

    def _apply(self) -> None:
        self._applied = time.monotonic()
        found, why = addresses(self._known, self._own)
        # A file that is away for a moment ends no connection.
        found += [self._followed[name] for name in why if name in self._followed]
        self._followed = {each.name: each for each in found}
        for name, text in why.items():
            if self._told.get(name) != text:
                log.error("%s", text, extra={"switch": name})
        self._told = why
        self._follow(found)

    def _guarded_look(self) -> None:
        try:
            self.look()
        except RedisError:
            raise
        except Exception:
            log.exception("the registry of switches cannot be followed")

    def _see_to(self) -> None:
        while True:
            gevent.sleep(LOOK)
            try:
                self._end_removals()
                self._look_up()
            except RedisError as error:
                log.debug("cannot see to the registry of switches: %s", error)
            except Exception:
                log.exception("the registry of switches cannot be seen to")

    def _end_removals(self) -> None:
        for name, entry in list(self._known.items()):
            if entry.removing and self.registry.finish_removal(name):
                log.info("switch %s has no call left, and is removed", name)

    def _look_up(self) -> None:
        """Look up all DNS names, in one listener process of all."""
        names = [entry for entry in self._known.values() if entry.is_source]
        if not names or time.monotonic() - self._looked_up < DNS_LOOK:
            return
        self._looked_up = time.monotonic()
        if not self.registry.takes_dns(self._runtime.name, DNS_LOOK * 3):
            return
        for source in names:
            try:
                found = look_up(address_of(source, self._known, self._own))
            except (NoAddress, OSError) as error:
                # A name server that fails, and a name without addresses, look alike from here.
                if not source.removing:
                    log.warning("DNS does not tell the switches of %s: %s", source.name, error)
                    continue
                found = []
            self._take(source, found)

    def _take(self, source: Registered, found: Iterable[SwitchAddress]) -> None:
        now = self._runtime.store.now()
        members = {
            each.name: replace(
                source,
                name=each.name,
                url=each.url,
                password_file=None,
                password_env=None,
                setting=None,
                added=now,
                by=source.name,
                source=source.name,
            )
            for each in found
        }
        own = {name for name, each in self._known.items() if each.source == source.name}
        at = time.monotonic()
        self._missing = {
            name: since
            for name, since in self._missing.items()
            if name not in members and name in self._known
        }
        for name in own - members.keys():
            self._missing.setdefault(name, at)

        def vanished(name: str) -> Pause | None:
            if source.removing:
                return Pause(source.by, now, f"{source.name} is removed", drain=True)
            if at - self._missing.get(name, at) < VANISHED:
                return None
            return Pause(source.name, now, "DNS names it no more", drain=True)

        came, went = self.registry.follow_source(source.name, members.values(), vanished)
        if came:
            log.info("DNS name %s has new switches: %s", source.name, ", ".join(came))
        if went:
            log.warning("drains what %s has no more: %s", source.name, ", ".join(went))
