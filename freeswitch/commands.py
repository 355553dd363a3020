"""Commands to the switch beside the originate, and what its answers mean."""

import json
import re
from typing import Any

from freeswitch.event_socket import SwitchConnection
from freeswitch.events import Event

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


def exists(connection: SwitchConnection, uuid: str) -> bool:
    """Whether the channel is there; the word to trust over the channel list."""
    return connection.api(f"uuid_exists {check_word(uuid)}").strip() == "true"


def dump(connection: SwitchConnection, uuid: str) -> Event | None:
    """All that the switch knows of a channel, as a CHANNEL_DATA event; None where it is gone."""
    try:
        return Event.from_json(connection.api(f"uuid_dump {check_word(uuid)} json").encode())
    except ValueError:
        # -ERR No such channel!
        return None


def channels(connection: SwitchConnection) -> dict[str, dict[str, Any]]:
    """The channels that the switch lists, by uuid. The list can hold channels long gone
    (signalwire/freeswitch#2920): confirm with :func:`exists` before acting on one."""
    listing = json.loads(connection.api("show channels as json"))
    return {row["uuid"]: row for row in listing.get("rows", [])}


def check_word(text: str) -> str:
    """What may stand as one argument of a command: letters, digits, ``-`` and ``_``."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is None:
        raise ValueError(f"not an argument of a command: {text!r}")
    return text
