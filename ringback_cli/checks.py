"""The judgements of `ringback doctor`: pure functions of what it saw."""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from importlib.resources import files
from ipaddress import ip_address
from typing import Any
from xml.etree import ElementTree

from app.accounts.credential_schemas import DEMO_TOKENS
from app.accounts.model import Accounts, ExtensionType
from app.calls.model import gateway_of
from app.health.parts import WORKER_LIMIT
from app.settings import Settings, parse_networks
from app.store.fitness import REDIS_VERSION, version_of
from app.store.switches import Switch
from app.web.proxies import is_proxy
from freeswitch.address import SwitchAddress
from ringback_cli.words import age

# Seconds after which a call event should have been taken from the outbox.
OUTBOX_LIMIT = 15.0
# Seconds after which the database should have a record.
EXPORT_LIMIT = 60.0
# Seconds by which clocks may differ. The times of a call come from Redis and from its switch.
SWITCH_CLOCK_LIMIT = 1.0
HERE_CLOCK_LIMIT = 60.0
# Shares of maxmemory.
_FULL, _FILLING = 0.95, 0.8


def _allowed(name: str) -> frozenset[str]:
    found = _USER.find(f".//param[@name='{name}']")
    assert found is not None
    return frozenset(found.get("value", "").split())


# The commands and events that the restricted user of a switch must be allowed.
_USER = ElementTree.fromstring(
    files("freeswitch").joinpath("conf/directory/ringback.xml").read_text()
)
COMMANDS, EVENTS = _allowed("esl-allowed-api"), _allowed("esl-allowed-events")
# Modules that calls need, and modules that one action needs.
NEEDED = ("mod_commands", "mod_dptools", "mod_sofia")
WANTED = {"mod_valet_parking": "Park", "mod_sndfile": "recording"}
# The names of codecs in `show codec`.
_CODECS = {"PCMU": "G711ULAW", "PCMA": "G711ALAW"}


class Level(IntEnum):
    # Nothing could be checked. It counts as OK.
    SKIPPED = -1
    OK = 0
    WARNING = 1
    FAILURE = 2


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: its subject, what was seen, and what to do."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def ok(subject: str, text: str) -> Check:
    return Check(Level.OK, subject, text)


def skipped(subject: str, text: str, advice: str = "") -> Check:
    return Check(Level.SKIPPED, subject, text, advice)


def warning(subject: str, text: str, advice: str) -> Check:
    return Check(Level.WARNING, subject, text, advice)


def failure(subject: str, text: str, advice: str) -> Check:
    return Check(Level.FAILURE, subject, text, advice)


def proxies_checks(unknown: str | None, settings: Settings) -> Iterator[Check]:
    """What the API noted of an address that sends X-Forwarded-For and is no proxy."""
    proxies = parse_networks(settings.proxies or "")
    if unknown is None or is_proxy(unknown, proxies):
        yield ok("proxies", settings.proxies or "RINGBACK_PROXIES is not set, and none is seen")
        return
    yield warning(
        "proxies",
        f"{unknown} sends X-Forwarded-For, and RINGBACK_PROXIES does not have it",
        "Set RINGBACK_PROXIES if it is a proxy of yours: until then its clients are one address.",
    )


def exit_status(checks: Iterable[Check]) -> int:
    """The exit status: 0 if all is well, 1 with warnings, 2 with failures."""
    return max((int(check.level) for check in checks if check.level > 0), default=0)


# Redis


