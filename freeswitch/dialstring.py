"""The originate command of a call, built so that nothing can be injected into it.

Every value is of a whitelisted character set when it reaches the command, so
nothing needs quoting, which FreeSWITCH undoes up to three times and each place
in its own way (switch_utils.c, switch_event.c). Numbers are checked; names are
percent-encoded, since mod_sofia decodes the name once when it writes From,
P-Asserted-Identity and Remote-Party-ID (seen on 1.10.12: each name comes out at
the far end as it went in). Nothing but checked numbers, gateways and uuids ever
stands inside ``&bridge(…)``, where ``${system(…)}`` would run on the switch.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

# FreeSWITCH dials at most 128 channels in one originate (MAX_PEERS).
MAX_LEGS = 128

_NUMBER = re.compile(r"\+?[0-9*#]{1,64}", re.ASCII)
_GATEWAY = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TARGET = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_.@:;=+*#%~-]+)+", re.ASCII)
_VARIABLE = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_.%~+*#@:!-]*", re.ASCII)
_CODECS = re.compile(r"[A-Za-z0-9.@_-]+(,[A-Za-z0-9.@_-]+)*", re.ASCII)
_ROOM = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MAILBOX = re.compile(r"[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9.-]{1,255}", re.ASCII)
# What a name may not hold. The quotation mark and the backslash: mod_sofia does not escape
# them within the quoted From name. %41 and ${: a FreeSWITCH that receives them changes them.
_NAME_REFUSED = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|%[0-9A-Fa-f]{2}|\$\{')
_NAME_LENGTH = 64

# A gateway's own failures, after which the next gateway of the route is tried. Anything else
# (busy, declined, unknown) is the called party's answer: its phone must not ring again.
GATEWAY_FAILURES = (
    "NORMAL_TEMPORARY_FAILURE",
    "INVALID_GATEWAY",
    "GATEWAY_DOWN",
    "NETWORK_OUT_OF_ORDER",
    "NORMAL_CIRCUIT_CONGESTION",
    "SWITCH_CONGESTION",
    "RECOVERY_ON_TIMER_EXPIRE",
)
# The US ringing tone, which a source hears from its answer to the destination's. The commas
# have a backslash each, as a value in quotes needs.
_RINGBACK_TONE = r"'%(2000\,4000\,440\,480)'"


@dataclass(frozen=True, slots=True)
class Channel:
    """One attempt to reach a party: the channel's uuid and a dial string such as
    ``sofia/gateway/pstn/15500``."""

    uuid: str
    target: str


@dataclass(frozen=True, slots=True)
class CallerId:
    """What a called party is shown."""

    number: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Application:
    """What a channel does once it is answered, and the variables that go with it."""

    how: str
    variables: Mapping[str, str] = field(default_factory=dict)


# The ways to reach one party, in order; the next is taken where a gateway fails.
Party = Sequence[Channel]


def gateway_target(gateway: str, number: str) -> str:
    """The dial string of a number through a gateway. Raises ValueError for either."""
    return f"sofia/gateway/{_check(_GATEWAY, gateway, 'gateway')}/{check_number(number)}"


def sandbox_target(number: str) -> str:
    """The dial string of a sandbox number, which the dialplan in conf/ answers."""
    return f"loopback/{check_number(number)}/ringback-sandbox"


def check_target(target: str) -> str:
    """An operator's dial string for an extension. Raises ValueError where it holds more than
    one endpoint, variables or anything that could change the rest of the command."""
    if ":_:" in target:
        raise ValueError("a dial string may not hold ':_:'")
    return _check(_TARGET, target, "dial string")


def check_number(number: str) -> str:
    """Digits, ``*`` and ``#``, a leading ``+``. Raises ValueError."""
    return _check(_NUMBER, number, "number")


def check_name(name: str) -> str:
    """A caller name that arrives as sent. Raises ValueError for what would not:
    quotation marks, backslashes, ``%41``, ``${``, control characters, over 64 characters."""
    if len(name) > _NAME_LENGTH or _NAME_REFUSED.search(name):
        raise ValueError("not a caller name that arrives as it is")
    return name


