"""What processes use of the CPU and of memory, and what Redis is asked."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Reading:
    """Counters at a time, or how far they went between two times."""

    at: float
    # Seconds of CPU by name of the process.
    cpu: Mapping[str, float]
    # Commands that Redis carried out, those of scripts too.
    commands: int
    # Reads of its clients' sockets that it did: each is a round trip of somebody.
    reads: int

    def __sub__(self, earlier: "Reading") -> "Reading":
        cpu = {name: used - earlier.cpu[name] for name, used in self.cpu.items()}
        return Reading(
            self.at - earlier.at,
            cpu,
            self.commands - earlier.commands,
            self.reads - earlier.reads,
        )


class Meter:
    """Reads the counters of processes, with those they started, and of Redis."""

    def __init__(self, processes: Mapping[str, int], redis: Redis) -> None:
        self._redis = redis
        # What this process started is none of its own work.
        own = os.getpid()
        self._pids = {n: family(pid) if pid != own else [pid] for n, pid in processes.items()}

    def read(self) -> Reading:
        info: Any = self._redis.info("stats")
        cpu = {name: sum(map(cpu_seconds, pids)) for name, pids in self._pids.items()}
        reads = info.get("total_reads_processed", 0)
        return Reading(time.time(), cpu, info["total_commands_processed"], reads)


def family(pid: int) -> list[int]:
    """The process and all that it started and that live."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and (fields := _stat(int(path.name))):
            parents.setdefault(int(fields[1]), []).append(int(path.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time, with that of children that have ended; 0 where it has ended."""
    fields = _stat(pid)
    # utime, stime, cutime, cstime: 14 to 17 of proc(5), of which two stand before.
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def resident(pids: list[int]) -> int:
    """Bytes of memory that are resident."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except OSError:
            continue
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
