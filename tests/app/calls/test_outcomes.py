"""What calls say of their switch and its gateways."""

from dataclasses import replace

import pytest

from app.calls import transitions
from app.calls.model import Call, Leg, NumberKind, Role, State
from app.calls.outcomes import Outcome, outcomes
from app.calls.transitions import LegReport


def call(**leg: object) -> Call:
    legs = (
        Leg("a1", Role.SOURCE, "15500", NumberKind.PUBLIC, "ua", gateway="pstn"),
        Leg("b1", Role.DESTINATION, "15600", NumberKind.PUBLIC, "ub", gateway="spare"),
    )
    legs = tuple(replace(each, **leg) for each in legs)  # type: ignore[arg-type]
    return Call(
        *("c" * 20, "simple", "app", "12", "3", "", "0003*210", 1.0, 25, 60, 60, "job"),
        legs=legs,
        state=State.DIALING,
        switch="s1",
        claimed=2.0,
    )


def ended(cause: str, **more: float) -> LegReport:
    return LegReport("ua", created=3.0, ended=5.0, cause=cause, **more)


@pytest.mark.parametrize(
    ("report", "found"),
    [
        (LegReport("ua", created=3.0), []),
        (LegReport("ua", created=3.0, ringing=4.0), [Outcome("pstn", None)]),
        (LegReport("ua", created=3.0, answered=4.0), [Outcome("pstn", None)]),
        (ended("USER_BUSY"), [Outcome("pstn", None)]),
        (ended("UNALLOCATED_NUMBER"), [Outcome("pstn", None)]),
        (ended("NO_ANSWER"), [Outcome("pstn", None)]),
        (ended("ORIGINATOR_CANCEL"), []),
        (ended("LOSE_RACE"), []),
        (ended("NORMAL_TEMPORARY_FAILURE"), [Outcome("pstn", "NORMAL_TEMPORARY_FAILURE")]),
        (ended("NORMAL_TEMPORARY_FAILURE", answered=4.0), [Outcome("pstn", None)]),
        (ended("USER_NOT_REGISTERED"), [Outcome("pstn", "USER_NOT_REGISTERED", whole=False)]),
    ],
)
def test_what_a_leg_says(report: LegReport, found: list[Outcome]) -> None:
    before = call()
    after = transitions.report_leg(before, report)
    assert list(outcomes(before, after)) == found
    again = transitions.report_leg(after, report)
    assert not list(outcomes(after, again)), "once"
    # A sandbox number reaches no gateway.
    before = call(kind=NumberKind.SANDBOX)
    assert not list(outcomes(before, transitions.report_leg(before, report)))


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("DESTINATION_OUT_OF_ORDER", [Outcome(None, "DESTINATION_OUT_OF_ORDER")]),
        ("GATEWAY_DOWN", [Outcome("pstn", "GATEWAY_DOWN", whole=False)]),
        ("USER_BUSY", []),
    ],
)
def test_what_a_refusal_says(error: str, found: list[Outcome]) -> None:
    before = call()
    after = transitions.finish_originate(before, error=error, at=3.0)
    assert list(outcomes(before, after)) == found


def test_what_a_destination_without_a_channel_says() -> None:
    before = transitions.report_leg(call(), LegReport("ua", created=3.0, answered=4.0))
    report = LegReport("ua", ended=5.0, cause="X", originate_disposition="INVALID_GATEWAY")
    after = transitions.report_leg(before, report)
    assert after.state is State.ENDED
    assert list(outcomes(before, after)) == [Outcome("spare", "INVALID_GATEWAY", whole=False)]
