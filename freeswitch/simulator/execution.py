"""The work of a channel: applications in order, until the channel is hung up or moved."""

import asyncio
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from .channel import Channel, Step, Work
from .clock import TICK
from .dialstring import split
from .switch import Application
from .values import is_true, whole_number

_MAX_STEPS = 128
_MAX_FORWARDS = 70
_VARIABLE = re.compile(r"\$\{([\w-]+)\}")


def start(channel: Channel, steps: Iterable[Step]) -> None:
    """Let a channel execute applications, and then hang it up."""
    channel.steps = deque(steps)
    channel.driven = True
    channel.switch.spawn(drive(channel, execute))


def move(channel: Channel, work: Work) -> None:
    """Interrupt a channel, even in a bridge, and give it other work."""
    channel.turn = work
    if not channel.driven:
        channel.driven = True
        channel.switch.spawn(drive(channel))
    channel.changed()


async def drive(channel: Channel, work: Work | None = None) -> None:
    """Do `work`, then the work that the channel is moved to, and hang up when nothing is left.

    Work that leaves the channel to others sets `driven` to false.
    """
    while True:
        if work:
            await work(channel)
        # A bridge first has to notice that it lost a leg.
        await wait(lambda: not (channel.up and channel.partner), channel)
        work = channel.turn
        if work is None or not channel.up or not channel.driven:
            break
        channel.turn = None
    if channel.driven:
        channel.driven = False
        if channel.up:
            channel.hangup("NORMAL_CLEARING")
        else:
            channel.finish()


async def wait(until: Callable[[], bool], *channels: Channel) -> None:
    """Wait until a condition is true that only changes of these channels can make true."""
    if until():
        return
    changed = asyncio.Event()
    for channel in channels:
        channel.watchers.append(changed.set)
    while not until():
        changed.clear()
        await changed.wait()
    for channel in channels:
        channel.watchers.remove(changed.set)


async def pause(channel: Channel, seconds: float) -> bool:
    """Wait so many seconds. Returns false at once when the channel is not ready any more."""
    changed = asyncio.Event()
    timer = channel.switch.clock.call_later(seconds, changed.set)
    end = channel.switch.clock.now() + seconds
    channel.watchers.append(changed.set)
    while channel.ready and channel.switch.clock.now() < end:
        changed.clear()
        await changed.wait()
    channel.watchers.remove(changed.set)
    timer.cancel()
    return channel.ready


async def execute(channel: Channel) -> None:
    """Execute the applications that a channel has yet to execute."""
    channel.enter_execution()
    while channel.steps and channel.ready:
        name, argument = channel.steps.popleft()
        name = name.lower()
        application = channel.switch.applications.get(name)
        if application is None:
            channel.hangup("DESTINATION_OUT_OF_ORDER")
            return
        argument = _VARIABLE.sub(lambda match: channel.get(match[1]) or "", argument)
        channel.set("current_application", name)
        channel.set("current_application_data", argument)
        await run(application, channel, name, argument)


async def run(
    application: Application[Channel], channel: Channel, name: str, argument: str
) -> None:
    """Run an application between its CHANNEL_EXECUTE and CHANNEL_EXECUTE_COMPLETE."""
    headers = {"Application": name}
    if argument:
        headers["Application-Data"] = argument
    headers["Application-UUID"] = str(uuid.uuid4())
    channel.fire("CHANNEL_EXECUTE", after=headers)
    response = await application(channel, argument) or "_none_"
    execution = headers.pop("Application-UUID")
    headers |= {"Application-Response": response, "Application-UUID": execution}
    channel.fire("CHANNEL_EXECUTE_COMPLETE", after=headers)


def inline(text: str) -> list[Step]:
    """The applications of the dialplan `inline`: `application:argument` with commas between.

    `m:^:` at the start makes `^` the separator.
    """
    separator = ","
    if text.startswith("m:") and text[3:4] == ":":
        separator, text = text[2], text[4:]
    steps = []
    for part in split(text, separator, _MAX_STEPS):
        name, _, argument = part.partition(":")
        steps.append((name.lstrip(" "), argument))
    return steps


def transfer(channel: Channel, extension: str, dialplan: str = "") -> bool:
    """Move a channel to an extension of a dialplan, by default its own.

    A channel that was moved too often is hung up; then it returns false.
    """
    forwards = channel.get("max_forwards")
    left = whole_number(forwards) - 1 if forwards else _MAX_FORWARDS
    if left <= 0:
        channel.hangup("EXCHANGE_ROUTING_ERROR")
        return False
    check_hold(channel)
    channel.set("max_forwards", str(left))
    channel.set("signal_bond", None)
    other = channel.switch.locate(channel.get("bridge_to") or "")
    if other:
        other.set("signal_bond", None)
    channel.renew_profile()
    before = channel.profile
    dialled = before.destination_number
    if not dialplan:
        # A channel of the dialplan inline has no dialplan to stay in.
        dialplan = before.dialplan if before.dialplan.lower() not in ("", "inline") else "XML"
    channel.profile = replace(before, destination_number=extension, dialplan=dialplan)
    channel.other_leg = {}
    remember(channel, f"bl_xfer:{extension}/{before.context}/{dialplan}")
    if dialplan.lower() == "inline":
        channel.steps = deque(inline(extension))

        async def work(channel: Channel) -> None:
            channel.profile = replace(channel.profile, destination_number=dialled)
            await execute(channel)

        move(channel, work)
    else:
        move(channel, _unknown_extension)
    return True


def remember(channel: Channel, what: str) -> None:
    """Note in the channel's variables where it was moved."""
    source = f"{channel.switch.clock.second()}:{uuid.uuid4()}:{what}"
    channel.push("transfer_history", source)
    channel.set("transfer_source", source)


async def _unknown_extension(channel: Channel) -> None:
    """Find no extension: the simulator has no dialplan but `inline`."""
    channel.hangup("NO_ROUTE_DESTINATION")


def check_hold(channel: Channel) -> None:
    """Take a channel off hold before it is moved."""
    if channel.call_state == "HELD":
        channel.take_off_hold()


def park(channel: Channel) -> None:
    """Move a channel out of its application, to wait for the next command."""
    move(channel, _parked)


async def _parked(channel: Channel) -> None:
    channel.enter("CS_PARK")
    await stay_parked(channel)


async def stay_parked(channel: Channel) -> None:
    """Wait for the next command, between CHANNEL_PARK and CHANNEL_UNPARK."""
    channel.fire("CHANNEL_PARK")
    await wait(lambda: not channel.ready, channel)
    await channel.switch.clock.sleep(TICK)
    channel.fire("CHANNEL_UNPARK")


def follow_bridge(channel: Channel) -> bool:
    """Move a channel where its variables send it after a bridge; false if they send it nowhere."""
    if is_true(channel.get("park_after_bridge")):
        park(channel)
        return True
    if where := channel.get("transfer_after_bridge"):
        channel.set("transfer_after_bridge", None)
        extension, dialplan, *_ = [*split(where, ":", 4), ""]
        transfer(channel, extension, dialplan)
        return True
    return False
