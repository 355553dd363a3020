"""The api commands on one channel, with the exact replies of the switch."""

import json
from collections.abc import Mapping
from functools import partial

from . import causes
from .applications import schedule_hangup, start_recording
from .bridge import uuid_bridge
from .channel import Channel
from .dialstring import split
from .execution import park, transfer
from .switch import ApiCommand, SwitchCore
from .values import whole_number

_NO_CHANNEL = "-ERR No such channel!\n"
_TRANSFER_USAGE = "-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n"
_RECORD_USAGE = "-USAGE: <uuid> [start|stop|mask|unmask] <path> [<limit>] [<recording_vars>]\n"
_AUDIO_USAGE = "-USAGE: <uuid> [start [read|write] [mute|level <level>]|stop]\n"
_FAILED = "-ERR Operation failed\n"


def _uuid_kill(switch: SwitchCore[Channel], argument: str) -> str:
    if not argument.strip():
        return "-USAGE: <uuid> [cause]\n"
    channel_uuid, _, cause = argument.partition(" ")
    channel = switch.locate(channel_uuid)
    if channel is None:
        return _NO_CHANNEL
    channel.hangup(causes.named(cause))
    return "+OK\n"


def _uuid_exists(switch: SwitchCore[Channel], argument: str) -> str:
    return "true" if switch.locate(argument) else "false"


def _uuid_getvar(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 4)
    if len(words) < 2:
        return "-USAGE: <uuid> <var>\n"
    channel = switch.locate(words[0])
    if channel is None:
        return _NO_CHANNEL
    return channel.get(words[1]) or "_undef_"


def _uuid_setvar(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 3)
    if len(words) < 2:
        return "-USAGE: <uuid> <var> [value]\n"
    channel = switch.locate(words[0])
    if channel is None:
        return _NO_CHANNEL
    channel.set(words[1], words[2] if len(words) > 2 else None)
    return "+OK\n"


def _uuid_dump(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 2)
    if not words:
        return "-USAGE: <uuid> [format]\n"
    channel = switch.locate(words[0])
    if channel is None:
        return _NO_CHANNEL
    headers = switch.dump(channel)
    if words[1:] == ["json"]:
        return json.dumps(headers, ensure_ascii=False, separators=(",", ":"))
    return "".join(f"{name}: {value}\n" for name, value in headers.items()) + "\n"


def _sched_hangup(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 4)
    if not words:
        return "-USAGE: [+]<time> <uuid> [<cause>]\n"
    channel = switch.locate(words[1]) if len(words) > 1 else None
    if channel is None:
        return _NO_CHANNEL
    schedule_hangup(channel, words[0], *words[2:3])
    return "+OK\n"


def _sched_api(switch: SwitchCore[Channel], argument: str) -> str:
    when, _, rest = argument.partition(" ")
    group, _, command = rest.partition(" ")
    if not command:
        return "-ERR Invalid syntax. USAGE: [+@]<time> <group_name> <command_string>[&]\n"
    switch.schedule(group, when, partial(switch.run, command))
    return f"+OK Added: {next(switch.task_numbers)}\n"


def _sched_del(switch: SwitchCore[Channel], argument: str) -> str:
    # The group of a scheduled hang-up is the channel's uuid. No task is found by its number here.
    tasks = switch.scheduled.pop(argument, [])
    for task in tasks:
        task.cancel()
    return f"+OK Deleted: {len(tasks)}\n"


def _uuid_setvar_multi(switch: SwitchCore[Channel], argument: str) -> str:
    channel_uuid, space, variables = argument.partition(" ")
    if not space:
        # Like the switch, reply `-USAGE` only to an empty argument.
        return "" if argument else "-USAGE: <uuid> <var>=<value>;<var>=<value>...\n"
    channel = switch.locate(channel_uuid)
    if channel is None:
        return f"{_NO_CHANNEL}-USAGE: <uuid> <var>=<value>;<var>=<value>...\n"
    for item in split(variables, ";", 64):
        name, _, value = item.partition("=")
        channel.set(name, value)
    return "+OK\n"


def _uuid_hold(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 4)
    if not words:
        return f"-USAGE: [off|toggle] <uuid> [<display>]\n{_FAILED}"
    order = words.pop(0).lower() if words[0].lower() in ("off", "toggle") else "on"
    channel = switch.locate(words[0]) if words else None
    if channel is None:
        return "+OK Success\n"
    held = channel.call_state == "HELD"
    if order == "toggle":
        order = "off" if held else "on" if channel.call_state == "ACTIVE" else ""
    elif held == (order == "on"):
        return _FAILED
    if order == "on":
        channel.put_on_hold()
    elif order == "off":
        channel.take_off_hold()
    return "+OK Success\n"


