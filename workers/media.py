"""Dead media: when the switch itself ends a leg whose far end sends no RTP.

The switch counts from the leg's answer. It reads the limit when it sets up the RTP, and again after
each re-INVITE, so a change needs one (seen on 1.10.12).
"""

import logging

from app.accounts.model import Accounts
from app.calls.model import Call, Leg, NumberKind
from app.settings import Settings
from freeswitch import commands, dialstring
from freeswitch.connection import SwitchConnection
from freeswitch.errors import CommandRefused

log = logging.getLogger(__name__)


def timeout_of(call: Call, leg: Leg, accounts: Accounts, settings: Settings) -> int:
    """The seconds without RTP after which the leg is dead; 0 for a leg that is not watched.

    A party of a conference may be quiet, and so may a listener. FreeSWITCH's limit fails with
    video.
    """
    if call.video or call.conference is not None:
        return 0
    if leg.listens or leg.kind is NumberKind.SANDBOX:
        return 0
    own = accounts.gateway(leg.trunk or "").media_timeout
    return settings.media_timeout if own is None else own


def watch(connection: SwitchConnection, uuid: str, seconds: int) -> None:
    """Have the switch end a channel after so many seconds without RTP; 0 for never.

    If the switch refuses it, it keeps its old limit, and the action goes on.
    """
    value = str(1000 * seconds if seconds else dialstring.NO_MEDIA_TIMEOUT)
    commands.set_variable(connection, uuid, "media_timeout_audio", value)
    try:
        commands.renegotiate(connection, uuid)
    except CommandRefused as error:
        log.warning("the media timeout of channel %s stays as it was: %s", uuid, error)
