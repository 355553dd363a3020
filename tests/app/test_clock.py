"""The clock of Redis, as a process tells it."""

import time

from redis import Redis

from app.store.clock import RedisClock


def test_a_better_estimate_puts_no_later_moment_before_an_earlier_one(redis: Redis) -> None:
    clock, at = RedisClock(redis), 2e9
    # Redis may have read its clock at any moment of a reply that took a second.
    clock.set(time.monotonic() - 1.0, at * 1e6)
    first = clock.now()
    assert first > at + 0.4
    clock.set(time.monotonic(), at * 1e6)
    second = clock.now()
    assert first < second < first + 0.1
    assert second < clock.now()


def test_a_step_of_the_clock_is_followed(redis: Redis) -> None:
    clock, at = RedisClock(redis), 2e9
    clock.set(time.monotonic(), at * 1e6)
    assert clock.now() >= at
    clock.set(time.monotonic(), (at - 3600.0) * 1e6)
    assert clock.now() < at - 3500.0