def _uuid_media_reneg(switch: SwitchCore[Channel], argument: str) -> str:
    usage = "" if argument else "-USAGE: <uuid>[ <codec_string>]\n"
    channel = switch.locate(argument.split(" ", 1)[0])
    if channel is None:
        return usage + "-ERR Operation Failed\n"
    channel.watch_audio(read=True)
    return "+OK Success\n"


def _uuid_recv_dtmf(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 2)
    if len(words) < 2:
        return "-USAGE: <uuid> <dtmf_data>\n"
    channel = switch.locate(words[0])
    if channel is None:
        return "-ERR Cannot locate session!\n"
    channel.press(words[1])
    return f"+OK {words[0]} received DTMF {words[1]}.\n"


def _uuid_park(switch: SwitchCore[Channel], argument: str) -> str:
    if not argument:
        return "-USAGE: <uuid>\n"
    channel = switch.locate(argument)
    if channel is None:
        return _NO_CHANNEL
    park(channel)
    return "+OK\n"


def _uuid_transfer(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 5)
    if len(words) < 2:
        return _TRANSFER_USAGE
    channel = switch.locate(words[0])
    if channel is None:
        return _NO_CHANNEL
    which = words.pop(1).lower() if words[1].startswith("-") else ""
    extension, dialplan = [*words[1:], "", ""][:2]
    partner = channel.partner
    if which == "-both" and partner:
        transfer(partner, extension, dialplan)
    elif which == "-bleg" and partner:
        channel = partner
    return "+OK\n" if transfer(channel, extension, dialplan) else "-ERR\n"


def _uuid_bridge(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 4)
    if len(words) < 2:
        return "-USAGE: <uuid> <other_uuid>\n"
    channel = switch.locate(words[0])
    for other_uuid in words[1:3]:
        other = switch.locate(other_uuid)
        if channel and other and channel is not other and uuid_bridge(channel, other):
            return f"+OK {other_uuid}\n"
    return "-ERR Invalid uuid\n"


def _uuid_record(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 5)
    if len(words) < 3:
        return _RECORD_USAGE
    channel = switch.locate(words[0])
    if channel is None:
        return "-ERR Cannot locate session!\n"
    path, limit = words[2], whole_number("".join(words[3:4]))
    match words[1].lower():
        case "start":
            done, what = start_recording(channel, path, limit), "record session"
        case "stop":
            paths = [] if path.lower() == "all" else [path]
            done, what = channel.stop_recordings(*paths), "stop record session"
        case "pause" | "resume" | "mask" | "unmask" as order:
            done, what = path in channel.recordings, f"{order} recording session"
        case _:
            return _RECORD_USAGE
    return "+OK Success\n" if done else f"-ERR Cannot {what}!\n"


def _uuid_broadcast(switch: SwitchCore[Channel], argument: str) -> str:
    words = split(argument, " ", 4)
    if len(words) < 2:
        return "-USAGE: <uuid> <path> [aleg|bleg|holdb|both]\n"
    return "+OK Message sent\n" if switch.locate(words[0]) else "-ERR invalid uuid\n"


def _uuid_audio(switch: SwitchCore[Channel], argument: str) -> str:
    words = argument.lower().split()
    if len(words) < 2:
        return _AUDIO_USAGE
    if switch.locate(words[0]) is None:
        return _NO_CHANNEL
    match words[1:]:
        case ["stop", *_] | ["start", "read" | "write", "mute" | "level", _, *_]:
            return "+OK\n"
    return _AUDIO_USAGE


COMMANDS: Mapping[str, ApiCommand[Channel]] = {
    "sched_api": _sched_api,
    "sched_del": _sched_del,
    "sched_hangup": _sched_hangup,
    "uuid_audio": _uuid_audio,
    "uuid_bridge": _uuid_bridge,
    "uuid_broadcast": _uuid_broadcast,
    "uuid_dump": _uuid_dump,
    "uuid_exists": _uuid_exists,
    "uuid_getvar": _uuid_getvar,
    "uuid_hold": _uuid_hold,
    "uuid_kill": _uuid_kill,
    "uuid_media_reneg": _uuid_media_reneg,
    "uuid_park": _uuid_park,
    "uuid_record": _uuid_record,
    "uuid_recv_dtmf": _uuid_recv_dtmf,
    "uuid_setvar": _uuid_setvar,
    "uuid_setvar_multi": _uuid_setvar_multi,
    "uuid_transfer": _uuid_transfer,
}
