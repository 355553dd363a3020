"""Bridges: how two channels join, and where each goes when the other leaves.

Read from switch_ivr_bridge.c and measured on FreeSWITCH 1.10.12.
"""

from dataclasses import replace

from .channel import Channel, Work
from .clock import TICK, microseconds
from .execution import check_hold, execute, follow_bridge, move, remember, wait
from .originate import DialRequest, handle_failure, originate
from .values import is_true


async def bridge(channel: Channel, argument: str) -> None:
    """Dial, and bridge this channel to the one that answers until one of the two leaves."""
    if not argument:
        return
    peer, cause = await originate(
        DialRequest(channel.switch, channel.record, caller=channel), argument
    )
    if peer is None:
        channel.set("originate_failed_cause", cause)
        handle_failure(channel, cause)
        return
    try:
        await _joined(channel, peer)
    finally:
        peer.release()


async def _joined(channel: Channel, peer: Channel) -> None:
    """Let two channels talk until one is hung up or moved.

    Then the other goes where its variables send it, or is hung up. `channel` is the one that asked
    for the bridge.
    """
    channel.switch.note("bridge", uuid=channel.uuid, other=peer.uuid)
    channel.times.bridged = microseconds()
    both = {"Bridge-A-Unique-ID": channel.uuid, "Bridge-B-Unique-ID": peer.uuid}
    peer.variables["variable_call_uuid"] = channel.uuid
    channel.fire("CHANNEL_BRIDGE", before=both)
    peer.times.bridged = channel.times.bridged
    peer.enter("CS_EXCHANGE_MEDIA")
    for leg, other in ((channel, peer), (peer, channel)):
        leg.partner = other
        leg.audio.join(other.audio)
        leg.set("bridge_to", other.uuid)
        leg.set("last_bridge_to", other.uuid)
        leg.set("bridge_channel", other.name)
        leg.set("bridge_uuid", other.uuid)
        leg.set("signal_bond", other.uuid)
    for leg, shown in ((channel, peer.profile), (peer, channel.profile)):
        number = shown.callee_id_number if leg is channel else shown.caller_id_number
        leg.set("last_sent_callee_id_name", number)
        leg.set("last_sent_callee_id_number", number)
    if application := channel.get("bridge_pre_execute_bleg_app"):
        data = channel.get("bridge_pre_execute_bleg_data") or ""
        channel.switch.execute_on_answer(peer, f"{application} {data}")
    await wait(lambda: not (channel.ready and peer.ready), channel, peer)
    peer.set("last_bridge_role", "originatee")
    await channel.switch.clock.sleep(TICK)
    for leg in (channel, peer):
        leg.set("bridge_to", None)
        leg.partner = None
        leg.audio.part()
    if peer.ready and not follow_bridge(peer):
        peer.hangup("NORMAL_CLEARING")
    if channel.cause:
        peer.set("bridge_hangup_cause", channel.cause)
    if peer.cause:
        channel.set("bridge_hangup_cause", peer.cause)
    if not peer.driven:
        peer.finish()
    peer.variables["variable_call_uuid"] = peer.uuid
    channel.fire("CHANNEL_UNBRIDGE", before=both)
    if channel.ready and not follow_bridge(channel) and is_true(channel.get("hangup_after_bridge")):
        channel.hangup(peer.cause or "NORMAL_CLEARING")
    peer.changed()


def uuid_bridge(channel: Channel, peer: Channel) -> bool:
    """Interrupt two channels and bridge them. Returns false if neither is answered."""
    for leg in (channel, peer):
        check_hold(leg)
    channel.flip_caller_id()
    if not (channel.answered or channel.early):
        if not (peer.answered or peer.early):
            return False
        channel, peer = peer, channel
    peer.hit_dialplan = "false"
    for leg, other in ((channel, peer), (peer, channel)):
        leg.set("bridge_channel", other.name)
        leg.set("bridge_uuid", other.uuid)
        leg.set("signal_bond", other.uuid)
        leg.set("original_destination_number", leg.profile.destination_number)
        leg.set("original_caller_id_name", leg.profile.caller_id_name)
        leg.set("original_caller_id_number", leg.profile.caller_id_number)
        leg.renew_profile()
        remember(leg, f"uuid_br:{other.uuid}")
    channel.set("uuid_bridge", peer.uuid)
    peer.other_leg, channel.other_leg = channel.as_originator(), peer.as_originatee()
    ours, theirs = channel.profile, peer.profile
    channel.profile = replace(
        ours, callee_id_name=theirs.callee_id_name, callee_id_number=theirs.callee_id_number
    )
    peer.profile = replace(
        theirs, caller_id_name=ours.caller_id_name, caller_id_number=ours.caller_id_number
    )
    work = _bridged_to(peer)
    move(peer, _expecting)
    move(channel, work)
    return True


async def _expecting(channel: Channel) -> None:
    """Wait for the channel that was told to bridge to this one. It does the rest."""
    channel.enter("CS_SOFT_EXECUTE")
    channel.driven = False
    channel.changed()


def _bridged_to(peer: Channel) -> Work:
    async def work(channel: Channel) -> None:
        await _join_when_there(channel, peer)
        if channel.ready:
            await execute(channel)

    return work


async def _join_when_there(channel: Channel, peer: Channel) -> None:
    channel.set("uuid_bridge", None)
    channel.enter("CS_SOFT_EXECUTE")
    await wait(
        lambda: not (channel.ready and peer.up and (peer.driven or peer.turn)), channel, peer
    )
    if channel.ready and not peer.up and follow_bridge(channel):
        return
    if not (channel.ready and peer.ready):
        for leg in (channel, peer):
            if leg.ready:
                leg.hangup("DESTINATION_OUT_OF_ORDER")
        return
    peer.keep()
    try:
        for leg, other in ((channel, peer), (peer, channel)):
            data = {"Application": "uuid_bridge", "Application-Data": other.uuid}
            leg.fire("CHANNEL_EXECUTE", after=data)
        await _joined(channel, peer)
    finally:
        peer.release()


async def intercept(channel: Channel, argument: str) -> None:
    """Take a channel over from the channel that it talks to or calls: `[-bleg] <uuid>`."""
    switch = channel.switch
    first, *rest = [*argument.split(), ""]
    wanted = switch.locate(rest[0] if first == "-bleg" else first)
    if wanted and first == "-bleg":
        wanted = wanted.partner
    if wanted is None or wanted is channel:
        return
    if is_true(channel.get("intercept_unbridged_only")) and wanted.partner:
        return
    if is_true(channel.get("intercept_unanswered_only")) and wanted.answered:
        return
    other = switch.locate(wanted.get("signal_bond") or wanted.get("originate_signal_bond") or "")
    if other and other is not channel:
        other.set("park_after_bridge", "true")
    uuid_bridge(channel, wanted)
    if other and other is not channel:
        other.hangup("PICKED_OFF")
