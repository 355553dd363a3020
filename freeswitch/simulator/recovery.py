"""A crash of the switch, `sofia recover`, and registrations, as seen on FreeSWITCH 1.10.12."""

import json
import time
import uuid
from collections.abc import Mapping

from .channel import Channel
from .clock import microseconds
from .switch import ApiCommand, SwitchCore


def crash(switch: SwitchCore[Channel]) -> None:
    """Begin another run: no channel, no timer, and no word of what ended.

    With `track-calls` the switch keeps the answered channels in its database.
    """
    switch.begin_run(str(uuid.uuid4()))
    channels = tuple(switch.channels.values())
    switch.silent.update(channel.uuid for channel in channels)
    switch.channels.clear()
    for channel in channels:
        if channel.answered and channel.up:
            switch.fallen[channel.uuid] = channel
        else:
            channel.hangup("NORMAL_CLEARING")
    switch.note("crash", core_uuid=switch.core_uuid)


def recover(switch: SwitchCore[Channel]) -> int:
    """Bring the channels of the run before back, and return their number.

    They have their uuids, variables and times of answer. They are created and bridged anew, and
    their call state stays DOWN. Their timers are gone.
    """
    found = [channel for channel in switch.fallen.values() if channel.up]
    switch.fallen.clear()
    for channel in found:
        switch.silent.discard(channel.uuid)
        switch.add(channel)
        channel.set("recovered", "true")
        channel.call_state = "DOWN"
        channel.times.created = microseconds()
        channel.fire("CHANNEL_CREATE")
        channel.fire("CHANNEL_ORIGINATE")
    for channel in found:
        peer = channel.partner
        if peer is not None and peer.uuid in switch.channels and not channel.get("originator"):
            channel.times.bridged = peer.times.bridged = microseconds()
            both = {"Bridge-A-Unique-ID": channel.uuid, "Bridge-B-Unique-ID": peer.uuid}
            channel.fire("CHANNEL_BRIDGE", before=both)
    return len(found)


def _sofia(switch: SwitchCore[Channel], argument: str) -> str:
    if argument.split() != ["recover"]:
        return "-ERR only sofia recover is simulated\n"
    count = recover(switch)
    return f"Recovered {count} call(s)\n" if count else "No calls to recover.\n"


def register(switch: SwitchCore[Channel], phone: str, seconds: float) -> None:
    """Register a phone, `210@example.com`. From the first one on, the switch reaches no phone that
    is not registered."""
    user, at, host = phone.partition("@")
    if not (user and at and host):
        raise ValueError(f"{phone} is no phone: give user@domain")
    switch.registered = {**(switch.registered or {}), phone: time.time() + seconds}
    switch.send("sofia::register", _headers(phone) | {"expires": f"{seconds:.0f}"})


def unregister(switch: SwitchCore[Channel], phone: str) -> None:
    """End the registration of a phone."""
    if (switch.registered or {}).pop(phone, None) is None:
        raise ValueError(f"{phone} is not registered")
    switch.send("sofia::unregister", _headers(phone) | {"expires": "0"})


def _headers(phone: str) -> dict[str, str | list[str]]:
    user, _, host = phone.partition("@")
    return {
        "profile-name": "internal",
        "from-user": user,
        "from-host": host,
        "contact": f'"" <sip:{user}@127.0.0.1:5062>',
        "call-id": f"{phone}-registers",
        "status": "Registered(UDP)",
    }


def registrations(switch: SwitchCore[Channel]) -> str:
    """The reply to `show registrations as json`."""
    rows = [
        {
            "reg_user": phone.partition("@")[0],
            "realm": phone.partition("@")[2],
            "token": f"{phone}-registers",
            "url": f"sofia/internal/sip:{phone}",
            "expires": f"{until:.0f}",
            "network_ip": "127.0.0.1",
            "network_port": "5062",
            "network_proto": "udp",
            "hostname": "simulator",
            "metadata": "",
        }
        for phone, until in (switch.registered or {}).items()
    ]
    if not rows:
        return '{"row_count": 0}\n'
    return json.dumps({"row_count": len(rows), "rows": rows}, separators=(",", ":"))


COMMANDS: Mapping[str, ApiCommand[Channel]] = {"sofia": _sofia}
