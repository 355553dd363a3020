"""Look-ups of names beside a name server that never answers."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from app.web.look_ups import LookUps, NoAddress, share
from tests.conftest import eventually
from tests.silence import Silence, silent

# Seconds that stand for as long as it takes.
LONG = 60.0


@pytest.fixture
def silence() -> Iterator[Silence]:
    with silent() as silence:
        yield silence


def test_an_app_uses_up_its_share_alone(silence: Silence) -> None:
    look_ups = LookUps(16, LONG, resolve=silence.resolve)

    def ask(number: int) -> None:
        with suppress(NoAddress):
            look_ups.of(f"n{number}.example.com", "hostile")

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        # A quarter of what is free: three, and thirteen are left.
        eventually(lambda: len(silence.asked()) == 3)
        found = look_ups.of("localhost", "quiet")
        assert ("127.0.0.1", 0) in [place for _, place in found]
        assert len(silence.asked()) == 3
        # Its other names have their turn when the system is done with the first.
        eventually(lambda: silence.refuse() or all(each.done() for each in asking))
    assert len(silence.asked()) == 8
    assert look_ups._running == look_ups._of_app == {}


def test_nobody_waits_longer_than_the_limit_nor_twice_for_one_name(silence: Silence) -> None:
    look_ups = LookUps(16, 0.05, resolve=silence.resolve)
    with pytest.raises(NoAddress, match=r"told the address of n\.example\.com in 0\.05 s"):
        look_ups.of("n.example.com", "app")
    # The look-up goes on. Another app has no other answer, and needs no look-up of its own for it.
    with pytest.raises(NoAddress, match=r"has an address of n\.example\.com"):
        look_ups.of("n.example.com", "another")
    assert silence.asked() == ["n"]
    eventually(lambda: silence.refuse() or not look_ups._running)


def test_who_has_no_turn_is_told_so(silence: Silence) -> None:
    look_ups = LookUps(4, 0.05, resolve=silence.resolve)
    with pytest.raises(NoAddress):
        look_ups.of("a.example.com", "hostile")
    with pytest.raises(NoAddress, match="too many other names of app hostile"):
        look_ups.of("b.example.com", "hostile")
    assert silence.asked() == ["a"]
    # That says nothing about the name.
    with pytest.raises(NoAddress, match="told the address of b"):
        look_ups.of("b.example.com", "quiet")
    eventually(lambda: silence.refuse() or not look_ups._running)


def test_addresses_are_remembered_as_long_as_asked_for() -> None:
    asked = []

    def resolve(*words: object, **options: object) -> object:
        asked.append(words)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    for remembered, times in ((LONG, 1), (0.0, 2)):
        look_ups = LookUps(4, LONG, remembered=remembered, resolve=resolve)
        for _ in range(2):
            assert look_ups.of("a.example.com", "app") == ((socket.AF_INET, ("192.0.2.1", 0)),)
        assert len(asked) == times
        asked.clear()


def test_shares_leave_some_for_a_newcomer() -> None:
    free, taken = 500, []
    for _ in range(12):
        count = 0
        while count < share(free - count):
            count += 1
        free -= count
        taken.append(count)
    assert taken[:4] == [100, 80, 64, 51] and free > 20
    assert share(0) == share(3) == 1
