"""A long search for faults: `make fuzz`, or

    FUZZ_SECONDS=3600 FUZZ_SEED=7 python -m tests.fuzz

It runs one search after the other, each for its share of FUZZ_SECONDS (600), and goes on after a
fault. Each prints its failing input, and how to run it again. Exit status 1 if one found a fault.
"""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

# The share of each: atheris on frames, the searches of this folder, schemathesis on all operations,
# faults done to running processes.
_ATHERIS, _SEARCHES, _OPERATIONS, _FAULTS = 0.2, 0.3, 0.2, 0.3
_ROOT = Path(__file__).parents[2]


def main() -> int:
    seconds = float(os.environ.get("FUZZ_SECONDS") or 600)
    seed = int(os.environ.get("FUZZ_SEED") or random.randrange(1, 1_000_000))
    print(f"FUZZ_SEED={seed} FUZZ_SECONDS={seconds:g}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ringback-fuzz-") as corpus:
        options = [f"-seed={seed}", f"-max_total_time={max(1, int(seconds * _ATHERIS))}"]
        options += ["-max_len=65536", "-verbosity=0", f"-artifact_prefix={_ROOT}/build/fuzz-"]
        (_ROOT / "build").mkdir(exist_ok=True)
        found = [
            _run("-m", "tests.fuzz.atheris_frames", corpus, *options),
            _pytest("tests/fuzz", seconds * _SEARCHES / 6, seed),
            _pytest("tests/app/test_openapi.py", seconds * _OPERATIONS / 40, seed),
            _run(
                *("-m", "bench.faults", "--asks", "--seed", str(seed)),
                *("--seconds", str(max(10.0, seconds * _FAULTS))),
            ),
        ]
    print(f"{sum(found)} of {len(found)} searches found a fault", flush=True)
    return 1 if any(found) else 0


def _pytest(path: str, seconds: float, seed: int) -> bool:
    """Run the searches of a file or a folder, each for so many seconds."""
    given = {"FUZZ_SECONDS": f"{seconds:.1f}", "FUZZ_SEED": str(seed)}
    return _run("-m", "pytest", "-q", "-n", "0", path, more=given)


def _run(*words: str, more: dict[str, str] | None = None) -> bool:
    """Run a program; whether it found a fault."""
    print(f"\n{' '.join(words)}", flush=True)
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=_ROOT, env={**os.environ, **(more or {})}).returncode != 0


if __name__ == "__main__":
    sys.exit(main())
