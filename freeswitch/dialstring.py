"""Originate commands that hold a whole call, and that no value can change.

FreeSWITCH undoes quotes up to three times, and each place does it in its own way (switch_utils.c,
switch_event.c). So nothing here is quoted: every value has a whitelisted character set when it
reaches the command. Numbers are checked. Names are percent-encoded: mod_sofia decodes a name once
when it writes From, P-Asserted-Identity and Remote-Party-ID (seen on 1.10.12: each name comes out
at the far end as it went in). Only checked numbers, gateways and uuids stand inside ``&bridge(…)``,
where the switch would run ``${system(…)}``.
docs/internals/freeswitch.md#the-dial-string has these rules.

The checks repeat what the API has checked before: this module trusts no caller.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from freeswitch.prompts import Gate, Sound, announced, longest, shared_variables

# FreeSWITCH dials at most 128 channels in one originate (MAX_PEERS).
MAX_LEGS = 128

_NUMBER = re.compile(r"\+?[0-9*#]{1,64}", re.ASCII)
_GATEWAY = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TARGET = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_.@:;=+*#%~-]+)+", re.ASCII)
_VARIABLE = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_.%~+*#@:!-]*", re.ASCII)
_CODECS = re.compile(r"[A-Za-z0-9.@_-]+(,[A-Za-z0-9.@_-]+)*", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MAILBOX = re.compile(r"[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9.-]{1,255}", re.ASCII)
# What a name must not hold. mod_sofia does not escape quotation marks and backslashes within the
# quoted From name. A FreeSWITCH that receives %41 or ${ changes it.
_NAME_REFUSED = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|%[0-9A-Fa-f]{2}|\$\{')
_NAME_LENGTH = 64

# A gateway's own failures, after which the switch tries the next gateway of the route. Any other
# cause (busy, declined, unknown) comes from the called party: its phone must not ring again.
GATEWAY_FAILURES = (
    "NORMAL_TEMPORARY_FAILURE",
    "INVALID_GATEWAY",
    "GATEWAY_DOWN",
    "NETWORK_OUT_OF_ORDER",
    "NORMAL_CIRCUIT_CONGESTION",
    "SWITCH_CONGESTION",
    "RECOVERY_ON_TIMER_EXPIRE",
)
# On every leg, so that no far end chooses what is dialled: a 3xx ends the leg, and a REFER ends the
# call's other leg. Otherwise the switch follows the 3xx, or runs its own dialplan at a number of
# the far end's choice (seen on 1.10.12). No context has this name. It leaves transfers to the
# dialplan `inline` alone.
_NO_DETOUR = {"outbound_redirect_fatal": "true", "force_transfer_context": "ringback-none"}
# The cause with which the switch's own timer ends a leg that has used up a cap.
QUOTA_CAUSE = "facility_not_subscribed"
# The US ringing tone. A source hears it from its own answer until the destination's. A value in
# quotes needs a backslash before each comma.
_RINGBACK_TONE = r"'%(2000\,4000\,440\,480)'"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to reach a party: the channel's uuid, a dial string such as
    ``sofia/gateway/pstn/15500``, and what keeps it out of the call once it has answered."""

    uuid: str
    target: str
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class CallerId:
    """The number and the name that a called party sees."""

    number: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Application:
    """The application that a channel runs once it is answered, and the variables it needs."""

    how: str
    variables: Mapping[str, str] = field(default_factory=dict)


# The ways to reach one party, in order. The switch tries the next one if a gateway fails.
Party = Sequence[Attempt]


def gateway_target(gateway: str, number: str) -> str:
    """The dial string of a number through a gateway. Raises ValueError if either is malformed."""
    return f"sofia/gateway/{_check(_GATEWAY, gateway, 'gateway')}/{check_number(number)}"


def sandbox_target(number: str) -> str:
    """The dial string of a sandbox number, which the dialplan in conf/ answers.
    Raises ValueError."""
    return f"loopback/{check_number(number)}/ringback-sandbox"


def check_target(target: str) -> str:
    """Check an operator's dial string for an extension, and return it.

    Raises ValueError if it holds more than one endpoint, variables, or anything that could change
    the rest of the command.
    """
    return _check(_TARGET, target, "dial string")


def check_number(number: str) -> str:
    """Check a number of 1 to 64 digits, ``*`` and ``#`` after an optional ``+``, and return it.
    Raises ValueError."""
    return _check(_NUMBER, number, "number")


def check_name(name: str) -> str:
    """Check that a caller name arrives as sent, and return it.

    Raises ValueError for quotation marks, backslashes, ``%41``, ``${``, control characters, and
    more than 64 characters.
    """
    if len(name) > _NAME_LENGTH or _NAME_REFUSED.search(name):
        raise ValueError(
            f"caller name {name!r} would not arrive as sent: it must have at most {_NAME_LENGTH}"
            " characters, and no quotation mark, backslash, %41, ${ or control character"
        )
    return name


