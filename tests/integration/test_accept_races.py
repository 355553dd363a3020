"""Phones that answer, accept, hang up and are hung up within the same moment: never half a call,
and never two destinations.

ACCEPT_RACES says how often each pair races; keys at random times are a fifth of that for each kind:
`ACCEPT_RACES=1000 pytest tests/integration/test_accept_races.py -s` takes some five minutes.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from app.calls.model import Call, Leg, State
from tests.conftest import eventually
from tests.integration.conftest import REAL, SPEED, Ringback
from tests.integration.test_accept import ACCEPT, DESTINATION, STAYS, hang_up, place
from tests.integration.test_accept import ringback as ringback

RACES = int(os.environ.get("ACCEPT_RACES", "30"))
AT_ONCE = 8 if REAL else 16
# Pairs that do the same within a millisecond (freeswitch/simulator/telephones.py).
ANSWER, PRESS = ("15517", "15617"), ("15562", "3150662")
# The seconds before or after a key is pressed within which something else happens.
MOMENT = 0.03


def check(ringback: Ringback, call: Call) -> None:
    """That a call which has ended is no half call, and that nothing of it is left."""
    assert call.state is State.ENDED and not any(leg.live for leg in call.legs), call
    for side in (call.sources, call.destinations):
        assert sum(leg.won for leg in side) <= 1, call
    talked = [leg for leg in call.legs if leg.bridged is not None]
    if call.bridged is None:
        assert not talked and call.disposition != 0, call
    else:
        assert [leg.role for leg in talked] == ["source", "destination"], call
        assert call.disposition == 0 and call.winner is talked[0], call
    dialled = any(leg.created for leg in call.destinations)
    assert call.winner is not None or not dialled, call
    assert (call.answered is not None) is (call.winner is not None), call
    for leg in call.legs:
        assert ringback.api(f"uuid_exists {leg.uuid}").strip() == "false", (leg, call)


def run(ringback: Ringback, scenario: Callable[[], Call], count: int) -> list[Call]:
    """Play a scenario many times, several at a time, and check each call."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        calls = [each.result() for each in [pool.submit(scenario) for _ in range(count)]]
    for call in calls:
        check(ringback, call)
    assert not ringback.store.redis.keys("ringback:live:*")
    return calls


@pytest.mark.parametrize(
    ("sources", "rules"),
    [(ANSWER, {}), (PRESS, {"accept": ACCEPT}), (PRESS, {"accept": {**ACCEPT, "of": "both"}})],
    ids=["answer", "accept", "both accept"],
)
@pytest.mark.parametrize("destinations", [ANSWER, PRESS], ids=["answer", "accept"])
def test_two_at_once(
    ringback: Ringback, sources: Sequence[str], destinations: Sequence[str], rules: dict[str, Any]
) -> None:
    """Two phones of a side answer, or accept, within a millisecond: one of each side talks."""
    if rules.get("accept", {}).get("of") == "both" and destinations is ANSWER:
        destinations = PRESS

    def scenario() -> Call:
        call_id = place(ringback, list(sources), list(destinations), **rules)
        ringback.wait_state(call_id, State.BRIDGED)
        return hang_up(ringback, call_id)

    for call in run(ringback, scenario, RACES):
        assert call.bridged is not None
        for side in (call.sources, call.destinations):
            (loser,) = [leg for leg in side if not leg.won]
            assert loser.cause == "LOSE_RACE", call


def press(ringback: Ringback, leg: Leg) -> None:
    ringback.api(f"uuid_recv_dtmf {leg.uuid} 1")


def kill(ringback: Ringback, leg: Leg) -> None:
    ringback.api(f"uuid_kill {leg.uuid}")


def cancel(ringback: Ringback, call: Call) -> None:
    path = f"@me/@self/{call.id}"
    assert ringback.request("DELETE", path, token="the-prompts-user-token")[0] == 200


def at_about(moment: float, luck: random.Random, *acts: Callable[[], None]) -> None:
    """Do all of this at about the same moment, in any order."""
    with ThreadPoolExecutor(len(acts)) as pool:

        def act(what: Callable[[], None], at: float) -> None:
            time.sleep(max(0.0, at - time.monotonic()))
            what()

        done = [pool.submit(act, what, moment + luck.uniform(0, MOMENT)) for what in acts]
        for each in done:
            each.result()


@pytest.fixture
def luck() -> Iterator[random.Random]:
    seed = random.randrange(10**6)
    print(f"the seed is {seed}")
    yield random.Random(seed)


@pytest.mark.parametrize("against", ["hang-up", "cancel", "time-out", "the other side", "another"])
@pytest.mark.parametrize("rule", [ACCEPT, DESTINATION], ids=["source", "destination"])
def test_a_key_against(
    ringback: Ringback, luck: random.Random, rule: dict[str, Any], against: str
) -> None:
    """A key is pressed at a random time, and at about the same time something else happens."""
    of_source = rule is ACCEPT

    def scenario() -> Call:
        asked = [STAYS, "15600"] if against == "another" else STAYS
        # A destination that answers at once, so that some are bridged before the other thing comes.
        sides = (asked, ANSWER[0]) if of_source else (STAYS, asked)
        timeout = 1 if against == "time-out" else 20
        call_id = place(ringback, *sides, accept={**rule, "timeout": timeout, "attempts": 1})

        def is_asked(call: Call) -> bool:
            side = call.sources if of_source else call.destinations
            return all(leg.unaccepted for leg in side) or call.state is State.ENDED

        call = ringback.wait(call_id, is_asked)
        first, *others = call.sources if of_source else call.destinations
        acts: list[Callable[[], None]] = [partial(press, ringback, first)]
        now = time.monotonic()
        moment = now + luck.uniform(0, 0.3)
        if against == "hang-up":
            acts.append(partial(kill, ringback, first))
        elif against == "cancel":
            acts.append(partial(cancel, ringback, call))
        elif against == "time-out":
            # The switch ends it one to two of its seconds after its answer.
            moment = now + luck.uniform(0.7, 2.1) / SPEED
        elif against == "the other side":
            other = call.destinations[0] if of_source else call.sources[0]
            acts.append(partial(kill, ringback, other))
        else:
            acts.append(partial(press, ringback, others[0]))
        at_about(moment, luck, *acts)

        def is_clear(call: Call) -> bool:
            return call.state.rank >= State.BRIDGED.rank

        if against != "cancel":
            call = ringback.wait(call_id, is_clear)
        if call.state is not State.ENDED:
            cancel(ringback, call)
        return ringback.ended(call_id)

    calls = run(ringback, scenario, max(1, RACES // 5))
    print(
        Counter(
            (call.ended_by, call.answered is not None, call.bridged is not None) for call in calls
        )
    )
    allowed = {"api", "source", "destination", "switch", "not_accepted", "timeout"}
    assert {call.ended_by for call in calls} <= allowed
    if against == "another":
        assert all(call.bridged is not None for call in calls)


def test_nothing_is_left(ringback: Ringback) -> None:
    eventually(lambda: ringback.api("show channels count").strip().startswith("0 "))
