"""Applications that a channel can run once it is answered."""

import contextlib
from collections.abc import Mapping
from functools import partial

from . import causes
from .bridge import bridge, intercept
from .channel import Channel
from .dialstring import split
from .execution import pause, run, stay_parked, wait
from .switch import Application
from .values import whole_number

_VOICEMAIL_SECONDS = 60
"""The most seconds that a caller spends at the voice mail."""


async def park(channel: Channel, argument: str) -> None:
    """Stay until hung up or moved."""
    await stay_parked(channel)


async def answer(channel: Channel, argument: str) -> None:
    """Do nothing: a dialled channel runs its applications only after its answer."""


async def set_variable(channel: Channel, argument: str) -> None:
    """Set a variable, `name=value`. An empty value deletes it."""
    name, _, value = argument.partition("=")
    channel.set(name, value)


async def export(channel: Channel, argument: str) -> None:
    """Set a variable, `[nolocal:]name=value`, also on the channels that this one dials."""
    name, _, value = argument.partition("=")
    channel.set(name, value)
    names = [each for each in (channel.get("export_vars") or "").split(",") if each]
    if name not in names:
        channel.set("export_vars", ",".join([*names, name]))


async def sleep(channel: Channel, argument: str) -> None:
    """Wait, in milliseconds."""
    await pause(channel, whole_number(argument) / 1000)


async def playback(channel: Channel, argument: str) -> str:
    """Play until the channel is hung up or moved.

    Silence ends after its milliseconds, if it names them. A tone or stream never ends here. No
    file is found.
    """
    kind, separator, data = argument.partition("://")
    if not separator:
        return "FILE NOT FOUND"
    if kind == "silence_stream" and (milliseconds := whole_number(data)):
        ended = await pause(channel, milliseconds / 1000)
        return "FILE PLAYED" if ended else "PLAYBACK ERROR"
    await wait(lambda: not channel.ready, channel)
    return "PLAYBACK ERROR"


async def hangup(channel: Channel, argument: str) -> None:
    """Hang up with a cause."""
    channel.hangup(causes.named(argument))


async def sched_hangup(channel: Channel, argument: str) -> None:
    """Hang up later: `[+]<seconds> [<cause>]`."""
    schedule_hangup(channel, *split(argument, " ", 2))


def schedule_hangup(channel: Channel, when: str, cause: str = "ALLOTTED_TIMEOUT") -> None:
    """Hang up after `+N` seconds, at once for `+0`, or at a time in seconds since 1970.

    A task more replaces none of before: the first one that is due hangs up.
    """
    end = partial(channel.hangup, causes.named(cause))
    if whole_number(when):
        channel.switch.schedule(channel.uuid, when, end)
    else:
        end()


async def eavesdrop(channel: Channel, argument: str) -> None:
    """Listen to a channel until one of the two is hung up. The simulator has no audio."""
    heard = channel.switch.locate(argument)
    if heard and heard is not channel:
        await wait(lambda: not (channel.ready and heard.up), channel, heard)


async def record_session(channel: Channel, argument: str) -> None:
    """Record into a file: `<path> [+<seconds>]`."""
    path, *limit = [*argument.split(), ""]
    start_recording(channel, path, whole_number(limit[0]))


def start_recording(channel: Channel, path: str, seconds: int = 0) -> bool:
    """Record a channel, for at most `seconds` unless that is 0. Returns false without media.

    RECORD_START and RECORD_STOP come, but the simulator writes no file.
    """
    if not (channel.answered or channel.early):
        return False
    if path not in channel.recordings:
        channel.recordings.append(path)
        channel.switch.note("recording", uuid=channel.uuid, file=path)
        channel.fire("RECORD_START", after={"Record-File-Path": path})
        if seconds:
            channel.later(seconds, lambda: channel.stop_recordings(path))
    return True


async def set_mute(channel: Channel, argument: str) -> None:
    """Do nothing for `read|write [true|false]`: the simulator has no audio."""


async def voicemail(channel: Channel, argument: str) -> None:
    """Take a message, `<profile> <domain> <box>`, and end the call after a minute."""
    await pause(channel, _VOICEMAIL_SECONDS)


APPLICATIONS: Mapping[str, Application[Channel]] = {
    "answer": answer,
    "bridge": bridge,
    "eavesdrop": eavesdrop,
    "export": export,
    "hangup": hangup,
    "intercept": intercept,
    "park": park,
    "playback": playback,
    "record_session": record_session,
    "sched_hangup": sched_hangup,
    "set": set_variable,
    "set_mute": set_mute,
    "sleep": sleep,
    "voicemail": voicemail,
}
_AT_ONCE = (hangup, sched_hangup, set_variable, export, record_session, set_mute)
"""The applications that never wait, so that a channel can run them beside another one."""


def execute_on_answer(channel: Channel, command: str) -> None:
    """Run `application argument` or `application::argument` on a channel that has answered."""
    name, separator, argument = command.partition("::")
    if not separator:
        name, _, argument = command.partition(" ")
    application = APPLICATIONS.get(name.lower())
    if application in _AT_ONCE:
        channel.set("current_application", name)
        channel.set("current_application_data", argument)
        # These never wait, so the coroutine ends at its first step.
        execution = run(application, channel, name, argument)
        with contextlib.suppress(StopIteration):
            execution.send(None)
