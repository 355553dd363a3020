"""The one table: sections of rows, each with its figures and how they compare."""

import math
from collections.abc import Sequence

_NAME = 46
_FIGURE = 11


def title(text: str) -> None:
    print(f"\n{text}")


def heads(*names: str) -> None:
    print(" " * _NAME + "".join(f"{name:>{_FIGURE}}" for name in names))


def row(name: str, *figures: float | str | None, ratio: float | None = None, to: str = "") -> None:
    """Figures, and where there is a ratio, what it is to."""
    cells = "".join(f"{figure(each):>{_FIGURE}}" for each in figures)
    behind = f"{figure(ratio):>{_FIGURE}} of {to}" if ratio is not None else ""
    print(f"  {name:{_NAME - 2}}{cells}{behind}", flush=True)


def figure(value: float | str | None) -> str:
    """Three digits or so."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "never"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed, nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]
