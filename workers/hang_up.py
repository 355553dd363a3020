"""Hanging up: the commands to the switch, and the notes in the call's timeline.

The job of a client's request, the dispatcher and the listener use these functions. To hang up twice
does no harm.
"""

import logging

from app.calls import transitions
from app.calls.model import Call, Leg
from app.store.calls import CallStore
from app.store.writes import Note
from app.telemetry import logs
from freeswitch import commands
from freeswitch.connection import SwitchConnection
from freeswitch.errors import EventSocketError
from workers.runtime import CALL_VARIABLE

log = logging.getLogger(__name__)


def hang_up_call(
    store: CallStore, link: SwitchConnection, call: Call, cause: str = "NORMAL_CLEARING"
) -> None:
    """Hang up every channel of the call, also while it rings. Raises EventSocketError."""
    reply = commands.hang_up_all(link, CALL_VARIABLE, call.id, cause)
    store.note(call.id, Note("command", "hupall", data=reply))


def hang_up_leg(
    store: CallStore,
    link: SwitchConnection,
    call: Call,
    leg: Leg,
    cause: str = "NORMAL_CLEARING",
) -> None:
    """Hang up one channel of the call. Raises EventSocketError."""
    reply = commands.kill(link, leg.uuid, cause)
    # No note for a channel that was gone: the switch's list shows such channels for a while
    # (signalwire/freeswitch#2920), and the listener asks again at every look.
    if reply.startswith("+OK"):
        store.note(call.id, Note("command", "uuid_kill", leg=leg.id, data=reply))


def hang_up_unwanted(store: CallStore, link: SwitchConnection, call: Call) -> bool:
    """Hang up the call if a client asked for that, else each leg that is unwanted.

    Returns whether there was anything to hang up. Raises EventSocketError.
    """
    if call.hangup_requested is not None:
        hang_up_call(store, link, call)
        return True
    unwanted = [leg for leg in call.legs if leg.live and transitions.is_unwanted(call, leg)]
    for leg in unwanted:
        hang_up_leg(store, link, call, leg)
    return bool(unwanted)


def try_to_hang_up(store: CallStore, link: SwitchConnection, call: Call) -> None:
    """Hang up what is unwanted. If the switch does not answer, the listener hangs up later."""
    try:
        hang_up_unwanted(store, link, call)
    except EventSocketError as error:
        with logs.about(call=call.id, switch=link.address.name):
            log.warning("call %s: cannot hang up yet: %s", call.id, error)
