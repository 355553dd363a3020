"""What the log says of a switch that cannot be reached."""

import logging
from types import SimpleNamespace

import pytest

from freeswitch import outages
from freeswitch.outages import MOST_LINES, REMINDER, Outages


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> SimpleNamespace:
    caplog.set_level(logging.DEBUG)
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(outages, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno > logging.DEBUG]


def test_an_outage_has_a_line_at_each_end_and_one_a_minute(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outages("main")
    outage.add("events")
    outage.add("commands")
    outage.up("events", "c1")
    outage.up("commands", "c1")
    for _ in range(1300):
        outage.down("events", "end of file")
        outage.down("commands", "refused")
        clock.now += 0.1
    outage.up("commands", "c2")
    outage.up("events", "c2")
    assert told(caplog) == [
        "switch main is up, core c1",
        "switch main is down: end of file",
        "switch main has been down for 60 s: end of file",
        "switch main has been down for 120 s: end of file",
        "switch main is up after 130 s, core c2",
    ]
    assert len(caplog.records) == 5 + 2600 - 3


def test_a_switch_that_comes_and_goes_does_not_fill_the_log(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outages("main")
    outage.add("events")
    for _ in range(100):
        outage.up("events", "c")
        outage.down("events", "bad frame")
    assert len(told(caplog)) == MOST_LINES
    clock.now += REMINDER
    outage.down("events", "bad frame")
    assert len(told(caplog)) == MOST_LINES + 1


def test_a_long_answer_of_the_switch_is_cut(
    clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    Outages("main").down("events", "x" * 1_000_000)
    assert len(told(caplog)[0]) < 1000
