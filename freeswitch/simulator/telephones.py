"""The behaviour of telephones. The last two digits of a number decide.

Numbers of the telephone network go through a gateway. Numbers of the sandbox are dialled as
`loopback/0003*05/ringback-sandbox`.
"""

import random
import re
from dataclasses import dataclass

SANDBOX = "ringback-sandbox"
"""The dialplan context of the sandbox numbers."""

# Such as 0003*05: zeros before the last digit, with or without the organization.
_SANDBOX_NUMBER = re.compile(r"(?:[0-9]+\*)?0*([0-9])", re.ASCII)
_DIGITS = re.compile(r"\+?[0-9]*([0-9]{2})", re.ASCII)
_UNKNOWN_STATUS = "404 Not Found"


@dataclass(frozen=True, slots=True)
class Manner:
    """The behaviour of a called telephone, with times in seconds.

    A telephone that has `refusal` and does not ring rejects the call at once. Any other rings (or
    sends early media), and then answers after `answer_after`, or ends with `refusal` after
    `refuse_after`. It hangs up `talk` seconds after its answer.
    """

    rings: bool = True
    rings_after: float = 0.0
    early_media: bool = False
    """Whether it sends early media. One that `rings` too sends them first."""
    answer_after: float | None = None
    refusal: str | None = None
    status: str = ""
    """The SIP status line of the refusal, such as `486 Busy Here`."""
    refuse_after: float = 0.0
    talk: float | None = None
    presses: tuple[tuple[float, str], ...] = ()
    """The keys that it presses, each with the seconds since its answer."""
    talk_whole_seconds: bool = False
    """Whether `talk` counts whole seconds of the clock (sched_hangup), up to a second less."""
    talk_ends: str = "NORMAL_CLEARING"
    """The cause of its hang-up."""
    reason: str = ""
    """The Reason header of its BYE. Of a refusal's Reason the switch shows only the cause."""
    sound: float | None = None
    """For how many seconds from its answer it sends audio; None for all the time."""


def _refuses(cause: str, status: str) -> Manner:
    return Manner(rings=False, refusal=cause, status=status)


def _fails(after: float, *, rings: bool = True, early_media: bool = False) -> Manner:
    status, cause = "503 Service Unavailable", "NORMAL_TEMPORARY_FAILURE"
    return Manner(
        rings=rings, early_media=early_media, refusal=cause, status=status, refuse_after=after
    )


DEAD_GATEWAY = _refuses("NORMAL_TEMPORARY_FAILURE", "503 Service Unavailable")
"""The behaviour of every number behind a gateway where nothing answers SIP."""

NO_ROUTE = _refuses("NO_ROUTE_DESTINATION", _UNKNOWN_STATUS)
_ANSWERS = Manner(answer_after=0.3)
_NETWORK = {
    "08": Manner(
        refusal="NORMAL_CLEARING", status="480 Temporarily Unavailable", refuse_after=120.0
    ),
    "09": _refuses("USER_BUSY", "486 Busy Here"),
    "11": Manner(answer_after=0.2, talk=2.0, talk_whole_seconds=True),
    "12": Manner(answer_after=2.0),
    "13": _refuses("CALL_REJECTED", "603 Decline"),
    "14": _refuses("UNALLOCATED_NUMBER", _UNKNOWN_STATUS),
    "15": DEAD_GATEWAY,
    "16": Manner(rings=False, early_media=True),
    "17": Manner(rings=False, answer_after=0.04, sound=0.0),
    "21": Manner(
        rings=False,
        early_media=True,
        refusal="UNALLOCATED_NUMBER",
        status=_UNKNOWN_STATUS,
        refuse_after=4.0,
    ),
    "22": Manner(rings_after=5.0, answer_after=10.0),
    # A gateway's failures: after it has said nothing, rung, never, and after early media.
    "41": _fails(4.0, rings=False),
    "42": _fails(4.0),
    "43": _fails(120.0, rings=False),
    "44": _fails(1.0, rings=False, early_media=True),
    # Silent early media, then it rings.
    "45": Manner(rings_after=2.0, early_media=True, answer_after=7.0, sound=0.0),
    "23": Manner(answer_after=0.3, sound=0.0),
    # With Reason: Q.850;cause=38.
    "31": _refuses("NETWORK_OUT_OF_ORDER", "503 Service Unavailable"),
    "32": _refuses("CALL_REJECTED", "603 Network Blocked"),
    "33": Manner(
        answer_after=0.3,
        talk=3.0,
        talk_whole_seconds=True,
        talk_ends="NORMAL_UNSPECIFIED",
        reason='Q.850;cause=31;text="Normal, unspecified"',
    ),
    "34": _refuses("NO_USER_RESPONSE", "480 Try <b>later</b>"),
    "35": Manner(answer_after=0.3, sound=2.0),
    "24": Manner(answer_after=0.3, presses=((2.2, "1"),)),
    # A screening robot: it presses what it was not asked for, and stays.
    "61": Manner(answer_after=0.3, presses=((1.0, "5"), (1.5, "5"), (2.0, "#"))),
    "62": Manner(rings=False, answer_after=0.04, presses=((0.3, "1"),)),
    # Hangs up as it accepts.
    "63": Manner(answer_after=0.3, talk=1.22, presses=((1.2, "1"),)),
}


def network(number: str) -> Manner:
    """The behaviour of a number of the telephone network."""
    digits = _DIGITS.fullmatch(number)
    if digits:
        return _NETWORK.get(digits[1], _ANSWERS)
    return _ANSWERS if re.fullmatch(r"\+?[0-9]", number, re.ASCII) else NO_ROUTE


_SANDBOX_TALK = 180.0


def _sandbox_answers(after: float) -> Manner:
    return Manner(answer_after=after, talk=_SANDBOX_TALK)


def sandbox(number: str, luck: random.Random) -> Manner:
    """The behaviour of a sandbox number in one call. `luck` decides for 05, 06 and 07."""
    digit = _SANDBOX_NUMBER.fullmatch(number)
    match digit[1] if digit else "":
        case "0" | "1" | "2" | "3" | "4" as ending:
            return _sandbox_answers(1.0 + int(ending))
        case "5" | "6" as ending:
            if luck.random() < 0.5:
                return _sandbox_answers(3.0 if ending == "5" else 5.0)
            return _refuses("USER_BUSY", "486 Busy Here")
        case "7":
            return _sandbox_answers(luck.uniform(0.0, 20.0))
        case "8":
            return Manner(refusal="NO_ANSWER", refuse_after=120.0)
        case "9":
            return _refuses("USER_BUSY", "486 Busy Here")
    return NO_ROUTE