def check_word(text: str, what: str = "argument") -> str:
    """Check one word of 1 to 64 letters, digits, ``-`` and ``_``, and return it.
    Raises ValueError, which calls it ``what``."""
    return _check(_WORD, text, what)


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
    source_left: int | None = None,
    destination_left: int | None = None,
    announcement: Sound | None = None,
) -> str:
    """The one command that holds a whole call.

    The switch rings all sources, and bridges the first that answers to the first destination that
    answers. ``ring_timeout`` (seconds) limits the ringing of the sources, and again that of the
    destinations. ``duration`` (seconds) counts from the source's answer. Every leg gets
    ``variables``. ``video_codecs``, comma-separated and with the audio codecs, replace the offer
    of the profile. A leg with a gate has its seconds beside both times. The source hears
    ``announcement`` before the destinations are dialled. ``source_left`` and ``destination_left``
    are the seconds that caps leave to a leg of that side, from its own answer; the switch then
    ends it with QUOTA_CAUSE. Raises ValueError for a value that cannot stand in a dial string as
    it is.
    """
    if not sources or not destinations:
        raise ValueError("a call needs at least one source and one destination")
    if sum(len(party) for party in (*sources, *destinations)) > MAX_LEGS:
        raise ValueError(f"a call must have at most {MAX_LEGS} legs")
    ours = {name: _check(_VALUE, value, name) for name, value in variables.items()}
    for side in (sources, destinations):
        if not all(side):
            raise ValueError("a party needs at least one channel")
    of_sources, of_destinations = _gates(sources), _gates(destinations)
    at_source, at_destination = longest(of_sources), longest(of_destinations)
    of_source = {
        **ours,
        **_NO_DETOUR,
        "ignore_early_media": "true",
        "originate_timeout": str(_attempt_timeout(ring_timeout, at_source)),
        # This limits the destination's ringing. The switch looks at it only while it reads the
        # source's media, and a source that sends none would block the reading without the timer.
        "call_timeout": str(_attempt_timeout(ring_timeout, at_destination)),
        "rtp_timer_name": "soft",
        "hangup_after_bridge": "true",
        "transfer_ringback": _RINGBACK_TONE,
        "execute_on_answer": _limit(duration + at_source, source_left),
        **shared_variables(of_sources),
        **_caller_id("origination", source_sees),
        **_caller_id("effective", destination_sees),
    }
    if destination_left is not None and destination_left < duration:
        # The switch runs this on the destination when it bridges the two, at its answer.
        app, data = limit_of_next(destination_left)
        of_source |= {BRIDGE_APP: app, BRIDGE_DATA: f"'{data}'"}
    if video_codecs:
        # The ^^: makes the colon the separator of this one value.
        codecs = _check(_CODECS, video_codecs, "codecs").replace(",", ":")
        of_source["absolute_codec_string"] = ours["absolute_codec_string"] = f"^^:{codecs}"
    of_leg: dict[str, str] = {}
    if at_source or at_destination or any(len(p) > 1 for p in (*sources, *destinations)):
        # A gate lengthens the attempt, and not the time for which its legs ring. And the list of
        # causes in fail_on_single_reject turns off the other limits, the bridge's too
        # (switch_ivr_originate.c, where the time is up).
        of_leg["leg_timeout"] = str(int(ring_timeout))
    # The pace counts the destinations when the call begins. So the switch must not reject one, and
    # with it a source that has answered, because this second has enough sessions. A paused switch
    # still rejects it. A destination may be parked or sent elsewhere later, and needs the timer
    # then.
    of_destination = {**ours, **of_leg, **_NO_DETOUR, "rtp_timer_name": "soft"}
    for_all = {"no_throttle_limits": "true", **shared_variables(of_destinations)}
    dial_destinations = _dial(destinations, for_all, of_destination)
    then = f"&bridge({dial_destinations})"
    if announcement is not None:
        of_source |= announcement.variables()
        then = announced(announcement, "bridge", dial_destinations)
    return f"originate {_dial(sources, of_source, of_leg)} {then}"


def _gates(side: Sequence[Party]) -> list[Gate | None]:
    return [attempt.gate for party in side for attempt in party]


def _attempt_timeout(ring_timeout: int, gate: int) -> int:
    """The seconds of a whole attempt. A leg may answer at the end of the ringing, and the switch
    counts the seconds of its gate up to one more."""
    return int(ring_timeout) + (int(gate) + 2 if gate else 0)


def conference_invite(
    parties: Sequence[Party],
    room: str,
    *,
    variables: Mapping[str, str],
    ring_timeout: int,
    duration: int,
    shows: CallerId,
    left: int | None = None,
) -> str:
    """Ring all parties, and put the first that answers into a conference room of the profile
    ``default``. ``left`` is what caps leave to a party (:func:`originate`). Raises ValueError."""
    of_party = _brought_in(variables, ring_timeout, duration, shows, left)
    room = check_word(room, "conference room")
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
    """Ring a third party and join it to a call by :func:`intercept` or :func:`listen`.

    It stays for at most ``duration`` seconds. Raises ValueError.
    """
    of_party = {**_brought_in(variables, ring_timeout, duration, shows), **application.variables}
    of_leg = {"leg_timeout": str(int(ring_timeout))} if len(party) > 1 else {}
    return f"originate {_dial([party], of_party, of_leg)} {application.how}"


