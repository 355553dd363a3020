"""When a timer of a leg under a cap is set anew."""

import pytest

from workers.listener.quota import _differs


@pytest.mark.parametrize(
    ("was", "end", "legs", "anew"),
    [
        (None, None, 1, False),
        (None, 1060, 1, True),
        (1060, None, 1, True),
        (1060, 1060, 500, False),
        # Few legs are exact.
        (1060, 1061, 64, True),
        # Many are so once the end is near.
        (5000, 5080, 65, False),
        (5000, 5081, 65, True),
        (5000, 4922, 65, False),
        (1040, 1041, 65, True),
    ],
)
def test_a_timer_is_set_anew(was: int | None, end: int | None, legs: int, anew: bool) -> None:
    assert _differs(was, end, 1000.0, legs) is anew
