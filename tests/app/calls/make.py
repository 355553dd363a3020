"""Calls as values, for tests of what changes them."""

from typing import Any

from app.calls.model import Call, Leg, NumberKind, Role, State, job_uuid, leg_uuid

CALL_ID = "0123456789abcdef0123"
ROLES = {role.letter: role for role in Role}


def make_leg(leg_id: str, **fields: Any) -> Leg:
    """The leg ``b1.2`` is the second way to the first destination."""
    role = ROLES[leg_id[0]]
    party, _, attempt = leg_id[1:].partition(".")
    given = {
        "number": f"15{party}00",
        "kind": NumberKind.PUBLIC,
        "uuid": leg_uuid(CALL_ID, role, int(party), int(attempt or 1)),
        "gateway": "pstn",
        **fields,
    }
    return Leg(leg_id, role, **given)


def make_call(*legs: str | Leg, **fields: Any) -> Call:
    """A queued call, accepted at 1000. A leg is given by its id or as a value."""
    given = {
        "kind": "simple",
        "app": "app",
        "user": "12",
        "organization": "3",
        "organization_name": "One",
        "extension": "0003*210",
        "accepted": 1000.0,
        "wait_for_pickup": 20,
        "call_duration": 600,
        "queue_timeout": 60,
        "job_uuid": job_uuid(CALL_ID),
        **fields,
    }
    made = tuple(leg if isinstance(leg, Leg) else make_leg(leg) for leg in legs or ("a1", "b1"))
    return Call(CALL_ID, **{"legs": made, **given})


def dialled(*legs: str | Leg, **fields: Any) -> Call:
    """A call that a worker claimed at 1001 and sent at 1002."""
    claim = {"worker": "w1", "switch": "s1", "core_uuid": "core-1", "claimed": 1001.0}
    return make_call(*legs, **{"state": State.DIALING, **claim, "sent": 1002.0, **fields})