def _brought_in(
    variables: Mapping[str, str],
    ring_timeout: int,
    duration: int,
    shows: CallerId,
    left: int | None = None,
) -> dict[str, str]:
    return {
        **{name: _check(_VALUE, value, name) for name, value in variables.items()},
        **_NO_DETOUR,
        "ignore_early_media": "true",
        "originate_timeout": str(int(ring_timeout)),
        "hangup_after_bridge": "true",
        # Without the timer, a listener with a silent phone would stay when the others have gone.
        "rtp_timer_name": "soft",
        # A party of a call that is up must not wait behind new calls.
        "no_throttle_limits": "true",
        "execute_on_answer": _limit(duration, left),
        **_caller_id("origination", shows),
    }


# The variables of a channel with the application that the switch runs on who it is bridged to.
BRIDGE_APP, BRIDGE_DATA = "bridge_pre_execute_bleg_app", "bridge_pre_execute_bleg_data"


def limit_of_next(left: int) -> tuple[str, str]:
    """The values of BRIDGE_APP and BRIDGE_DATA that limit who a channel is bridged to next."""
    return "sched_hangup", f"+{max(1, int(left))} {QUOTA_CAUSE}"


def _limit(duration: int, left: int | None) -> str:
    """What a leg executes on its answer: the timer of the call, or of the caps if that is
    sooner."""
    if left is not None and left < duration:
        return f"'sched_hangup +{max(1, int(left))} {QUOTA_CAUSE}'"
    return f"'sched_hangup +{int(duration)} allotted_timeout'"


def intercept(uuid: str) -> Application:
    """Take over a channel that waits for another party.

    The attempt ends if the channel is gone or talks by now.
    """
    how = f"&intercept({_check(_UUID, uuid, 'uuid')})"
    return Application(how, {"intercept_unbridged_only": "true"})


def listen(
    uuid: str, *, to_it: bool = False, to_other: bool = False, deaf: bool = False
) -> Application:
    """Listen to a channel and to the channel that it is bridged to.

    With ``to_it`` the channel hears the listener, with ``to_other`` the other one does. With
    ``deaf`` the listener hears nothing (mod_dptools: eavesdrop, set_mute).
    """
    uuid = _check(_UUID, uuid, "uuid")
    # Otherwise a pressed digit changes which parties hear the listener.
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
    """The bridge of a channel to another party, for the dialplan ``inline``.

    ``shows`` is the number that the party sees. Raises ValueError.
    """
    of_leg = {
        **{name: _check(_VALUE, value, name) for name, value in variables.items()},
        **_NO_DETOUR,
        "leg_timeout": str(int(ring_timeout)),
        "rtp_timer_name": "soft",
        **_caller_id("origination", CallerId(shows)),
    }
    dialled = _dial([party], {"no_throttle_limits": "true"}, of_leg)
    return "bridge:" + dialled.replace(",", r"\,")


def valet_park_inline(lot: str, first: int, last: int) -> str:
    """The wait in the first free position of a parking lot. Raises ValueError."""
    return f"valet_park:{check_word(lot, 'parking lot')} auto in {int(first)} {int(last)}"


def voicemail_inline(mailbox: str) -> str:
    """The voice mail of ``box@domain``, which takes a message. Raises ValueError."""
    box, _, domain = _check(_MAILBOX, mailbox, "mailbox").partition("@")
    return f"voicemail:default {domain} {box}"


def _dial(parties: Sequence[Party], shared: Mapping[str, str], per_leg: Mapping[str, str]) -> str:
    """All parties at once, each by its own alternatives in order.

    Variables of a bridge's legs go into their ``[]``. The expansion of the application's arguments
    would read those in ``{}`` a second time.
    """
    if all(len(party) == 1 for party in parties):
        return _block("{}", shared) + ",".join(_leg(party[0], per_leg) for party in parties)
    # The ! says that any other cause than these ends the attempt.
    once = {"fail_on_single_reject": "!" + ":".join(GATEWAY_FAILURES)}
    if len(parties) == 1:
        return _block("{}", {**shared, **once}) + _alternatives(parties[0], per_leg)
    # Each party is an originate of its own (enterprise). In a plain ring-all the next alternatives
    # would wait until every party has failed.
    parts = (_block("{}", once) + _alternatives(party, per_leg) for party in parties)
    return _block("<>", shared) + ":_:".join(parts)


def _alternatives(party: Party, variables: Mapping[str, str]) -> str:
    return "|".join(_leg(attempt, variables) for attempt in party)


def _leg(attempt: Attempt, variables: Mapping[str, str]) -> str:
    own = {**variables, "origination_uuid": _check(_UUID, attempt.uuid, "uuid")}
    if attempt.gate is not None:
        own |= attempt.gate.variables()
    return _block("[]", own) + check_target(attempt.target)


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
        raise ValueError(
            f"{what} {text!r} cannot stand in a command: it must match {pattern.pattern}"
            " and not hold ':_:'"
        )
    return text
