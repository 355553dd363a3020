"""The jobs: short, and none of them waits for a phone.

RQ runs these by their dotted names in the process that :func:`bind` was called in.
"""

import logging
import time
from dataclasses import dataclass

from app.calls import transitions, watch
from app.calls.model import Call, Leg, NumberKind, State
from app.calls.store import Note, NotReplicated
from freeswitch import commands, dialstring
from freeswitch.event_socket import CommandRefused, EventSocketError, SwitchConnection
from freeswitch.pool import SwitchPool
from workers.runtime import CALL_VARIABLE, Runtime

log = logging.getLogger(__name__)

# Seconds that a hang-up waits for a switch that is away, and for its answer; after that the
# listener sees to it. Those for other switches wait behind it.
_HANG_UP_WAIT = 0.3
_HANG_UP_LIMIT = 1.0


@dataclass(frozen=True)
class JobContext:
    runtime: Runtime
    pool: SwitchPool


_context: JobContext | None = None


def bind(context: JobContext) -> None:
    """Give the jobs of this process their connections."""
    global _context
    _context = context


def _bound() -> JobContext:
    if _context is None:
        raise RuntimeError("this process was not started as `ringback worker`")
    return _context


def place_call(call_id: str) -> None:
    """Claim the call, send the one originate that holds it, note that it was sent.

    A call that is not queued any more was cancelled, or claimed before: by a job that died
    then, or by this very job in a worker that died. Nothing is ever sent for it again; the
    watchdog asks the switch what became of it.
    """
    context = _bound()
    store = context.runtime.store
    call = store.get(call_id)
    if call is None or call.state is not State.QUEUED:
        return
    left = watch.queued_until(call) - store.now()
    connection = context.pool.choose(timeout=left) if left > 0 else None
    if connection is None and context.pool.stopped and left > 0:
        context.runtime.queue.place_again(call)
        return
    if connection is None:
        # Nobody expects it to ring any more.
        at = store.now()
        store.change(
            call,
            lambda c: transitions.end_queued(c, at=at),
            Note("event", transitions.QUEUE_TIMEOUT, data="no switch is up" if left > 0 else None),
        )
        return
    at, worker = store.now(), context.runtime.name
    send_before = time.monotonic() + watch.SEND_WITHIN
    try:
        call = store.change(
            call,
            lambda c: transitions.claim(
                c,
                worker=worker,
                switch=connection.address.name,
                core_uuid=connection.core_uuid or "",
                at=at,
            ),
            Note("command", "claim", data=f"{worker} on {connection.address.name}"),
            replicated=True,
        )
    except NotReplicated as error:
        # A replica that takes over would know nothing of the claim, and have it dialled again.
        log.error("call %s: its claim is not safe: %s", call.id, error)
        if (claimed := store.get(call.id)) is not None:
            store.change(
                claimed,
                lambda c: _give_up(c, worker, at),
                Note("event", transitions.NOT_REPLICATED, data=str(error)),
            )
        return
    if call.state is not State.DIALING or (call.worker, call.claimed) != (worker, at):
        return
    _send(context, connection, call, send_before)


def _give_up(call: Call, worker: str, claimed: float) -> Call:
    # Of the claim of another, who may have sent it, nothing is known.
    if (call.worker, call.claimed) != (worker, claimed):
        return call
    return transitions.end(call, transitions.NOT_REPLICATED, at=claimed)