def originate(
    sources: Sequence[Party],
    destinations: Sequence[Party],
    *,
    variables: Mapping[str, str],
    ring_timeout: int,
    duration: int,
    source_sees: CallerId,
    destination_sees: CallerId,
    video_codecs: str | None = None,
) -> str:
    """The one command that holds a whole call: ring all sources, bridge the first that
    answers to the first destination that does.

    ``ring_timeout`` bounds the sources' ringing, and again the destinations'; ``duration``
    counts from the source's answer; both in seconds. ``variables`` are set on every leg.
    ``video_codecs`` (comma-separated, audio ones included) are offered in place of the
    profile's. Raises ValueError where anything could not stand in a dial string as it is.
    """
    if not sources or not destinations:
        raise ValueError("a call needs a source and a destination")
    if sum(len(party) for party in (*sources, *destinations)) > MAX_LEGS:
        raise ValueError(f"more than {MAX_LEGS} legs")
    ours = {name: _check(_VALUE, value, name) for name, value in variables.items()}
    for side in (sources, destinations):
        if not all(side):
            raise ValueError("a party without a way to reach it")
    of_source = {
        **ours,
        "ignore_early_media": "true",
        "originate_timeout": str(int(ring_timeout)),
        # The destination's ringing. Enforced only while the source's media is read, and a
        # source that sends none would block the reading: hence the timer.
        "call_timeout": str(int(ring_timeout)),
        "rtp_timer_name": "soft",
        "hangup_after_bridge": "true",
        "transfer_ringback": _RINGBACK_TONE,
        "execute_on_answer": f"'sched_hangup +{int(duration)} allotted_timeout'",
        **_caller_id("origination", source_sees),
        **_caller_id("effective", destination_sees),
    }
    if video_codecs:
        # ^^: makes the colon the separator of this one value.
        codecs = _check(_CODECS, video_codecs, "codecs").replace(",", ":")
        of_source["absolute_codec_string"] = ours["absolute_codec_string"] = f"^^:{codecs}"
    of_leg: dict[str, str] = {}
    if any(len(party) > 1 for party in (*sources, *destinations)):
        # The list of causes in fail_on_single_reject switches the other limits off, the bridge's
        # too (switch_ivr_originate.c, where the time is up).
        of_leg["leg_timeout"] = str(int(ring_timeout))
    # The destinations are counted when the call begins: a source that has answered is not sent
    # away because in this second the switch has enough sessions. A paused switch refuses still.
    # They may be parked or sent elsewhere later, and need the timer then.
    of_destination = {**ours, **of_leg, "rtp_timer_name": "soft"}
    dial_destinations = _dial(destinations, {"no_throttle_limits": "true"}, of_destination)
    return f"originate {_dial(sources, of_source, of_leg)} &bridge({dial_destinations})"


def conference_invite(
    parties: Sequence[Party],
    room: str,
    *,
    variables: Mapping[str, str],
    ring_timeout: int,
    duration: int,
    shows: CallerId,
) -> str:
    """Ring all parties, and put the first that answers into a conference's room, of the profile
    ``default``. Raises ValueError."""
    of_party = _brought_in(variables, ring_timeout, duration, shows)
    room = _check(_ROOM, room, "conference room")
    return f"originate {_dial(parties, of_party, {})} &conference({room}@default)"


def bring_in(
    party: Party,
    application: Application,
    *,
    variables: Mapping[str, str],
    ring_timeout: int,
    duration: int,
    shows: CallerId,
) -> str:
    """Ring a third party and join it to a call by :func:`intercept` or :func:`listen`; it stays
    for ``duration`` seconds at most. Raises ValueError."""
    of_party = {**_brought_in(variables, ring_timeout, duration, shows), **application.variables}
    of_leg = {"leg_timeout": str(int(ring_timeout))} if len(party) > 1 else {}
    return f"originate {_dial([party], of_party, of_leg)} {application.how}"


def _brought_in(
    variables: Mapping[str, str], ring_timeout: int, duration: int, shows: CallerId
) -> dict[str, str]:
    return {
        **{name: _check(_VALUE, value, name) for name, value in variables.items()},
        "ignore_early_media": "true",
        "originate_timeout": str(int(ring_timeout)),
        "hangup_after_bridge": "true",
        # Who listens with a silent phone would otherwise stay when the others have gone.
        "rtp_timer_name": "soft",
        # Who talks is not to wait behind new calls.
        "no_throttle_limits": "true",
        "execute_on_answer": f"'sched_hangup +{int(duration)} allotted_timeout'",
        **_caller_id("origination", shows),
    }


