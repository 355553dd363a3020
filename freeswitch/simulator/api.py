"""The api commands of the switch, and their exact replies."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

from . import causes, orders, recovery
from .channel import Channel
from .dialstring import application, split
from .execution import start, transfer
from .originate import DialRequest, originate
from .originated import Originated
from .switch import VERSION, ApiCommand, Listener, SwitchCore
from .values import whole_number

_ROWS_AT_ONCE = 500
"""Rows of `show` made at once. All of 20,000 take half a second, which would stall the calls."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_MODULES = """
    mod_commands mod_conference mod_dptools mod_event_socket mod_loopback mod_sofia
    mod_valet_parking mod_voicemail
""".split()
"""The modules whose commands and applications the simulator has."""
_ORIGINATE_USAGE = (
    "-USAGE: <call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>]"
    " [<cid_name>] [<cid_num>] [<timeout_sec>]\n"
)
_FSCTL_USAGE = (
    "[api_expansion [on|off]|recover|send_sighup|hupall|pause [inbound|outbound]"
    "|resume [inbound|outbound]|shutdown [cancel|elegant|asap|now|restart]|sps|sps_peak_reset"
    "|sync_clock|sync_clock_when_idle|reclaim_mem|max_sessions|min_dtmf_duration [num]"
    "|max_dtmf_duration [num]|default_dtmf_duration [num]|min_idle_cpu|loglevel [level]"
    "|debug_level [level]|mdns_resolve [enable|disable]]\n"
)
_SHOW_USAGE = (
    "-USAGE: codec|endpoint|application|api|dialplan|file|timer|calls [count]"
    "|channels [count|like <match string>]|calls|detailed_calls|bridged_calls"
    "|detailed_bridged_calls|aliases|complete|chat|management|modules|nat_map|say|interfaces"
    "|interface_types|tasks|limits|status\n"
)


async def execute(
    switch: SwitchCore[Channel],
    name: str,
    argument: str,
    job_uuid: str | None = None,
    asker: Listener | None = None,
) -> str:
    """Run one api command and return its reply, which may be empty.

    `asker` is the connection that sent the command.
    """
    match name.lower():
        case "originate":
            return await _originate(switch, argument, job_uuid)
        case "fsctl" if argument.split()[:1] == ["shutdown"]:
            return await _shut_down(switch, argument.split()[1:])
        case "show":
            return await _show(switch, argument)
        case "simulator":
            return _simulator(switch, argument, asker)
    command = switch.commands.get(name.lower())
    if command is None:
        return f"-ERR {name} Command not found!\n"
    return command(switch, argument)


async def _originate(switch: SwitchCore[Channel], argument: str, job_uuid: str | None) -> str:
    record = Originated(job_uuid, argument)
    switch.originates.append(record)
    switch.note("originate", job_uuid=job_uuid, command=argument)
    record.result = await _dial(switch, argument, record)
    switch.note("result", job_uuid=job_uuid, result=record.result)
    return record.result


async def _dial(switch: SwitchCore[Channel], argument: str, record: Originated) -> str:
    words = split(argument, " ", 10)
    if not 2 <= len(words) <= 7 or "undef" in (words[0].lower(), words[1].lower()):
        return _ORIGINATE_USAGE
    if switch.faults.refuse:
        return f"-ERR {switch.faults.refuse}\n"
    given: list[str | None] = [word if word.lower() != "undef" else None for word in words]
    dial_string, destination, dialplan, _, name, number, seconds = given + [None] * (7 - len(given))
    variables = {}
    if name:
        variables["origination_caller_id_name"] = name
    if number:
        variables["origination_caller_id_number"] = number
    if wait := switch.busy():
        await switch.clock.sleep(wait)
    request = DialRequest(switch, record, timeout=whole_number(seconds), variables=variables)
    channel, cause = await originate(request, dial_string or "")
    if channel is None:
        return f"-ERR {cause}\n"
    called = application(destination or "")
    if called:
        start(channel, [called])
    else:
        transfer(channel, destination or "", dialplan or "")
    channel.release()
    return f"+OK {channel.uuid}\n"


def _hupall(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 11)
    cause = causes.named(words[0]) if words else "MANAGER_REQUEST"
    pairs = dict(zip(words[1::2], words[2::2], strict=False))
    switch.hang_up_all(cause, pairs)
    if not pairs:
        return f"+OK hangup all channels with cause {cause}\n"
    more = "..." if len(pairs) > 1 else ""
    matching = f"[{words[1]}]=[{words[2]}]{more}"
    return f"+OK hangup all channels matching {matching} with cause: {cause}\n"


def _fsctl(switch: SwitchCore[Channel], argument: str) -> str:
    words = argument.split()
    match words:
        case []:
            return f"-USAGE: {_FSCTL_USAGE}"
        case ["pause" | "resume" as what, *rest]:
            ways = {"inbound", "outbound"} & set(rest) or {"inbound", "outbound"}
            switch.paused = switch.paused | ways if what == "pause" else switch.paused - ways
            return "+OK\n"
        case ["pause_check", *rest]:
            ways = {"inbound", "outbound"} & set(rest) or {"inbound", "outbound"}
            return "true" if ways <= switch.paused else "false"
        case ["ready_check"]:
            return "true" if _is_ready(switch) else "false"
        case ["shutdown_check"]:
            return "true" if switch.shutting_down else "false"
        case ["sps", *rest]:
            # The new limit counts from the next second on.
            if limit := whole_number("".join(rest[:1])):
                switch.sessions_per_second = limit
            return f"+OK sessions per second: {switch.sessions_per_second}\n"
        case ["max_sessions", *rest]:
            if limit := whole_number("".join(rest[:1])):
                switch.max_sessions = limit
            return f"+OK max sessions: {switch.max_sessions}\n"
    return f"-ERR Invalid command\nUSAGE: fsctl {_FSCTL_USAGE}"


def _is_ready(switch: SwitchCore[Channel]) -> bool:
    return switch.paused < {"inbound", "outbound"}


async def _shut_down(switch: SwitchCore[Channel], words: list[str]) -> str:
    """End the switch. The reply comes once it ends, or once that is cancelled."""
    if "cancel" in words:
        switch.shutting_down = False
    elif "elegant" in words or "asap" in words:
        await switch.shut_down(asap="asap" in words)
    else:
        switch.end()
    return "+OK\n"


_GATEWAY_STATES = {"up": ("NOREG", "UP"), "dead": ("NOREG", "UP"), "down": ("FAILED", "DOWN")}


def _sofia(switch: SwitchCore[Channel], argument: str) -> str:
    match argument.split():
        case ["status", "gateway", name]:
            known, refuses = switch.gateways.get(name), switch.faults.refuse
            if refuses == "GATEWAY_DOWN":
                known = known and "down"
            if known is None or refuses == "INVALID_GATEWAY":
                return "Invalid Gateway!\n"
            line = "=" * 97
            state, status = _GATEWAY_STATES[known]
            rows = {"Name": name, "Profile": "external", "State": state, "Status": status}
            text = "".join(f"{key:<8}\t{value}\n" for key, value in rows.items())
            return f"{line}\n{text}{line}\n"
    return "-ERR Unknown command!\n"


def _global_getvar(switch: SwitchCore[Channel], argument: str) -> str:
    known = {"core_uuid": switch.core_uuid, "hostname": "simulator", "domain": "127.0.0.1"}
    return known.get(argument.strip(), "")


def _status(switch: SwitchCore[Channel], argument: str) -> str:
    used = switch.sessions_this_second()
    return (
        f"UP {switch.uptime_text()}\n"
        f"FreeSWITCH (Version {VERSION} simulator) is {'' if _is_ready(switch) else 'not '}ready\n"
        f"{switch.sessions_since_startup} session(s) since startup\n"
        f"{len(switch.channels)} session(s) - peak {switch.peak}, last 5min {switch.peak} \n"
        f"{used} session(s) per Sec out of max {switch.sessions_per_second},"
        f" peak {used}, last 5min {used} \n"
        f"{switch.max_sessions} session(s) max\n"
        f"min idle cpu 0.00/{switch.idle_cpu:.2f}\n"
        "Current Stack Size/Max 240K/8192K\n"
    )


def _module_exists(switch: SwitchCore[Channel], argument: str) -> str:
    return "true" if argument in _MODULES else "false"


def _version(switch: SwitchCore[Channel], argument: str) -> str:
    return f"FreeSWITCH Version {VERSION} (simulator)\n"


def _simulator(switch: SwitchCore[Channel], argument: str, asker: Listener | None) -> str:
    """The simulator's own command. It lists the originate commands and orders faults."""
    words = argument.split()
    if words == ["originates"]:
        return json.dumps([asdict(record) for record in switch.originates], ensure_ascii=False)
    return orders.order(switch, words, asker)