def _send(
    context: JobContext, connection: SwitchConnection, call: Call, send_before: float
) -> None:
    store = context.runtime.store
    try:
        command = originate_command(call, context.runtime.settings.video_codecs)
    except ValueError as error:
        # Refused before it was queued, unless somebody wrote the call past the API.
        log.error("call %s cannot be dialled: %s", call.id, error)
        _refused(context, call, "INVALID_NUMBER_FORMAT", str(error))
        return
    if time.monotonic() > send_before or call.core_uuid != connection.core_uuid:
        # This process stood still, or the switch was restarted: the call is about to be ended.
        log.error("call %s: its claim is too old to be sent", call.id)
        return
    try:
        connection.bgapi(command, call.job_uuid, timeout=watch.COMMAND_LIMIT)
    except CommandRefused as error:
        _refused(context, call, "OUTGOING_CALL_BARRED", str(error))
        return
    except EventSocketError as error:
        # It may have been sent or not: only the switch can tell, and the watchdog asks it.
        log.warning("call %s: %s", call.id, error)
        store.note(call.id, Note("reply", "originate", data=f"unknown: {error}"))
        return
    call = store.change(
        call,
        lambda c: transitions.mark_sent(c, at=store.now()),
        Note("command", "originate", data=command),
    )
    # Asked for while this was under way; what is not there yet the listener hangs up.
    if call.hangup_requested is not None:
        _hang_up(context, connection, call)


def _refused(context: JobContext, call: Call, cause: str, text: str) -> None:
    store = context.runtime.store
    store.change(
        call,
        lambda c: transitions.finish_originate(c, error=cause, at=store.now()),
        Note("reply", "originate", data=text),
    )


def hang_up(call_id: str) -> None:
    """Hang up what a client has asked for, the call or parties of it, on its switch."""
    context = _bound()
    call = context.runtime.store.get(call_id)
    if call is None or call.state is State.ENDED or call.switch is None:
        return
    connection = context.pool.get(call.switch)
    if (
        connection is None
        or not connection.wait_up(_HANG_UP_WAIT)
        or not connection.is_answering(timeout=_HANG_UP_LIMIT)
    ):
        log.warning("call %s: switch %s is away, to be hung up once back", call.id, call.switch)
        return
    _hang_up(context, connection, call)


def _hang_up(context: JobContext, connection: SwitchConnection, call: Call) -> None:
    """What fails here the listener makes good."""
    store = context.runtime.store
    try:
        if call.hangup_requested is not None:
            reply = commands.hang_up_all(connection, CALL_VARIABLE, call.id)
            store.note(call.id, Note("command", "hupall", data=reply))
            return
        for leg in call.legs:
            if leg.hangup_requested is not None and leg.live:
                reply = commands.kill(connection, leg.uuid)
                store.note(call.id, Note("command", "uuid_kill", leg=leg.id, data=reply))
    except EventSocketError as error:
        log.warning("call %s is not hung up yet: %s", call.id, error)


def originate_command(call: Call, video_codecs: str) -> str:
    """The call as one command. Raises ValueError for what cannot be dialled."""
    return dialstring.originate(
        _parties(call.sources),
        _parties(call.destinations),
        variables={CALL_VARIABLE: call.id},
        ring_timeout=call.wait_for_pickup,
        duration=call.call_duration,
        source_sees=_caller_id(call.caller_id, call.extension),
        destination_sees=_caller_id(call.caller_id_destination, call.extension),
        video_codecs=video_codecs if call.video else None,
    )


def _parties(legs: tuple[Leg, ...]) -> list[list[dialstring.Channel]]:
    """Without parties that were dropped while the call was queued."""
    parties: dict[str, list[dialstring.Channel]] = {}
    for leg in legs:
        if leg.hangup_requested is None:
            parties.setdefault(leg.party, []).append(dialstring.Channel(leg.uuid, _target(leg)))
    return list(parties.values())


def _target(leg: Leg) -> str:
    if leg.dial_string:
        return dialstring.check_target(leg.dial_string)
    if leg.kind is NumberKind.SANDBOX:
        return dialstring.sandbox_target(leg.number)
    return dialstring.gateway_target(leg.gateway or "", leg.number)


def _caller_id(text: str | None, extension: str) -> dialstring.CallerId:
    name, angle, number = (text or extension).rpartition("<")
    if not angle:
        return dialstring.CallerId(number)
    return dialstring.CallerId(number.rstrip(">"), name.strip())
