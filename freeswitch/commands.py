"""Commands to the switch, except originate, and what the replies mean."""

import re
from dataclasses import dataclass

import gevent
import orjson

from freeswitch.connection import SwitchConnection
from freeswitch.dialstring import QUOTA_CAUSE, check_word
from freeswitch.event_socket import CORE_UUID
from freeswitch.events import Event

# Seconds that the list of all channels may take.
LISTING_LIMIT = 30.0
_PATH = re.compile(r"(/[A-Za-z0-9_.+*-]+)+", re.ASCII)
_CAUSE = re.compile(r"-ERR ([A-Z][A-Z0-9_]+)")
_RATE = re.compile(r"session\(s\) per Sec out of max (\d+)")
_GATEWAY_STATUS = re.compile(r"^Status\s+(\w+)", re.MULTILINE)
_SESSIONS = re.compile(r"(\d+) session\(s\) max")
_NOW = re.compile(r"(\d+) session\(s\) - peak")
_IDLE = re.compile(r"min idle cpu ([\d.]+)/([\d.]+)")
# A quote within a value has a backslash before it, so no value can look like a field's name.
_ROW = re.compile(r'"uuid":"([^"]*)"|"callstate":"([^"]*)"')


def originate_error(result: str) -> str | None:
    """The hang-up cause in the result of an originate's BACKGROUND_JOB; None for ``+OK``.

    A result without a cause (``-USAGE: …``) says that the switch cannot read the command. It
    counts as INVALID_MSG_UNSPECIFIED.
    """
    if result.startswith("+OK"):
        return None
    match = _CAUSE.match(result)
    return match[1] if match else "INVALID_MSG_UNSPECIFIED"


def hang_up_all(
    connection: SwitchConnection, variable: str, value: str, cause: str = "NORMAL_CLEARING"
) -> str:
    """Hang up every channel that carries the variable, also while it rings; return the reply."""
    return connection.api(f"hupall {cause} {variable} {check_word(value)}").strip()


def kill(connection: SwitchConnection, uuid: str, cause: str = "NORMAL_CLEARING") -> str:
    """Hang up one channel. The reply is ``-ERR No such channel!`` if it is gone."""
    return connection.api(f"uuid_kill {check_word(uuid)} {cause}").strip()


def has_module(connection: SwitchConnection, name: str) -> bool:
    """Whether the switch has loaded a module, such as ``mod_voicemail``."""
    return connection.api(f"module_exists {check_word(name)}").strip() == "true"


def exists(connection: SwitchConnection, uuid: str) -> bool:
    """Whether the switch has the channel."""
    return connection.api(f"uuid_exists {check_word(uuid)}").strip() == "true"


def hold(connection: SwitchConnection, uuid: str, *, off: bool = False) -> str:
    """Put the other party on hold, so that it hears music, or with ``off`` take it off hold.

    The reply is ``+OK`` for a channel that is gone, too.
    """
    return connection.api(f"uuid_hold {'off ' if off else ''}{check_word(uuid)}").strip()


def start_recording(connection: SwitchConnection, uuid: str, path: str) -> str:
    """Record both directions of a channel into a file on the switch's host.

    The file's extension decides the format. Raises ValueError for a path that is not absolute or
    holds other characters than letters, digits and ``_.+*-``.
    """
    return connection.api(f"uuid_record {check_word(uuid)} start {_check_path(path)}").strip()


def stop_recording(connection: SwitchConnection, uuid: str, path: str) -> str:
    """Stop the recording of a channel into this file."""
    return connection.api(f"uuid_record {check_word(uuid)} stop {_check_path(path)}").strip()


def set_variable(connection: SwitchConnection, uuid: str, name: str, value: str) -> str:
    """Set a channel's variable. ``value`` is not checked: it must hold nothing of a client."""
    return connection.api(f"uuid_setvar {check_word(uuid)} {check_word(name)} {value}").strip()


def renegotiate(connection: SwitchConnection, uuid: str) -> str:
    """Send the phone of a channel another INVITE with the same media. After its answer the switch
    reads the channel's limits on media again."""
    return connection.api(f"uuid_media_reneg {check_word(uuid)}").strip()


def transfer(connection: SwitchConnection, uuid: str, applications: str) -> str:
    """Send a channel to other applications, written for the dialplan ``inline``.

    The switch hangs up the other end of its bridge.
    """
    return connection.api(f"uuid_transfer {check_word(uuid)} '{applications}' inline").strip()


def limit_duration(connection: SwitchConnection, uuid: str, seconds: int) -> str:
    """Have the switch itself hang up a channel in so many seconds, even if Ringback is gone."""
    left = max(1, seconds)
    return connection.api(f"sched_hangup +{left} {check_word(uuid)} ALLOTTED_TIMEOUT").strip()


