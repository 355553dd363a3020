"""Latency against load, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from bench.speed.calls import Level
from bench.speed.table import quantile


def draw(levels: Sequence[Level], title: str, path: Path) -> None:
    """Both latencies at p50 and p99 against the calls that were bridged each second.

    Raises ImportError where matplotlib is not installed: the extra `bench` has it.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    levels = sorted(levels, key=lambda level: level.bridged)
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, of, colour in (
        ("POST → originate", "originated", "tab:blue"),
        ("POST → bridged in Redis", "bridged_in_redis", "tab:orange"),
    ):
        for share, line in ((0.5, "-"), (0.99, "--")):
            axes.plot(
                [level.bridged for level in levels],
                [quantile(getattr(level, of), share) * 1e3 for level in levels],
                line,
                marker="o",
                color=colour,
                label=f"{name}, p{share * 100:.0f}",
            )
    axes.set(xlabel="calls/s bridged", ylabel="ms", title=title, yscale="log", xlim=(0, None))
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
