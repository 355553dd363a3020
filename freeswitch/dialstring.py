"""Originate commands that hold a whole call, and that no value can change.

FreeSWITCH undoes quotes up to three times, and each place does it in its own way (switch_utils.c,
switch_event.c). So nothing here is quoted: every value has a whitelisted character set when it
reaches the command. Numbers are checked. Names are percent-encoded: mod_sofia decodes a name once
when it writes From, P-Asserted-Identity and Remote-Party-ID (seen on 1.10.12: each name comes out
at the far end as it went in). Only checked numbers, gateways, uuids and SIP headers stand inside
``&bridge(…)``, where the switch would run ``${system(…)}``.
docs/internals/freeswitch.md#the-dial-string has these rules.

The checks repeat what the API has checked before: this module trusts no caller.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from freeswitch.prompts import Gate, Sound, longest, one_word, shared_variables

# FreeSWITCH dials at most 128 channels in one originate (MAX_PEERS).
MAX_LEGS = 128

_NUMBER = re.compile(r"\+?[0-9*#]{1,64}", re.ASCII)
_GATEWAY = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TARGET = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_.@:;=+*#%~-]+)+", re.ASCII)
_VARIABLE = re.compile(r"[a-z_][a-z0-9_]*|sip_h_X-[A-Za-z0-9-]{1,40}", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9_.%~+*#@:!-]*", re.ASCII)
_CODECS = re.compile(r"[A-Za-z0-9.@_-]+(,[A-Za-z0-9.@_-]+)*", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# A tone (mod_tone_stream), or a file or stream such as local_stream://moh.
_SOUND = re.compile(
    r"%\([0-9]+(,[0-9.]+)+\)(;%\([0-9]+(,[0-9.]+)+\))*"
    r"|([a-z_]+:/)?/?[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*",
    re.ASCII,
)
_MAILBOX = re.compile(r"[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9.-]{1,255}", re.ASCII)
# What a name must not hold. mod_sofia does not escape quotation marks and backslashes within the
# quoted From name. A FreeSWITCH that receives %41 or ${ changes it.
_NAME_REFUSED = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|%[0-9A-Fa-f]{2}|\$\{')
_NAME_LENGTH = 64
# SIP headers that a client may have a leg send, of those that FreeSWITCH does not act on. All of
# these characters arrive as sent (seen on 1.10.12), but FreeSWITCH reads ARRAY:: as a list.
_HEADER = re.compile(r"X-(?!FS-|AUTH-|Ringback)[A-Za-z0-9-]{1,40}", re.ASCII | re.IGNORECASE)
_HEADER_VALUE = re.compile(r"(?!ARRAY::)(?! )[A-Za-z0-9 _.%~+*#@:!/=;?&-]{1,256}(?<! )", re.ASCII)
MAX_HEADERS = 10
# What separates the applications of the dialplan ``inline``. No value in a dial string has it.
_NEXT = "`"
_NO_HEADERS: Mapping[str, str] = {}

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
    "PROGRESS_TIMEOUT",
)
# On every leg, so that no far end chooses what is dialled: a 3xx ends the leg, and a REFER ends the
# call's other leg. Otherwise the switch follows the 3xx, or runs its own dialplan at a number of
# the far end's choice (seen on 1.10.12). No context has this name. It leaves transfers to the
# dialplan `inline` alone.
_NO_DETOUR = {"outbound_redirect_fatal": "true", "force_transfer_context": "ringback-none"}
# The cause with which the switch's own timer ends a leg that has used up a cap.
QUOTA_CAUSE = "facility_not_subscribed"
# Milliseconds without RTP that no call reaches: the longest call lasts a day.
NO_MEDIA_TIMEOUT = 86_400_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to reach a party: the channel's uuid, and a dial string such as
    ``sofia/gateway/pstn/15500``."""

    uuid: str
    target: str
    # Seconds after which the switch tries the next attempt if this one has brought no 18x; 0 for
    # all the time there is.
    progress_timeout: int = 0
    # Seconds without RTP after which the switch ends the channel; 0 for never.
    media_timeout: int = 0
    # What keeps it out of the call once it has answered.
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


@dataclass(frozen=True, slots=True)
class Ringback:
    """What a source hears from its own answer until the destination's: ``plays``, a tone, a file or
    a stream of the switch. Empty for nothing."""

    plays: str
    # Whether it plays at once, and not only when the network says that the phone rings.
    at_once: bool = True
    # Whether the network's own sound takes its place.
    network: bool = True


