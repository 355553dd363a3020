"""What a channel can do once it is answered: bridge, park, playback, hangup, sched_hangup."""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable

from . import causes
from .channel import Channel
from .clock import TICK, microseconds
from .dialstring import split
from .originate import Request, handle_failure, is_true, originate, whole_number

Application = Callable[[Channel, str], Awaitable[str | None]]
"""Runs to its end; returns the response, if it has one."""


async def bridge(channel: Channel, argument: str) -> None:
    """Dial, and join the one who answers with this channel until one of them hangs up."""
    if not argument:
        return
    peer, cause = await originate(Request(channel.switch, channel.record, caller=channel), argument)
    if peer is None:
        channel.set("originate_failed_cause", cause)
        handle_failure(channel, cause)
        return
    try:
        await _joined(channel, peer)
    finally:
        peer.release()


async def _joined(channel: Channel, peer: Channel) -> None:
    channel.switch.note("bridge", uuid=channel.uuid, other=peer.uuid)
    channel.times.bridged = microseconds()
    both = {"Bridge-A-Unique-ID": channel.uuid, "Bridge-B-Unique-ID": peer.uuid}
    channel.fire("CHANNEL_BRIDGE", before=both)
    peer.times.bridged = channel.times.bridged
    peer.enter("CS_EXCHANGE_MEDIA")
    for leg, other in ((channel, peer), (peer, channel)):
        leg.set("bridge_to", other.uuid)
        leg.set("last_bridge_to", other.uuid)
        leg.set("bridge_channel", other.name)
        leg.set("bridge_uuid", other.uuid)
        leg.set("signal_bond", other.uuid)
    for leg, shown in ((channel, peer.profile), (peer, channel.profile)):
        number = shown.callee_id_number if leg is channel else shown.caller_id_number
        leg.set("last_sent_callee_id_name", number)
        leg.set("last_sent_callee_id_number", number)
    await _until_one_is_down(channel, peer)
    peer.set("last_bridge_role", "originatee")
    await channel.switch.clock.sleep(TICK)
    for leg in (channel, peer):
        leg.set("bridge_to", None)
    if peer.up:
        peer.hangup("NORMAL_CLEARING")
    if channel.cause:
        peer.set("bridge_hangup_cause", channel.cause)
    if peer.cause:
        channel.set("bridge_hangup_cause", peer.cause)
    peer.finish()
    peer.variables["variable_call_uuid"] = peer.uuid
    channel.fire("CHANNEL_UNBRIDGE", before=both)
    if channel.up and is_true(channel.get("hangup_after_bridge")):
        channel.hangup(peer.cause or "NORMAL_CLEARING")


async def _until_one_is_down(*channels: Channel) -> None:
    changed = asyncio.Event()
    for channel in channels:
        channel.watchers.append(changed.set)
    while all(channel.up for channel in channels):
        changed.clear()
        await changed.wait()
    for channel in channels:
        channel.watchers.remove(changed.set)


async def park(channel: Channel, argument: str) -> None:
    """Stay until hung up."""
    channel.fire("CHANNEL_PARK")
    await _until_one_is_down(channel)
    await channel.switch.clock.sleep(TICK)
    channel.fire("CHANNEL_UNPARK")


async def playback(channel: Channel, argument: str) -> str:
    """Play until hung up. A tone or stream has no end here; a file is not found."""
    if "://" not in argument:
        return "FILE NOT FOUND"
    await _until_one_is_down(channel)
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


_APPLICATIONS: dict[str, Application] = {
    "bridge": bridge,
    "park": park,
    "playback": playback,
    "hangup": hangup,
    "sched_hangup": sched_hangup,
}


async def run(channel: Channel, name: str, argument: str) -> None:
    """Let a channel execute an application, and hang it up when that is over."""
    name = name.lower()
    application = _APPLICATIONS.get(name)
    channel.enter_execution()
    if application is None:
        channel.hangup("DESTINATION_OUT_OF_ORDER")
        return
    channel.application_started(name, argument)
    try:
        if channel.up:
            await _execute(application, channel, name, argument)
    finally:
        channel.application_ended()


async def _execute(application: Application, channel: Channel, name: str, argument: str) -> None:
    headers = {"Application": name}
    if argument:
        headers["Application-Data"] = argument
    headers["Application-UUID"] = str(uuid.uuid4())
    channel.fire("CHANNEL_EXECUTE", after=headers)
    response = await application(channel, argument) or "_none_"
    execution = headers.pop("Application-UUID")
    headers |= {"Application-Response": response, "Application-UUID": execution}
    channel.fire("CHANNEL_EXECUTE_COMPLETE", after=headers)


def execute_on_answer(channel: Channel, command: str) -> None:
    """Run `application argument`, or `application::argument`, on a channel just answered."""
    name, separator, argument = command.partition("::")
    if not separator:
        name, _, argument = command.partition(" ")
    application = _APPLICATIONS.get(name.lower())
    if application in (hangup, sched_hangup):
        channel.set("current_application", name)
        channel.set("current_application_data", argument)
        # These two never wait, so the coroutine is over at its first step.
        execution = _execute(application, channel, name, argument)
        with contextlib.suppress(StopIteration):
            execution.send(None)
