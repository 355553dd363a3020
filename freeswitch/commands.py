"""Commands to the switch beside the originate, and what its answers mean."""

import re

import gevent

from freeswitch.connection import SwitchConnection
from freeswitch.event_socket import CORE_UUID
from freeswitch.events import Event

# Seconds for the list of all channels.
LISTING_LIMIT = 30.0
_PATH = re.compile(r"(/[A-Za-z0-9_.+*-]+)+", re.ASCII)
_CAUSE = re.compile(r"-ERR ([A-Z][A-Z0-9_]+)")


def originate_error(result: str) -> str | None:
    """The hang-up cause in the result of an originate's BACKGROUND_JOB; None for ``+OK``.

    Any other refusal (``-USAGE: …``) is the switch's word for a command it cannot carry out:
    INVALID_MSG_UNSPECIFIED.
    """
    if result.startswith("+OK"):
        return None
    match = _CAUSE.match(result)
    return match[1] if match else "INVALID_MSG_UNSPECIFIED"


def hang_up_all(
    connection: SwitchConnection, variable: str, value: str, cause: str = "NORMAL_CLEARING"
) -> str:
    """Hang up every channel that carries the variable, ringing ones too; the switch's reply."""
    return connection.api(f"hupall {cause} {variable} {check_word(value)}").strip()


def kill(connection: SwitchConnection, uuid: str, cause: str = "NORMAL_CLEARING") -> str:
    """Hang up one channel; the reply is ``-ERR No such channel!`` where it is gone."""
    return connection.api(f"uuid_kill {check_word(uuid)} {cause}").strip()


def has_module(connection: SwitchConnection, name: str) -> bool:
    return connection.api(f"module_exists {check_word(name)}").strip() == "true"


def exists(connection: SwitchConnection, uuid: str) -> bool:
    return connection.api(f"uuid_exists {check_word(uuid)}").strip() == "true"


def hold(connection: SwitchConnection, uuid: str, *, off: bool = False) -> str:
    """Let a party put the other on hold, who hears music; the reply is ``+OK`` for a channel that
    is gone too."""
    return connection.api(f"uuid_hold {'off ' if off else ''}{check_word(uuid)}").strip()


def start_recording(connection: SwitchConnection, uuid: str, path: str) -> str:
    """Record both directions of a channel into a file on the switch's host, whose name tells the
    format. Raises ValueError for a path that is not plain and absolute."""
    return connection.api(f"uuid_record {check_word(uuid)} start {check_path(path)}").strip()


def stop_recording(connection: SwitchConnection, uuid: str, path: str) -> str:
    return connection.api(f"uuid_record {check_word(uuid)} stop {check_path(path)}").strip()


def set_variable(connection: SwitchConnection, uuid: str, name: str, value: str) -> str:
    """``value`` is ours: it is not checked."""
    return connection.api(f"uuid_setvar {check_word(uuid)} {check_word(name)} {value}").strip()


def transfer(connection: SwitchConnection, uuid: str, applications: str) -> str:
    """Have a channel do other things than it does, as the dialplan ``inline`` takes them; the
    other end of its bridge is hung up."""
    return connection.api(f"uuid_transfer {check_word(uuid)} '{applications}' inline").strip()


def limit_duration(connection: SwitchConnection, uuid: str, seconds: int) -> str:
    """Have the switch itself hang a channel up, whatever becomes of us."""
    left = max(1, seconds)
    return connection.api(f"sched_hangup +{left} {check_word(uuid)} ALLOTTED_TIMEOUT").strip()


def core_uuid(connection: SwitchConnection) -> str:
    """The Core-UUID of the run that answers."""
    return connection.api(CORE_UUID).strip()


_RATE = re.compile(r"session\(s\) per Sec out of max (\d+)")
_SESSIONS = re.compile(r"(\d+) session\(s\) max")


def capacity(connection: SwitchConnection) -> tuple[int, int] | None:
    """The switch's sessions-per-second and max-sessions; None where it does not tell."""
    status = connection.api("status")
    rate, sessions = _RATE.search(status), _SESSIONS.search(status)
    return (int(rate[1]), int(sessions[1])) if rate and sessions else None


def dump(connection: SwitchConnection, uuid: str) -> Event | None:
    """All that the switch knows of a channel, as a CHANNEL_DATA event; None where it is gone."""
    try:
        return Event.from_json(connection.api(f"uuid_dump {check_word(uuid)} json").encode())
    except ValueError:
        # -ERR No such channel!
        return None


# A quote within a value has a backslash before it: no value can look like a name.
_ROW = re.compile(r'"uuid":"([^"]*)"|"callstate":"([^"]*)"')


def call_states(connection: SwitchConnection) -> dict[str, str]:
    """The call states (RINGING, ACTIVE, …) of the channels that the switch lists, by uuid.

    The list is some hundred milliseconds old, and can hold channels long gone
    (signalwire/freeswitch#2920): confirm with :func:`dump` before acting on it.
    """
    listing = connection.api_apart("show channels as json", timeout=LISTING_LIMIT)
    found: dict[str, str] = {}
    uuid = ""
    # 20,000 rows are 17 MB: to read them all as JSON would stall whoever handles events.
    for number, match in enumerate(_ROW.finditer(listing)):
        if match[1] is not None:
            uuid = match[1]
            found[uuid] = ""
        else:
            found[uuid] = match[2]
        if number % 1000 == 0:
            gevent.sleep(0)
    return found


def check_word(text: str) -> str:
    """What may stand as one argument of a command: letters, digits, ``-`` and ``_``."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is None:
        raise ValueError(f"not an argument of a command: {text!r}")
    return text


def check_path(path: str) -> str:
    if _PATH.fullmatch(path) is None or "/.." in path:
        raise ValueError(f"not a plain absolute path: {path!r}")
    return path