US_TONE = Ringback("%(2000,4000,440,480)")

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


def check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Check SIP headers that a leg sends, by name, and return them. Raises ValueError."""
    if len({name.lower() for name in headers}) < len(headers) or len(headers) > MAX_HEADERS:
        raise ValueError(f"a leg sends at most {MAX_HEADERS} headers, each name once")
    for name, value in headers.items():
        if not name.startswith("X-"):
            raise ValueError(f"header {name!r} must begin with X-")
        _check(_HEADER, name, "header")
        _check(_HEADER_VALUE, value, f"value of {name}")
    return headers


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
    hears: Ringback = US_TONE,
    source_headers: Mapping[str, str] = _NO_HEADERS,
    destination_headers: Mapping[str, str] = _NO_HEADERS,
    announcement: Sound | None = None,
) -> str:
    """The one command that holds a whole call.

    The switch rings all sources, and bridges the first that answers to the first destination that
    answers. ``ring_timeout`` (seconds) limits the ringing of the sources, and again that of the
    destinations: at least so long, and at most a second longer. ``hears`` is what the source hears
    meanwhile; the network's own sound takes its place only with one destination that need not
    accept. A leg with a gate has its seconds beside both times. The source hears ``announcement``
    before the destinations are dialled. ``duration`` (seconds) counts from the source's answer.
    Every leg gets ``variables``. ``video_codecs``, comma-separated and with the audio codecs,
    replace the offer of the profile. ``source_left`` and ``destination_left`` are the seconds that
    caps leave to a leg of that side, from its own answer; the switch then ends it with QUOTA_CAUSE.
    ``source_headers`` and ``destination_headers`` are SIP headers that the legs of that side send.
    Raises ValueError for a value that cannot stand in a dial string as it is.
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
    limit = int(ring_timeout)
    of_source = {
        **ours,
        **_NO_DETOUR,
        "ignore_early_media": "true",
        "originate_timeout": _attempt_timeout(limit, at_source),
        # This limits the destination's ringing. The switch looks at it only while it reads the
        # source's media, and a source that sends none would block the reading without the timer.
        "call_timeout": _attempt_timeout(limit, at_destination),
        "rtp_timer_name": "soft",
        "hangup_after_bridge": "true",
        "execute_on_answer": _limit(duration + at_source, source_left),
        **shared_variables(of_sources),
        **_caller_id("origination", source_sees),
        **_caller_id("effective", destination_sees),
    }
    if hears.plays:
        # A value in quotes needs a backslash before each comma.
        sound = _check(_SOUND, hears.plays, "sound").replace(",", "\\,")
        of_source["transfer_ringback"] = f"'{sound}'"
    if destination_left is not None and destination_left < duration:
        # The switch runs this on the destination when it bridges the two, at its answer.
        app, data = limit_of_next(destination_left)
        of_source |= {BRIDGE_APP: app, BRIDGE_DATA: f"'{data}'"}
    if video_codecs:
        # The ^^: makes the colon the separator of this one value.
        codecs = _check(_CODECS, video_codecs, "codecs").replace(",", ":")
        of_source["absolute_codec_string"] = ours["absolute_codec_string"] = f"^^:{codecs}"
    # The pace counts the destinations when the call begins. So the switch must not reject one, and
    # with it a source that has answered, because this second has enough sessions. A paused switch
    # still rejects it. A destination may be parked or sent elsewhere later, and needs the timer
    # then.
    of_destination = {**ours, **_NO_DETOUR, "rtp_timer_name": "soft"}
    of_destination |= _sends(destination_headers) | _rings_alone(limit, at_destination)
    if at_destination and BRIDGE_DATA in of_source:
        # One that hears a prompt has answered before the bridge.
        timer = " ".join(limit_of_next(destination_left or 0))
        of_destination["execute_on_answer"] = one_word(timer)
    of_bridge = {"no_throttle_limits": "true", **shared_variables(of_destinations)}
    if hears.network and len(destinations) == 1 and not at_destination:
        # The source's own ignore_early_media would hold for the bridge too. bridge_early_media
        # does not end the originate, as plain early media does.
        of_bridge |= {"ignore_early_media": "false", "bridge_early_media": "true"}
    if hears.at_once:
        of_bridge["instant_ringback"] = "true"
    if announcement is not None:
        of_source |= announcement.variables()
    of_leg = _sends(source_headers) | _rings_alone(limit, at_source)
    dialled = _dial(sources, of_source, of_leg, limit)
    then = _bridge(destinations, of_bridge, of_destination, limit, announcement)
    return f"originate {dialled} {then}"


