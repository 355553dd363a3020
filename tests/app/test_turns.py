"""Turns of apps, and slices of what takes long: who comes before whom, without a clock."""

import threading
from collections.abc import Callable

import pytest

from app.errors import ApiError
from app.web import turns
from app.web.turns import Line, Turns, in_pieces, piece
from tests.conftest import eventually


def spawn(do: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_those_who_wait_get_the_lock_in_their_order() -> None:
    line, order = Line(), list[int]()

    def take(number: int) -> None:
        assert line.acquire()
        order.append(number)
        line.release()

    assert line.acquire()
    threads = []
    for number in range(10):
        threads.append(spawn(lambda n=number: take(n)))  # type: ignore[misc]
        eventually(lambda n=number: len(line) == n + 1)  # type: ignore[misc]
    assert not line.acquire(timeout=0)
    line.release()
    join(threads)
    assert order == list(range(10))
    assert line.acquire(timeout=0)


def test_a_wide_line_lets_some_in_at_a_time() -> None:
    of = Turns(width=2)
    with of.of("app"), of.of("app"):
        line = of._lines["app"]
        assert not line.acquire(timeout=0)
    assert line.acquire(timeout=0) and line.acquire(timeout=0)
    assert not line.acquire(timeout=0)


def test_one_that_waits_no_more_leaves_the_line() -> None:
    line = Line()
    assert line.acquire()
    assert not line.acquire(timeout=0.01)
    assert len(line) == 0
    line.release()
    assert line.acquire(timeout=0)


def test_one_that_is_killed_in_the_moment_of_its_turn_passes_it_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line()
    assert line.acquire()

    class Killed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            line.release()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Event", Killed)
    with pytest.raises(KeyboardInterrupt):
        line.acquire()
    assert line.acquire(timeout=0)


def test_too_many_of_an_app_are_refused_and_no_other_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_WAITING", 2)
    of, done = Turns(), list[str]()

    def take() -> None:
        with of.of("hostile"):
            done.append("hostile")

    with of.of("hostile"):
        threads = [spawn(take) for _ in range(2)]
        eventually(lambda: len(of._lines["hostile"]) == 2)
        with pytest.raises(ApiError) as refused, of.of("hostile"):
            pass
        assert (refused.value.status, refused.value.retry_after) == (503, 5)
        with of.of("quiet"):
            done.append("quiet")
    join(threads)
    assert done == ["quiet", "hostile", "hostile"]


def test_a_quiet_app_is_done_before_the_lists_of_a_hostile_one() -> None:
    """The hostile app's first list holds up the quiet one by a slice at a time, its others not at
    all."""
    of, done, begun = Turns(), list[str](), threading.Event()
    may_go_on = threading.Event()

    def read(rows: range) -> range:
        begun.set()
        assert may_go_on.wait(60)
        return rows

    def take(app: str, count: int) -> None:
        with of.of(app):
            assert len(in_pieces(range(count), read, 1)) == count
            done.append(app)

    hostile = [spawn(lambda: take("hostile", 2 * turns.ROWS + 2)) for _ in range(20)]
    assert begun.wait(60)
    eventually(lambda: len(of._lines["hostile"]) == 19)
    quiet = spawn(lambda: take("quiet", turns.ROWS + 1))
    eventually(lambda: len(turns._slices) == 1)
    may_go_on.set()
    join([quiet, *hostile])
    assert done[0] == "quiet"
    assert done.count("hostile") == 20


def test_all_rows_are_made_in_order_and_no_slice_is_longer() -> None:
    sizes = []

    def make(some: range) -> range:
        sizes.append(len(some))
        return some

    for count in (0, 1, turns.ROWS, turns.ROWS + 1, 1000):
        sizes.clear()
        assert in_pieces(range(count), make) == list(range(count))
        assert max(sizes) <= turns.ROWS


def test_a_slice_within_a_slice_is_a_part_of_it() -> None:
    def make(some: range) -> range:
        with piece():
            return range(len(in_pieces(some, lambda rows: rows, 1)))

    assert len(in_pieces(range(100), make)) == 100


def test_a_slice_that_fails_lets_the_next_one_begin() -> None:
    with pytest.raises(ValueError), piece():
        raise ValueError
    with piece():
        pass
    assert len(turns._slices) == 0 and turns._slices.acquire(timeout=0)
    turns._slices.release()