async def _show(switch: SwitchCore[Channel], argument: str) -> str:
    words = argument.split()
    what, rest = (words[0], words[1:]) if words else ("", [])
    if words == ["registrations", "as", "json"]:
        return recovery.registrations(switch)
    if what == "channels":
        row_of, channels = _channel_row, tuple(switch.channels.values())
    elif what == "calls":
        # A row is a bridge, or a channel that is not in a bridge.
        row_of = partial(_call_row, switch)
        channels = tuple(each for each in switch.channels.values() if not each.get("originator"))
    else:
        return _SHOW_USAGE
    as_json = rest[-2:] == ["as", "json"]
    if rest[:1] == ["count"]:
        # The switch's JSON lacks the number here; only its text has it.
        return '{"row_count":0,"rows":[]}' if as_json else f"\n{len(channels)} total.\n"
    if not channels:
        return '{"row_count": 0}\n' if as_json else "\n0 total.\n"
    rows = []
    for first in range(0, len(channels), _ROWS_AT_ONCE):
        batch = map(row_of, channels[first : first + _ROWS_AT_ONCE])
        rows += [_encode(row) if as_json else ",".join(row.values()) for row in batch]
        await asyncio.sleep(0)
    if as_json:
        return f'{{"row_count":{len(rows)},"rows":[{",".join(rows)}]}}'
    return "\n".join([",".join(row_of(channels[0])), *rows]) + f"\n\n{len(rows)} total.\n"