def _gates(side: Sequence[Party]) -> list[Gate | None]:
    return [attempt.gate for party in side for attempt in party]


def _rings_alone(limit: int, gate: int) -> dict[str, str]:
    """The limit of a leg's own ringing. A gate lengthens the attempt, and not that."""
    return {"leg_timeout": str(limit)} if gate else {}


def _attempt_timeout(limit: int, gate: int) -> str:
    """The limit of a whole attempt. A leg may answer at the end of the ringing, and the switch
    counts the seconds of its gate up to one more."""
    return whole_seconds(limit + int(gate) + 1 if gate else limit)


def conference_invite(
    parties: Sequence[Party],
    room: str,
    *,
    variables: Mapping[str, str],
    ring_timeout: int,
    duration: int,
    shows: CallerId,
    left: int | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> str:
    """Ring all parties, and put the first that answers into a conference room of the profile
    ``default``. ``left`` is what caps leave to a party, ``headers`` are SIP headers that they are
    sent (:func:`originate`). Raises ValueError."""
    of_party = _brought_in(variables, ring_timeout, duration, shows, left)
    room = check_word(room, "conference room")
    dialled = _dial(parties, of_party, _sends(headers), int(ring_timeout))
    return f"originate {dialled} &conference({room}@default)"


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
    dialled = _dial([party], of_party, {}, int(ring_timeout))
    return f"originate {dialled} {application.how}"


def _sends(headers: Mapping[str, str]) -> dict[str, str]:
    """The variables of a leg that sends these SIP headers.

    The switch would copy the headers to the next leg that this one dials: a source's to the
    destination.
    """
    if not headers:
        return {}
    own = {f"sip_h_{n}": one_word(v) for n, v in check_headers(headers).items()}
    return {"sip_copy_custom_headers": "false", **own}


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
        "originate_timeout": whole_seconds(ring_timeout),
        "hangup_after_bridge": "true",
        # Without the timer, a listener with a silent phone would stay when the others have gone.
        "rtp_timer_name": "soft",
        # A party of a call that is up must not wait behind new calls.
        "no_throttle_limits": "true",
        "execute_on_answer": _limit(duration, left),
        **_caller_id("origination", shows),
    }


def whole_seconds(limit: int) -> str:
    """A limit for originate_timeout and call_timeout. They count seconds of the wall clock that
    have begun, so that a limit of 3 ends 2 to 3 s after its start (seen). leg_timeout and
    leg_progress_timeout count those that have passed, and end after 3 to 4 s."""
    return str(int(limit) + 1)


# The variables of a channel with the application that the switch runs on who it is bridged to.
BRIDGE_APP, BRIDGE_DATA = "bridge_pre_execute_bleg_app", "bridge_pre_execute_bleg_data"


def limit_of_next(left: int) -> tuple[str, str]:
    """The values of BRIDGE_APP and BRIDGE_DATA that limit who a channel is bridged to next."""
    return "sched_hangup", f"+{max(1, int(left))} {QUOTA_CAUSE}"