def intercept(uuid: str) -> Application:
    """Take over a channel that waits for somebody. One that is gone, or that talks by now, ends
    the attempt."""
    how = f"&intercept({_check(_UUID, uuid, 'uuid')})"
    return Application(how, {"intercept_unbridged_only": "true"})


def listen(
    uuid: str, *, to_it: bool = False, to_other: bool = False, deaf: bool = False
) -> Application:
    """Hear a channel and the one it talks to; be heard by it, by the other, or both. ``deaf``
    hears nothing (mod_dptools: eavesdrop, set_mute)."""
    uuid = _check(_UUID, uuid, "uuid")
    # No digit that is pressed changes who hears whom.
    variables = {"eavesdrop_enable_dtmf": "false"}
    if to_it:
        variables["eavesdrop_whisper_bleg"] = "true"
    if to_other:
        variables["eavesdrop_whisper_aleg"] = "true"
    how = f"'set_mute:write true,eavesdrop:{uuid}' inline" if deaf else f"&eavesdrop({uuid})"
    return Application(how, variables)


def bridge_inline(
    party: Party, *, variables: Mapping[str, str], ring_timeout: int, shows: str
) -> str:
    """What a channel does that is sent to another party, for the dialplan ``inline``; ``shows`` is
    a number. Raises ValueError."""
    of_leg = {
        **{name: _check(_VALUE, value, name) for name, value in variables.items()},
        "leg_timeout": str(int(ring_timeout)),
        "rtp_timer_name": "soft",
        **_caller_id("origination", CallerId(shows)),
    }
    dialled = _dial([party], {"no_throttle_limits": "true"}, of_leg)
    return "bridge:" + dialled.replace(",", r"\,")


def valet_park_inline(lot: str, first: int, last: int) -> str:
    """Wait in the first free position of a parking lot."""
    return f"valet_park:{_check(_ROOM, lot, 'lot')} auto in {int(first)} {int(last)}"


def voicemail_inline(mailbox: str) -> str:
    """Leave a message in ``box@domain``. Raises ValueError."""
    box, _, domain = _check(_MAILBOX, mailbox, "mailbox").partition("@")
    return f"voicemail:default {domain} {box}"


def _dial(parties: Sequence[Party], shared: Mapping[str, str], per_leg: Mapping[str, str]) -> str:
    """All parties at once, each by its own alternatives in order.

    What varies of a bridge's legs goes into their ``[]``: what stands in ``{}`` there would be
    read a second time with the application's own expansion.
    """
    if all(len(party) == 1 for party in parties):
        return _block("{}", shared) + ",".join(_leg(party[0], per_leg) for party in parties)
    # A cause that is none of these ends the attempt, as the value's ! says.
    once = {"fail_on_single_reject": "!" + ":".join(GATEWAY_FAILURES)}
    if len(parties) == 1:
        return _block("{}", {**shared, **once}) + _alternatives(parties[0], per_leg)
    # Each party an originate of its own (enterprise): alternatives in a plain ring-all would
    # wait for the failure of every party.
    parts = (_block("{}", once) + _alternatives(party, per_leg) for party in parties)
    return _block("<>", shared) + ":_:".join(parts)


def _alternatives(party: Party, variables: Mapping[str, str]) -> str:
    return "|".join(_leg(channel, variables) for channel in party)


def _leg(channel: Channel, variables: Mapping[str, str]) -> str:
    own = {**variables, "origination_uuid": _check(_UUID, channel.uuid, "uuid")}
    return _block("[]", own) + check_target(channel.target)


def _block(brackets: str, variables: Mapping[str, str]) -> str:
    if not variables:
        return ""
    for name in variables:
        _check(_VARIABLE, name, "variable")
    inner = ",".join(f"{name}={value}" for name, value in variables.items())
    return brackets[0] + inner + brackets[1]


def _caller_id(prefix: str, caller_id: CallerId) -> dict[str, str]:
    return {
        f"{prefix}_caller_id_name": quote(check_name(caller_id.name or caller_id.number), safe=""),
        f"{prefix}_caller_id_number": check_number(caller_id.number),
    }


def _check(pattern: re.Pattern[str], text: str, what: str) -> str:
    if pattern.fullmatch(text) is None or ":_:" in text:
        raise ValueError(f"not a {what} for a dial string: {text!r}")
    return text
