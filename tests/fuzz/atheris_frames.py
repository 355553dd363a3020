"""Frames and events by atheris, which follows the coverage of the code.

    python -m tests.fuzz.atheris_frames [FOLDER of cases] [-max_total_time=SECONDS] [-seed=N]

It writes a failing input to a file `crash-…`. Give that file as the argument to run it again.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["freeswitch", "app.calls", "workers"]):
    from tests.fuzz import frames


def one(data: bytes) -> None:
    frames.check_bytes(data)
    frames.check_event(data)


def main() -> None:
    folder = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), None)
    if folder is not None and folder.is_dir() and not any(folder.iterdir()):
        (folder / "recorded").write_bytes(frames.RECORDED.read_bytes())
        for name in ("CHANNEL_ANSWER", "BACKGROUND_JOB", "RECORD_START"):
            (folder / name).write_bytes(frames.event_of_call(**{"Event-Name": name}))
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
