"""Which legs are watched for RTP."""

from dataclasses import replace
from typing import Any

import pytest

from app.accounts.model import Accounts, Gateway
from app.calls.model import Action, NumberKind, evolve
from app.settings import load_settings
from tests.app.test_store import new_call
from workers.media import timeout_of

GATEWAYS = (Gateway("quiet", media_timeout=0), Gateway("own", media_timeout=7))
ACCOUNTS = Accounts.of([], [], [], [], [], GATEWAYS)
SETTINGS = replace(load_settings(), media_timeout=30)


@pytest.mark.parametrize(
    ("of_call", "of_leg", "seconds"),
    [
        ({}, {"gateway": "pstn"}, 30),
        ({}, {"gateway": "quiet"}, 0),
        ({}, {"gateway": "own"}, 7),
        ({}, {"gateway": None, "dial_string": "sofia/gateway/own/210"}, 7),
        ({}, {"gateway": None, "dial_string": "user/210@example"}, 30),
        ({}, {"gateway": None, "kind": NumberKind.SANDBOX}, 0),
        ({}, {"gateway": "own", "action": Action.MONITOR}, 0),
        ({}, {"gateway": "own", "action": Action.TRANSFER}, 7),
        ({"video": True}, {"gateway": "own"}, 0),
        ({"conference": "room"}, {"gateway": "own"}, 0),
    ],
)
def test_the_gateway_decides_and_else_the_setting(
    of_call: dict[str, Any], of_leg: dict[str, Any], seconds: int
) -> None:
    call = evolve(new_call(), **of_call)
    leg = evolve(call.legs[0], **of_leg)
    assert timeout_of(call, leg, ACCOUNTS, SETTINGS) == seconds


def test_it_is_off_by_default() -> None:
    call = new_call()
    assert timeout_of(call, call.legs[0], Accounts.of([], [], [], [], []), load_settings()) == 0