def redis_checks(info: Mapping[str, Any], fsync: str | None, settings: Settings) -> Iterator[Check]:
    """Checks of INFO, and of the setting `appendfsync` if Redis tells it."""
    version = str(info.get("redis_version", ""))
    if version_of(info) < REDIS_VERSION:
        least = ".".join(map(str, REDIS_VERSION))
        yield failure("version", version, f"Install {least} or newer.")
    else:
        yield ok("version", version)
    if info.get("role", "master") != "master":
        yield failure(
            "role", str(info["role"]), "Set RINGBACK_REDIS_URL to the master, or to Sentinels."
        )
    yield _persistence(info, fsync)
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        yield ok("eviction", policy)
    else:
        yield failure(
            "eviction",
            f"{policy} deletes calls when Redis is full",
            "Set maxmemory-policy noeviction.",
        )
    yield _memory(info)
    replicas, wanted = int(info.get("connected_slaves", 0)), settings.wait_replicas
    if replicas < wanted:
        yield failure(
            "replicas",
            f"{replicas}, and RINGBACK_WAIT_REPLICAS is {wanted}: no call is accepted",
            "Start another replica, or lower RINGBACK_WAIT_REPLICAS.",
        )
    elif replicas > wanted:
        # The replica that is promoted may be one that was not waited for.
        yield failure(
            "replicas",
            f"{replicas}, but Ringback waits for {wanted}: a failover may lose calls that were"
            " answered with 202",
            f"Set RINGBACK_WAIT_REPLICAS={replicas}, or fail over by `ringback maintenance"
            " failover` alone (docs/operations/redis-failover.md).",
        )
    else:
        yield ok("replicas", f"{replicas}, Ringback waits for {wanted}")


def fitness_checks(faults: Sequence[str]) -> Iterator[Check]:
    """Checks of the scripts and the setup: ``faults`` are the sentences of app/store/fitness.py."""
    # The eviction and the version have checks of their own.
    said = [each for each in faults if not each.startswith(("maxmemory-policy", "Redis is of"))]
    for fault in said:
        text, _, advice = fault.partition(". ")
        yield failure("scripts", text, advice)
    if not said:
        yield ok("scripts", "Redis runs all of them")


