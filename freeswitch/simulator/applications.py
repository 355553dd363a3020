"""What a channel can do once it is answered."""

import contextlib
from collections.abc import Mapping

from . import causes
from .bridge import bridge, intercept
from .channel import Channel
from .conference import conference
from .dialstring import split
from .execution import Application, pause, run, stay_parked, wait
from .originate import whole_number
from .valet import valet_park

_VOICEMAIL_SECONDS = 60
"""How long a caller is at the voice mail at most."""


async def park(channel: Channel, argument: str) -> None:
    """Stay until hung up or moved."""
    await stay_parked(channel)


async def answer(channel: Channel, argument: str) -> None:
    """Nothing: what is dialled here executes when it is answered."""


async def set_variable(channel: Channel, argument: str) -> None:
    """`name=value`; no value takes the variable away."""
    name, _, value = argument.partition("=")
    channel.set(name, value)


async def export(channel: Channel, argument: str) -> None:
    """`[nolocal:]name=value`: a variable for the channels that this one dials too."""
    name, _, value = argument.partition("=")
    channel.set(name, value)
    names = [each for each in (channel.get("export_vars") or "").split(",") if each]
    if name not in names:
        channel.set("export_vars", ",".join([*names, name]))


async def sleep(channel: Channel, argument: str) -> None:
    """Wait for so many milliseconds."""
    await pause(channel, whole_number(argument) / 1000)


async def playback(channel: Channel, argument: str) -> str:
    """Play until hung up or moved. Silence ends after its milliseconds, if it has some; a tone or
    stream has no end here, and a file is not found."""
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
    """Hang up after `+N` seconds, at once for `+0`, or at a second since 1970."""
    clock = channel.switch.clock
    seconds = whole_number(when.removeprefix("+"))
    if not seconds:
        channel.hangup(causes.named(cause))
        return
    second = seconds + (clock.second() if when.startswith("+") else 0)
    clock.call_at_second(second, lambda: channel.hangup(causes.named(cause)))


async def eavesdrop(channel: Channel, argument: str) -> None:
    """Listen to a channel until either is hung up. Who hears whom is of no matter here."""
    heard = channel.switch.locate(argument)
    if heard and heard is not channel:
        await wait(lambda: not (channel.ready and heard.up), channel, heard)


async def record_session(channel: Channel, argument: str) -> None:
    """Record to a file: `<path> [+<seconds>]`."""
    path, *limit = [*argument.split(), ""]
    start_recording(channel, path, whole_number(limit[0]))


def start_recording(channel: Channel, path: str, seconds: int = 0) -> bool:
    """Record a channel, no more than `seconds` if that is not 0; false if it has no media.

    RECORD_START and RECORD_STOP come as if something was recorded, but no file is written.
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
    """`read|write [true|false]`: who is heard is of no matter here."""


async def voicemail(channel: Channel, argument: str) -> None:
    """Leave a message: `<profile> <domain> <box>`. The caller is cut off in the end."""
    await pause(channel, _VOICEMAIL_SECONDS)


APPLICATIONS: Mapping[str, Application] = {
    "answer": answer,
    "bridge": bridge,
    "conference": conference,
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
    "valet_park": valet_park,
    "voicemail": voicemail,
}
_AT_ONCE = (hangup, sched_hangup, set_variable, export, record_session, set_mute)
"""Those that never wait, so that a channel can run them beside what it does."""


def execute_on_answer(channel: Channel, command: str) -> None:
    """Run `application argument`, or `application::argument`, on a channel just answered."""
    name, separator, argument = command.partition("::")
    if not separator:
        name, _, argument = command.partition(" ")
    application = APPLICATIONS.get(name.lower())
    if application in _AT_ONCE:
        channel.set("current_application", name)
        channel.set("current_application_data", argument)
        # These never wait, so the coroutine is over at its first step.
        execution = run(application, channel, name, argument)
        with contextlib.suppress(StopIteration):
            execution.send(None)