def _channel_row(channel: Channel) -> dict[str, str]:
    profile = channel.profile
    sent = channel.get("last_sent_callee_id_number") or ""
    media = ("PCMU", "8000", "64000") if channel.answered else ("", "", "")
    return {
        **_party(channel),
        "application": (channel.get("current_application") or ""),
        "application_data": (channel.get("current_application_data") or ""),
        "dialplan": profile.dialplan,
        "context": profile.context,
        "read_codec": media[0],
        "read_rate": media[1],
        "read_bit_rate": media[2],
        "write_codec": media[0],
        "write_rate": media[1],
        "write_bit_rate": media[2],
        "secure": "",
        "hostname": "simulator",
        "presence_id": channel.get("presence_id") or "",
        "presence_data": "",
        "accountcode": channel.get("accountcode") or "",
        "callstate": channel.call_state,
        "callee_name": profile.callee_id_name,
        "callee_num": profile.callee_id_number,
        "callee_direction": "SEND" if sent else "",
        "call_uuid": channel.get("call_uuid") or channel.uuid,
        "sent_callee_name": sent,
        "sent_callee_num": sent,
        "initial_cid_name": channel.initial_caller_id[0],
        "initial_cid_num": channel.initial_caller_id[1],
        "initial_ip_addr": "",
        "initial_dest": profile.destination_number,
        "initial_dialplan": profile.dialplan,
        "initial_context": profile.context,
    }


def _party(channel: Channel) -> dict[str, str]:
    profile = channel.profile
    created = channel.times.created // 1_000_000
    return {
        "uuid": channel.uuid,
        "direction": "outbound",
        "created": channel.created_stamp(),
        "created_epoch": str(created),
        "name": channel.name,
        "state": channel.state,
        "cid_name": profile.caller_id_name,
        "cid_num": profile.caller_id_number,
        "ip_addr": profile.network_addr if channel.get("originator") else "",
        "dest": profile.destination_number,
    }


_CALL_PARTY = """
    presence_id presence_data accountcode callstate callee_name callee_num callee_direction
    call_uuid hostname sent_callee_name sent_callee_num
""".split()


def _call_row(switch: SwitchCore[Channel], channel: Channel) -> dict[str, str]:
    row = _call_party(channel)
    peer = switch.channels.get(channel.get("bridge_to") or "")
    theirs = _call_party(peer) if peer else dict.fromkeys(row, "")
    for name in ("call_uuid", "hostname"):
        del theirs[name]
    bridged = str(channel.times.bridged // 1_000_000) if peer else ""
    return {
        **row,
        **{f"b_{name}": value for name, value in theirs.items()},
        "call_created_epoch": bridged,
    }


def _call_party(channel: Channel) -> dict[str, str]:
    row = _channel_row(channel)
    return _party(channel) | {name: row[name] for name in _CALL_PARTY}


COMMANDS: Mapping[str, ApiCommand[Channel]] = {
    "fsctl": _fsctl,
    "global_getvar": _global_getvar,
    "hupall": _hupall,
    "module_exists": _module_exists,
    "sofia": _sofia,
    "status": _status,
    "version": _version,
}