def limit_quota(connection: SwitchConnection, uuid: str, seconds: int) -> str:
    """Have the switch itself hang up a channel once it has used up a cap, in so many seconds. The
    first of several timers counts; 0 is now."""
    cause = QUOTA_CAUSE.upper()
    return connection.api(f"sched_hangup +{seconds} {check_word(uuid)} {cause}").strip()


def lift_limits(connection: SwitchConnection, uuid: str) -> str:
    """Delete all timers of a channel."""
    return connection.api(f"sched_del {check_word(uuid)}").strip()


def gateway_is_up(connection: SwitchConnection, name: str) -> bool:
    """Whether the switch knows the gateway and does not hold it for down. With ``ping`` in its
    settings, the gateway has answered OPTIONS lately then."""
    status = _GATEWAY_STATUS.search(connection.api(f"sofia status gateway {check_word(name)}"))
    return status is not None and status[1] == "UP"


def core_uuid(connection: SwitchConnection) -> str:
    """The Core-UUID of the switch's run that answers."""
    return connection.api(CORE_UUID).strip()


@dataclass(frozen=True, slots=True)
class Status:
    """What the switch says of its load; None for what its status lacks.

    ``sessions`` are its channels now, of all programs. ``idle`` is its idle CPU in percent, and
    below ``least_idle`` it refuses calls. It is not ``ready`` while it takes neither inbound nor
    outbound calls.
    """

    ready: bool
    sessions: int | None
    sessions_per_second: int | None
    max_sessions: int | None
    idle: float | None
    least_idle: float | None


def status(connection: SwitchConnection) -> Status:
    """The switch's status."""
    return read_status(connection.api("status"))


def read_status(text: str) -> Status:
    """What the reply to ``status`` says."""
    rate, most, now = (each.search(text) for each in (_RATE, _SESSIONS, _NOW))
    idle = _IDLE.search(text)
    return Status(
        ready=") is not ready" not in text,
        sessions=int(now[1]) if now else None,
        sessions_per_second=int(rate[1]) if rate else None,
        max_sessions=int(most[1]) if most else None,
        idle=float(idle[2]) if idle else None,
        least_idle=float(idle[1]) if idle else None,
    )


def is_shut_down(connection: SwitchConnection) -> bool:
    """Whether an operator has told the switch to end when its calls have ended.

    After `fsctl shutdown elegant` it goes on taking calls: under load it never ends. After `fsctl
    shutdown asap` it refuses new ones.
    """
    return connection.api("fsctl shutdown_check").strip() == "true"


def is_paused(connection: SwitchConnection) -> bool:
    """Whether the switch refuses to dial, since an operator has told it so (`fsctl pause`)."""
    return connection.api("fsctl pause_check outbound").strip() == "true"


def capacity(connection: SwitchConnection) -> tuple[int, int] | None:
    """The switch's sessions-per-second and max-sessions; None if its status lacks them."""
    found = status(connection)
    if found.sessions_per_second is None or found.max_sessions is None:
        return None
    return found.sessions_per_second, found.max_sessions


def dump(connection: SwitchConnection, uuid: str) -> Event | None:
    """All that the switch knows of a channel, as a CHANNEL_DATA event; None if it is gone."""
    try:
        return Event.from_json(connection.api(f"uuid_dump {check_word(uuid)} json").encode())
    except ValueError:
        # The reply is -ERR No such channel!
        return None


def call_states(connection: SwitchConnection) -> dict[str, str]:
    """The call states (RINGING, ACTIVE, …) of the channels that the switch lists, by uuid.

    The list is some hundred milliseconds old, and can hold channels that are long gone
    (signalwire/freeswitch#2920). Confirm with :func:`dump` before you act on it.
    """
    listing = connection.api_apart("show channels as json", timeout=LISTING_LIMIT)
    found: dict[str, str] = {}
    uuid = ""
    # 20,000 rows are 17 MB: reading them all as JSON would stall the greenlet that handles events.
    for number, match in enumerate(_ROW.finditer(listing)):
        if match[1] is not None:
            uuid = match[1]
            found[uuid] = ""
        else:
            found[uuid] = match[2]
        if number % 1000 == 0:
            gevent.sleep(0)
    return found


def registrations(connection: SwitchConnection) -> list[tuple[str, str, str, float]]:
    """The registrations that the switch lists: the user, the host, the Call-ID of the REGISTER, and
    the end in epoch seconds by the switch's clock. Raises ValueError if the list cannot be read."""
    listing = connection.api_apart("show registrations as json", timeout=LISTING_LIMIT)
    found = []
    for number, row in enumerate(orjson.loads(listing).get("rows", ())):
        words = (row.get(name, "") for name in ("reg_user", "realm", "token"))
        user, host, call_id = map(str, words)
        found.append((user, host, call_id, float(row.get("expires") or 0)))
        if number % 1000 == 0:
            gevent.sleep(0)
    return found


def _check_path(path: str) -> str:
    if _PATH.fullmatch(path) is None or "/.." in path:
        raise ValueError(f"not a plain absolute path: {path!r}; it must match {_PATH.pattern}")
    return path
