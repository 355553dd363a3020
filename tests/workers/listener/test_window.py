"""The window of calls being set up, against a switch of which only the arithmetic is known."""

import math

from hypothesis import given
from hypothesis import strategies as st

from workers.listener.window import FIRST, LEAST, MOST, Window

IDLE = 60.0
# What a FreeSWITCH 1.10.12 did with so many calls being set up at a time: milliseconds until the
# first channel and from there to the first progress, and the calls a second that it bridged.
MEASURED = (
    (0, 21, 53, 0.0),
    (2, 21, 53, 9.3),
    (5, 26, 129, 12.8),
    (10, 99, 395, 9.9),
    (20, 250, 824, 9.3),
    (40, 220, 2406, 5.3),
    (100, 344, 4915, 0.0),
)
BEST = 5


class Server:
    """A switch like that, as much larger as the calls that it bears ``best`` at a time are more."""

    def __init__(self, best: float) -> None:
        self.scale = best / BEST
        # Seconds that the far end takes beside.
        self.far_end = 0.0
        self.at = 100.0
        self.window = Window()

    def does(self, calls: float) -> tuple[float, float, float]:
        """What it does with so many calls inside, between two rows of the measurement."""
        inside = min(calls / self.scale, 100)
        row = next(n for n, low in enumerate(MEASURED[1:]) if inside <= low[0])
        (low, *least), (high, *most) = MEASURED[row : row + 2]
        part = (inside - low) / (high - low)
        channel, progress, rate = (x + part * (y - x) for x, y in zip(least, most, strict=True))
        return channel / 1000, progress / 1000, rate * self.scale

    def rate(self, calls: float) -> float:
        return self.does(calls)[2]

    def second(self, offered: float, idle: float | None = IDLE) -> float:
        """The rate in a second of two looks, while ``offered`` calls would be set up at once."""
        done = 0.0
        for _ in range(2):
            inside = min(offered, self.window.size)
            channel, progress, rate = self.does(inside)
            for _ in range(5):
                self.window.came_up(self.at, channel)
                self.window.progressed(self.at, progress + self.far_end)
            self.at += 0.5
            done += rate / 2
            self.window.look(self.at, setups=math.ceil(inside), idle=idle)
        return done


def test_it_opens_while_the_switch_is_quick() -> None:
    server = Server(best=1e9)
    for _ in range(20):
        server.second(1e9)
    assert server.window.size == MOST


def test_it_does_not_open_without_need() -> None:
    server = Server(best=1e9)
    for _ in range(20):
        server.second(2)
    assert server.window.size == FIRST


@given(best=st.floats(5, 500))
def test_three_times_the_load_comes_to_most_of_the_best_rate(best: float) -> None:
    server = Server(best)
    for _ in range(30):
        server.second(20 * best)
    rates = [server.second(20 * best) for _ in range(60)]
    assert sum(rates) / len(rates) >= 0.85 * server.rate(best)
    # What would be if all were set up at once.
    assert server.rate(20 * best) < 0.1 * server.rate(best)


def test_a_slow_far_end_does_not_close_it() -> None:
    server = Server(best=1e9)
    for _ in range(4):
        server.second(1e9)
    opened = server.window.size
    server.far_end = 5.0
    for _ in range(4):
        server.second(1e9)
    assert server.window.size > opened


def test_what_was_claimed_before_a_change_does_not_count() -> None:
    window = Window()
    for _ in range(5):
        window.came_up(1.0, 0.05)
        window.progressed(1.0, 0.05)
    window.look(2.0, setups=4)
    for _ in range(5):
        window.came_up(2.0, 5.0)
        window.progressed(2.0, 5.0)
    closed = window.look(3.0, setups=8)
    assert LEAST < closed < 8
    for _ in range(5):
        window.came_up(2.5, 5.0)
        window.progressed(2.5, 5.0)
    assert window.look(3.5, setups=8) == closed


def test_calls_without_a_channel_close_it() -> None:
    window = Window()
    assert window.look(5.0, setups=10, waiting=[2.0] * 8) == FIRST // 2


def test_the_idle_cpu_counts() -> None:
    least, busy, idle = Server(1e9), Server(1e9), Server(1e9)
    least.window.look(5.0, setups=1, idle=11.0, least_idle=10.0)
    assert least.window.size == FIRST // 2
    for _ in range(4):
        busy.second(1e9, idle=1.0)
        idle.second(1e9)
    assert FIRST < busy.window.size < idle.window.size


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0, 60), max_size=8),
            st.lists(st.floats(0, 60), max_size=8),
            st.integers(0, 5000),
            st.none() | st.floats(0, 100),
        ),
        max_size=50,
    )
)
def test_it_stays_within_its_bounds(
    history: list[tuple[list[float], list[float], int, float | None]],
) -> None:
    window, at = Window(), 10.0
    for channels, progresses, setups, idle in history:
        for took in channels:
            window.came_up(at, took)
        for took in progresses:
            window.progressed(at, took)
        at += 0.5
        assert LEAST <= window.look(at, setups=setups, waiting=channels, idle=idle) <= MOST
