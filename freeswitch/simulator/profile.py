"""The caller profile of a channel, and the times of what happened to it."""

import time
from dataclasses import dataclass
from functools import lru_cache

_MOMENTS = (
    "start profile_start answer bridge last_hold resurrect progress progress_media end".split()
)
# The spans of the report, in seconds, milliseconds and microseconds.
_SPANS = [
    (
        [
            f"variable_{unit}duration",
            *(
                f"variable_{name}{unit}sec"
                for name in ("bill", "progress", "answer", "wait", "progress_media", "flow_bill")
            ),
        ],
        micros,
    )
    for unit, micros in (("", 1_000_000), ("m", 1000), ("u", 1))
]


@dataclass(slots=True)
class Profile:
    """The caller and the called party, as in the Caller-* headers."""

    destination_number: str
    callee_id_number: str
    caller_id_name: str = ""
    caller_id_number: str = "0000000000"
    orig_caller_id_name: str = ""
    orig_caller_id_number: str = "0000000000"
    ani: str = "0000000000"
    callee_id_name: str = "Outbound Call"
    network_addr: str = ""
    dialplan: str = ""
    source: str = "src/switch_ivr_originate.c"
    context: str = "default"


@dataclass(slots=True)
class Times:
    """Times in microseconds since 1970, 0 for what has not happened."""

    created: int = 0
    profile_created: int = 0
    answered: int = 0
    progress: int = 0
    progress_media: int = 0
    hangup: int = 0
    bridged: int = 0
    last_hold: int = 0
    hold_accum: int = 0
    """The time on hold so far, in microseconds."""

    def report(self) -> dict[str, str]:
        """The variables about the whole call, as in its last events."""
        moments = (
            self.created,
            self.profile_created,
            self.answered,
            self.bridged,
            self.last_hold,
            0,
            self.progress,
            self.progress_media,
            self.hangup,
        )
        report = {"variable_digits_dialed": "none"}
        for name, moment in zip(_MOMENTS, moments, strict=True):
            if moment:
                report[f"variable_{name}_stamp"] = stamp(moment // 1_000_000)
        for name, moment in zip(_MOMENTS, moments, strict=True):
            report[f"variable_{name}_epoch"] = str(moment // 1_000_000)
            report[f"variable_{name}_uepoch"] = str(moment)
        answered_until = self.hangup if self.answered else 0
        spans = (
            (self.created, self.hangup),
            (self.answered, answered_until),
            (self.created, self.progress),
            (self.created, self.answered),
            (self.created, self.bridged),
            (self.created, self.progress_media),
            (self.created, answered_until),
        )
        for names, micros in _SPANS:
            for name, (start, end) in zip(names, spans, strict=True):
                report[name] = str(end // micros - start // micros) if end else "0"
        return report


@lru_cache(maxsize=16)
def stamp(second: int) -> str:
    """The local time of a second since 1970, as the switch writes it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
