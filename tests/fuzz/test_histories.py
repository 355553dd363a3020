"""The invariants of `bench/faults`: each finds what it is for, and nothing in a good history."""

import json

from bench.faults.histories import record_faults, time_faults, version_faults

_STATES = ["queued", "dialing", "ringing", "answered", "bridged", "ended"]


def _told(*changes: tuple[int, str], call: str = "c") -> list[dict[str, str]]:
    return [{"call": call, "version": str(number), "state": state} for number, state in changes]


def test_versions_without_gaps_and_states_forward() -> None:
    good = _told((1, "queued"), (2, "dialing"), (3, "dialing"), (4, "ended"))
    assert not list(version_faults(good + _told((7, "ended"), call="d"), _STATES))
    for bad in (
        _told((1, "queued"), (3, "ended")),
        _told((1, "queued"), (1, "queued")),
        _told((1, "answered"), (2, "ringing")),
    ):
        assert len(list(version_faults(bad, _STATES))) == 1


def test_times_of_a_leg_in_order() -> None:
    leg = {
        "created": "1.0",
        "answered": "2.0",
        "early_media": "1.5",
        "bridged": "2.0",
        "ended": "3",
    }
    assert not list(time_faults({"a1": leg}))
    assert list(time_faults({"a1": {**leg, "ended": "1.9"}}))
    assert list(time_faults({"a1": {**leg, "early_media": "2.5"}}))


def test_a_record_agrees_with_its_call() -> None:
    fields = {
        **{"disposition": "0", "hangup_cause": "NORMAL_CLEARING", "ended_by": "api"},
        **{"user": "12", "extension": "0003*210", "ended": "3.5"},
        **{"legs": "a1", "leg:a1:number": "15500"},
    }
    record = {**{name: fields[name] for name in ("hangup_cause", "ended_by", "user", "extension")}}
    record |= {"disposition": 0, "ended": 3.5, "legs": [{"number": "15500"}]}
    assert not list(record_faults(fields, json.dumps(record).encode()))
    assert list(record_faults(fields, None)) == ["has no record"]
    for changed in ({"ended_by": "source"}, {"ended": 4.5}, {"legs": []}):
        assert len(list(record_faults(fields, json.dumps({**record, **changed}).encode()))) == 1
