"""What a listener takes for a refusal before any channel: nothing that could have rung a phone."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.calls import transitions
from app.calls.model import Call, Leg, NumberKind, Role, State, evolve, job_uuid, leg_uuid
from app.calls.transitions import LegReport
from app.store.writes import Note
from freeswitch.errors import NotConnected
from workers.listener import refusals
from workers.listener.heard import Heard
from workers.listener.refusals import Refusals

ID = "c3a5fbf2be57af92c581"
UUID = leg_uuid(ID, Role.SOURCE, 1, 1)
CLAIMED = 1000.0
NOW = 1010.0


def call() -> Call:
    return Call(
        *(ID, "simple", "app", "12", "3", "", "0003*210", 990.0, 25, 60, 60, job_uuid(ID)),
        legs=(Leg("a1", Role.SOURCE, "15500", NumberKind.PUBLIC, UUID, gateway="pstn"),),
        state=State.DIALING,
        switch="s1",
        core_uuid="run",
        claimed=CLAIMED,
    )


class World:
    """A listener with a call, and a switch that has nothing of it."""

    def __init__(self) -> None:
        self.call: Call | None = call()
        self.one = Heard(
            ID, Note("reply", "originate"), job_uuid=job_uuid(ID), error="GATEWAY_DOWN"
        )
        self.exists = "false"
        self.up_for, self.core_uuid, self.caught_up = 60.0, "run", True
        # What becomes of it.
        self.finished: list[Heard] = []

    def decide(self) -> Call | None:
        """The call after the decision; None if it is finished as a result like any other."""
        changed: list[Call] = []

        def change(call: Call, transition: Callable[[Call], Call], note: Note) -> None:
            changed.append(transition(call))

        def api(line: str) -> str:
            assert line == f"uuid_exists {UUID}"
            if self.exists == "down":
                raise NotConnected("down")
            return self.exists

        runtime: Any = SimpleNamespace(
            store=SimpleNamespace(get=lambda _: self.call, now=lambda: NOW),
            outcomes=SimpleNamespace(changed=lambda old, new: None),
        )
        link: Any = SimpleNamespace(
            address=SimpleNamespace(name="s1"), core_uuid=self.core_uuid, api=api
        )
        folding: Any = SimpleNamespace(
            take_refused=lambda age: [self.one] if age == refusals.SETTLE else [],
            finish=self.finished.append,
            change=change,
        )
        events: Any = SimpleNamespace(up_for=self.up_for)
        reconciler: Any = SimpleNamespace(caught_up=lambda: self.caught_up)
        Refusals(runtime, events, link, folding, reconciler).look()
        assert bool(changed) is not bool(self.finished)
        return changed[0] if changed else None


def test_a_refusal_before_any_channel_is_dialled_again() -> None:
    found = World().decide()
    assert found is not None and found.waits
    assert (found.refused_by, found.refused_cause, found.refused) == ("s1", "GATEWAY_DOWN", NOW)
    assert found.legs[0].uuid != UUID and found.job_uuid != job_uuid(ID)


def heard(world: World) -> None:
    world.call = transitions.report_leg(call(), LegReport(UUID, created=1001.0))


def wanted_gone(world: World) -> None:
    world.call = transitions.request_hangup(call(), at=1001.0)


def of_another_claim(world: World) -> None:
    world.call = evolve(call(), switch="s2")


def refused_before(world: World) -> None:
    refused = transitions.refuse(
        call(), error="GATEWAY_DOWN", job_uuid=job_uuid(ID), at=1001.0, again=True
    )
    world.call = transitions.claim(refused, worker="w", switch="s2", core_uuid="run", at=1002.0)
    world.call = evolve(world.call, switch="s1", job_uuid=job_uuid(ID))


def gone(world: World) -> None:
    world.call = None


@pytest.mark.parametrize(
    "happens",
    [
        heard,
        wanted_gone,
        of_another_claim,
        refused_before,
        gone,
        lambda world: setattr(world, "exists", "true"),
        lambda world: setattr(world, "exists", "down"),
        # The connection for events came up after the claim, or is down.
        lambda world: setattr(world, "up_for", NOW - CLAIMED),
        lambda world: setattr(world, "up_for", 0.0),
        lambda world: setattr(world, "core_uuid", "another"),
        lambda world: setattr(world, "caught_up", False),
        lambda world: setattr(world, "one", Heard(ID, world.one.note, None, "other job", "X")),
        lambda world: setattr(
            world, "one", Heard(ID, world.one.note, None, job_uuid(ID), "USER_BUSY")
        ),
    ],
)
def test_what_may_have_rung_is_not_dialled_again(happens: Callable[[World], None]) -> None:
    world = World()
    happens(world)
    assert world.decide() is None