def _limit(duration: int, left: int | None) -> str:
    """What a leg executes on its answer: the timer of the call, or of the caps if that is
    sooner."""
    if left is not None and left < duration:
        return f"'{' '.join(limit_of_next(left))}'"
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

    ``shows`` is the number that the party sees. ``call_timeout`` of the channel limits the ringing
    of a party with one way to reach it. Raises ValueError.
    """
    of_leg = {
        **{name: _check(_VALUE, value, name) for name, value in variables.items()},
        **_NO_DETOUR,
        "rtp_timer_name": "soft",
        **_caller_id("origination", CallerId(shows)),
    }
    limit = int(ring_timeout)
    dialled = _dial([party], {"no_throttle_limits": "true"}, of_leg, limit)
    return "bridge:" + dialled.replace(",", r"\,")


def valet_park_inline(lot: str, first: int, last: int) -> str:
    """The wait in the first free position of a parking lot. Raises ValueError."""
    return f"valet_park:{check_word(lot, 'parking lot')} auto in {int(first)} {int(last)}"


def voicemail_inline(mailbox: str) -> str:
    """The voice mail of ``box@domain``, which takes a message. Raises ValueError."""
    box, _, domain = _check(_MAILBOX, mailbox, "mailbox").partition("@")
    return f"voicemail:default {domain} {box}"


def _dial(
    parties: Sequence[Party],
    shared: Mapping[str, str],
    per_leg: Mapping[str, str],
    limit: int,
) -> str:
    """All parties at once, each by its own alternatives in order, for ``limit`` seconds.

    Variables of a bridge's legs go into their ``[]``. The expansion of the application's arguments
    would read those in ``{}`` a second time.
    """
    if all(len(party) == 1 for party in parties):
        return _block("{}", shared) + ",".join(_leg(party[0], per_leg) for party in parties)
    # The ! says that any other cause than these ends the attempt. The list turns off the other
    # limits, but for those of the leg (switch_ivr_originate.c, where the time is up).
    once = {"fail_on_single_reject": "!" + ":".join(GATEWAY_FAILURES)}
    of_leg = {**per_leg, "leg_timeout": str(limit)}
    if len(parties) == 1:
        return _block("{}", {**shared, **once}) + _alternatives(parties[0], of_leg, limit)
    # Each party is an originate of its own (enterprise). In a plain ring-all the next alternatives
    # would wait until every party has failed.
    parts = (_block("{}", once) + _alternatives(party, of_leg, limit) for party in parties)
    return _block("<>", shared) + ":_:".join(parts)


def _bridge(
    parties: Sequence[Party],
    shared: Mapping[str, str],
    per_leg: Mapping[str, str],
    limit: int,
    announcement: Sound | None,
) -> str:
    """The application that bridges a source to the destinations, after an announcement.

    A destination with alternatives takes a bridge for each, in the dialplan ``inline``. In one
    originate, early media of the first would end the second at its first 183 (seen): a bridge
    before the answer, and no limit of its ringing.
    """
    steps = [] if announcement is None else [f"playback:{announcement.path()}"]
    if len(parties) == 1 and len(parties[0]) > 1:
        legs = _legs(parties[0], per_leg, limit)
        bridges = [f"bridge:{_block('{}', shared)}{leg}" for leg in legs]
        # With false, no cause of the last one goes on, not even NO_ANSWER.
        steps += [f"set:continue_on_fail={','.join(GATEWAY_FAILURES)}", *bridges[:-1]]
        steps += ["set:continue_on_fail=false", bridges[-1]]
    elif steps:
        steps.append(f"bridge:{_dial(parties, shared, per_leg, limit)}")
    else:
        return f"&bridge({_dial(parties, shared, per_leg, limit)})"
    return f"'m:{_NEXT}:{_NEXT.join(steps)}' inline"


def _alternatives(party: Party, variables: Mapping[str, str], limit: int) -> str:
    return "|".join(_legs(party, variables, limit))


def _legs(party: Party, variables: Mapping[str, str], limit: int) -> list[str]:
    """The legs of the attempts to reach one party, with what limits them together.

    The switch starts its clock anew for each attempt. So each one has a task of the switch hang up
    those that follow it, when the party has rung for the whole time. An answer deletes the tasks.
    """
    if len(party) == 1:
        return [_leg(party[0], variables)]
    tasks, found = f"{_check(_UUID, party[0].uuid, 'uuid')}-ring", []
    for at, attempt in enumerate(party, start=1):
        own = dict(variables)
        for number, later in enumerate(party[at:]):
            kill = f"uuid_kill {_check(_UUID, later.uuid, 'uuid')} NO_ANSWER"
            command = f"sched_api +{whole_seconds(limit)} {tasks} {kill}"
            own[f"api_on_originate_{number}"] = one_word(command)
        if at < len(party) and 0 < attempt.progress_timeout < limit:
            own["leg_progress_timeout"] = str(int(attempt.progress_timeout))
        own["api_on_answer"] = one_word(f"sched_del {tasks}")
        found.append(_leg(attempt, own))
    return found


def _leg(attempt: Attempt, variables: Mapping[str, str]) -> str:
    own = {**variables, "origination_uuid": _check(_UUID, attempt.uuid, "uuid")}
    if attempt.media_timeout:
        own["media_timeout_audio"] = str(1000 * int(attempt.media_timeout))
        # Otherwise it is ten times the other (switch_core_media.c), and a held phone is quiet.
        own["media_hold_timeout_audio"] = str(NO_MEDIA_TIMEOUT)
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