def _persistence(info: Mapping[str, Any], fsync: str | None) -> Check:
    if not int(info.get("aof_enabled", 0)):
        return warning(
            "persistence",
            "appendonly no: Redis loses all calls when it ends",
            "Set appendonly yes (docs/promises.md).",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return failure(
            "persistence", "the last write failed", "Check the disk and the log of Redis."
        )
    words = f", appendfsync {fsync}" if fsync else ""
    if fsync == "no":
        return warning("persistence", f"appendonly yes{words}", "Set appendfsync everysec.")
    lost = " (a crash loses at most the last two seconds)" if fsync == "everysec" else ""
    return ok("persistence", f"appendonly yes{words}{lost}")


def _memory(info: Mapping[str, Any]) -> Check:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        return ok("memory", f"{_megabytes(used)} used, no limit")
    text = f"{_megabytes(used)} used of {_megabytes(most)}"
    advice = "Raise maxmemory, or lower RINGBACK_RETENTION and RINGBACK_CDR_RETENTION."
    if used >= _FULL * most:
        return failure("memory", text, advice)
    return warning("memory", text, advice) if used >= _FILLING * most else ok("memory", text)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def clock_check(name: str, ahead: float, limit: float, why: str) -> Check:
    """A check of a clock that is ``ahead`` seconds ahead of the clock of Redis, or behind it."""
    text = f"{abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} Redis'"
    if abs(ahead) <= limit:
        return ok(name, text)
    return warning(name, f"{text}: {why}", "Run NTP on all machines.")


# Processes

# By the end of the queue's name.
_WITHOUT_WORKERS = {
    "-requests": "what programs enqueue is not taken",
    "-calls": "no call is dialled",
    "-actions": "no hang-up or action is done",
}


def worker_checks(heard: Mapping[str, Sequence[float]]) -> Iterator[Check]:
    """Checks of the workers. ``heard`` has by queue the seconds since each was last heard."""
    for queue, ages in heard.items():
        alive = [each for each in ages if each < WORKER_LIMIT]
        if alive:
            yield ok(f"workers of {queue}", f"{len(alive)}, heard {age(min(alive))} ago")
        else:
            last = f" (last heard {age(min(ages))} ago)" if ages else ""
            what = next(text for kind, text in _WITHOUT_WORKERS.items() if queue.endswith(kind))
            yield failure(f"workers of {queue}", f"none{last}: {what}", "Start `ringback worker`.")


def listener_check(switch: Switch) -> Check:
    subject = f"listeners of {switch.name}"
    if not switch.listeners:
        return failure(
            subject, "none hears the switch", "Start `ringback listener`, or check its log."
        )
    text = f"{switch.listeners}, {switch.listener} leads"
    if switch.listeners == 1:
        return warning(subject, text, "Run two, so that no event is lost if one stops.")
    return ok(subject, text)


def webhooks_check(hooked: int, oldest: float | None) -> Check:
    """A check by the number of extensions, users, organizations and apps with call events, and the
    age (seconds) of the oldest message that waits."""
    if oldest is not None and oldest > OUTBOX_LIMIT:
        return failure(
            "webhooks",
            f"the oldest call event has waited for {age(oldest)}",
            "Start `ringback webhooks`.",
        )
    return ok("webhooks", f"{hooked} have call events, and no event waits")


# Records


def records_checks(
    is_set: bool, version: int | None, error: str | None, waiting: int | None, oldest: float | None
) -> Iterator[Check]:
    """Checks of the database of records: whether RINGBACK_RECORDS_URL ``is_set``, the ``version``
    of its tables or the ``error`` of reading it, how many changes wait for the exporter (None: no
    exporter has ever run), and the age of the oldest in seconds."""
    if not is_set:
        if waiting is not None:
            yield warning(
                "database",
                f"RINGBACK_RECORDS_URL is not set, and {waiting} changes wait for an exporter",
                "Set it here to the value that the processes have. If there is no database any "
                "more, delete the stream cdr:unexported.",
            )
            return
        yield skipped("database", "RINGBACK_RECORDS_URL is not set: all records are in Redis")
        return
    if error is not None:
        yield failure("database", error, "Check RINGBACK_RECORDS_URL, and that the server runs.")
        return
    if not version or waiting is None:
        yield failure("database", "nothing was exported yet", "Start `ringback records export`.")
        return
    yield ok("database", f"answers, its tables have version {version}")
    if oldest is not None and oldest > EXPORT_LIMIT:
        yield failure(
            "export",
            f"{waiting} changes wait, the oldest for {age(oldest)}",
            "Start `ringback records export`, and read its log.",
        )
        return
    yield ok("export", f"{waiting} changes wait")


# Accounts


def accounts_checks(current: Accounts, file: Accounts | None, is_demo: bool) -> Iterator[Check]:
    """Checks of the accounts in Redis, and of the file of RINGBACK_ACCOUNTS if that is set."""
    if not current.extensions:
        yield failure(
            "accounts", "Redis holds none", "Start the API, or run `ringback accounts import FILE`."
        )
        return
    text = f"{len(current.extensions)} extensions, {len(current.apps)} apps"
    if is_demo and any(current.app_of_token(known, time.time) for known in DEMO_TOKENS):
        yield warning(
            "accounts",
            f"{text}: the demo accounts, whose tokens everybody knows",
            "Write an accounts file, and set RINGBACK_ACCOUNTS to it.",
        )
    else:
        yield ok("accounts", text)
    if file is not None and file != current:
        yield warning(
            "accounts file",
            "the file and Redis differ. An API that starts imports the file only if it is newer",
            "Run `ringback accounts import` with the file, or change the file.",
        )
    if not current.routes:
        yield warning(
            "routes", "none: no public number can be called", "Add [[routes]] to the file."
        )


def gateways_of(accounts: Accounts) -> list[str]:
    """The gateways that calls may use."""
    named = [name for route in accounts.routes for name in route.gateways]
    dialled = (gateway_of(each.dial_string or "") for each in accounts.extensions.values())
    return list(dict.fromkeys([*named, *filter(None, dialled)]))


def wanted_modules(accounts: Accounts) -> dict[str, str]:
    """Modules with the feature that needs each."""
    wanted = dict(WANTED)
    if any(e.type is ExtensionType.CONFERENCE for e in accounts.extensions.values()):
        wanted["mod_conference"] = "conferenceInvite"
    if any(e.voicemail for e in accounts.extensions.values()):
        wanted["mod_voicemail"] = "TransferToVoicemail"
    return wanted


# Switches


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """What a switch said; None for what it did not say."""

    address: SwitchAddress
    # The error, if Ringback could not ask it.
    error: str | None = None
    core_uuid: str | None = None
    simulated: bool = False
    # What the user may do by the reply to the login; None for all.
    commands: Collection[str] | None = None
    events: Collection[str] | None = None
    # sessions-per-second and max-sessions.
    capacity: tuple[int, int] | None = None
    modules: frozenset[str] | None = None
    codecs: tuple[str, ...] | None = None
    # The answers of `sofia status gateway` by gateway; None if the login may not use it.
    gateways: Mapping[str, str] | None = None


def switch_checks(
    facts: SwitchFacts, switch: Switch | None, accounts: Accounts, settings: Settings
) -> Iterator[Check]:
    """Checks of a switch. ``switch`` is its entry in Redis; None if Redis is unavailable."""
    name = facts.address.name
    if facts.error is not None:
        yield failure(name, facts.error, _login_advice(facts))
        return
    user = f"as {facts.address.user}" if facts.address.user else "by the socket's password"
    yield ok(name, f"answers, logged in {user}, Core-UUID {facts.core_uuid}")
    if facts.address.tls is None and not _is_here(facts.address.host):
        yield warning(
            f"{name} link",
            f"esl:// to {facts.address.host} is plain text: the network can read the password"
            " and run commands on the switch",
            "Put TLS before the event socket and write esls:// (docs/operations/tls.md).",
        )
    if switch is not None:
        if switch.core_uuid is not None and switch.core_uuid != facts.core_uuid:
            yield warning(
                f"{name} run", "the listeners follow another run", "Check again in a moment."
            )
        if switch.paused is not None:
            what = "draining" if switch.paused.drain else "paused"
            yield warning(
                f"{name} calls",
                f"{what} by {switch.paused.by}: it gets no new calls",
                f"Run `ringback switch resume {name}` when it may have calls again.",
            )
    yield from _permissions(facts)
    yield _capacity(facts)
    if facts.simulated:
        yield skipped(f"{name} modules", "a simulator has no modules, codecs or gateways")
        return
    yield from _modules(facts, wanted_modules(accounts))
    yield from _codecs(facts, settings.video_codecs.split(","))
    yield from _gateways(facts, gateways_of(accounts))


def _is_here(host: str) -> bool:
    """Whether a connection to this host stays on this machine, by its name alone."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _login_advice(facts: SwitchFacts) -> str:
    error, place = facts.error or "", f"{facts.address.host} port {facts.address.port}"
    if "rude-rejection" in error:
        return "Add this machine to the list of apply-inbound-acl (freeswitch/conf/README.md)."
    if "invalid" in error:
        return "Check user and password of its address."
    if "TLS" in error or "certificate" in error or "`ca`" in error:
        return "Compare its address with docs/operations/tls.md."
    if "no login" in error:
        tls = "" if facts.address.tls else " If it speaks TLS, write esls://."
        return f"Check that {place} is the event socket, and that no firewall blocks it.{tls}"
    return f"Check that FreeSWITCH is up, and that mod_event_socket listens on {place}."


def _permissions(facts: SwitchFacts) -> Iterator[Check]:
    name = f"{facts.address.name} user"
    missing = [
        *sorted(COMMANDS - set(facts.commands or COMMANDS)),
        *sorted(EVENTS - set(facts.events or EVENTS)),
    ]
    if missing:
        yield failure(
            name,
            f"may not use {', '.join(missing)}",
            "Install the new freeswitch/conf/directory/ringback.xml, and run `reloadxml`.",
        )
    elif facts.address.user and facts.commands is not None:
        yield ok(name, "may do all that Ringback does")
    elif facts.address.user and not facts.simulated:
        yield warning(
            name, "may run all commands", "Restrict it by freeswitch/conf/directory/ringback.xml."
        )


def _capacity(facts: SwitchFacts) -> Check:
    name, address = f"{facts.address.name} capacity", facts.address
    if facts.capacity is None:
        return skipped(name, "the switch does not tell")
    rate, most = facts.capacity
    text = f"sessions-per-second {rate}, max-sessions {most}"
    if (address.legs_per_second or 0) >= rate or (address.max_legs or 0) > most:
        return warning(
            name,
            f"{text}: less than its address says",
            "Raise them in switch.conf.xml, or lower legs_per_second and max_legs.",
        )
    return ok(name, text)


def _modules(facts: SwitchFacts, wanted: Mapping[str, str]) -> Iterator[Check]:
    name = f"{facts.address.name} modules"
    if facts.modules is None:
        yield skipped(name, "the login may not ask for them")
        return
    loaded = facts.modules
    if missing := [each for each in NEEDED if each not in loaded]:
        yield failure(name, f"{', '.join(missing)} not loaded", "Load them: calls need them.")
    missing_for = {each: what for each, what in wanted.items() if each not in loaded}
    for each, what in missing_for.items():
        text = f"{each} not loaded: {what} does not work"
        yield warning(name, text, f"Run `fs_cli -x 'load {each}'`.")
    if not missing and not missing_for:
        yield ok(name, f"all {len(NEEDED) + len(wanted)} are loaded")


def _codecs(facts: SwitchFacts, wanted: Sequence[str]) -> Iterator[Check]:
    name = f"{facts.address.name} codecs"
    if facts.codecs is None:
        yield skipped(name, "the login may not ask for them")
        return
    known = [re.sub(r"[^A-Z0-9]", "", each.upper()) for each in facts.codecs]
    words = {codec: re.sub(r"[^A-Z0-9].*", "", codec.upper()) for codec in wanted}
    missing = [
        codec
        for codec, word in words.items()
        if not any(each.startswith(_CODECS.get(word, word)) for each in known)
    ]
    if missing:
        yield warning(
            name,
            f"{', '.join(missing)} missing, which RINGBACK_VIDEO_CODECS offers with video=true",
            "Load their modules, or remove them from RINGBACK_VIDEO_CODECS.",
        )
    else:
        yield ok(name, "all of RINGBACK_VIDEO_CODECS")


def _gateways(facts: SwitchFacts, wanted: Iterable[str]) -> Iterator[Check]:
    for gateway in wanted:
        name = f"{facts.address.name} gateway {gateway}"
        said = None if facts.gateways is None else facts.gateways.get(gateway)
        if said is None:
            yield skipped(
                name,
                "the login may not ask for it",
                f"Run `fs_cli -x 'sofia status gateway {gateway}'` on the switch.",
            )
            continue
        fields = dict(re.findall(r"^(\w+)\s+(.*?)\s*$", said, re.MULTILINE))
        status, state = fields.get("Status", ""), fields.get("State", "")
        if not status:
            yield failure(
                name, "unknown to the switch", "Add it to a profile, and rescan the profile."
            )
        elif not status.startswith("UP"):
            yield failure(name, f"{status} ({state})", "Check its registration and its pings.")
        elif state not in ("NOREG", "REGED"):
            yield warning(name, f"{status}, but {state}", "Check its registration.")
        else:
            yield ok(name, f"{status} ({state})")
