"""Charts of recent calls, from the records of ended calls and the index of live ones.

The cost of a chart does not grow with the number of calls: the indexes count all of them, and a
chart reads only the last few of each stretch of time.
"""

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
from redis import Redis

from app.records.model import Record
from app.store.keys import Keys
from app.web.turns import in_pieces

# For each span: the seconds of the chart, the seconds of one point, and the seconds for which the
# chart is kept.
SPANS = {"15m": (900, 30, 4.0), "24h": (86_400, 900, 30.0)}
# The most records, and the most live calls, read for one point.
_SAMPLE = 100
# The most causes in a chart, and the most charts kept.
_CAUSES = 10
_KEPT = 256
# Records that are read in one slice.
_CHUNK = 100


class Charts:
    """The charts of the calls in an index."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        # The charts by index and span, each with the time when it was made, in seconds of the
        # monotonic clock.
        self._made: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    def chart(self, records: str, live: str, span: str, now: float) -> dict[str, Any]:
        """The chart of a span. ``records`` and ``live`` name indexes by the time of acceptance;
        ``now`` is in epoch seconds."""
        made, found = self._made.get((records, span), (-math.inf, {}))
        if time.monotonic() - made > SPANS[span][2]:
            found = self._make(records, live, span, now)
            if len(self._made) >= _KEPT:
                self._made.clear()
            self._made[records, span] = time.monotonic(), found
        return found

    def _make(self, records: str, live: str, span: str, now: float) -> dict[str, Any]:
        length, step, _ = SPANS[span]
        last = math.floor(now / step) * step
        starts = range(last - length + step, last + 1, step)
        with self._redis.pipeline(transaction=False) as pipe:
            for start in starts:
                low, high = str(start), f"({start + step}"
                for key in (records, live):
                    pipe.zcount(key, low, high)
                    pipe.zrange(key, high, low, desc=True, byscore=True, offset=0, num=_SAMPLE)
            replies: Any = iter(pipe.execute())
        rows = []
        for start in starts:
            ended, of_ended, begun, of_live = (next(replies) for _ in range(4))
            rows.append((start, ended, begun, [one.decode() for one in (*of_ended, *of_live)]))
        ids = [one for *_, some in rows for one in some]
        found = self._ended(ids)
        # Live calls that were answered count too, or long calls would be missing from the last
        # minutes.
        known = self._talking([one for one in ids if one not in found]) | found
        points = [
            {"at": start, "calls": ended + begun}
            | _figures([known[one] for one in some if one in known])
            for start, ended, begun, some in rows
        ]
        # The records that were read stand for all records of their stretch.
        causes: defaultdict[str, float] = defaultdict(float)
        for _, ended, _, some in rows:
            read = [found[one] for one in some if one in found]
            for record in read:
                causes[record.get("hangup_cause") or "none"] += ended / len(read)
        most = sorted(causes, key=lambda cause: causes[cause], reverse=True)
        return {
            "step": step,
            "points": points,
            "causes": [(cause, round(causes[cause])) for cause in most[:_CAUSES]],
            "read": len(found),
            "ended": sum(ended for _, ended, *_ in rows),
            "all": _figures(list(known.values())) | _rate(points),
        }

    def _ended(self, ids: Sequence[str]) -> dict[str, Record]:
        def read(some: Sequence[str]) -> list[Record]:
            texts: Any = self._redis.mget(map(self._keys.record, some))
            return [orjson.loads(text) for text in texts if text is not None]

        return {record["id"]: record for record in in_pieces(ids, read, _CHUNK)}

    def _talking(self, ids: Sequence[str]) -> dict[str, Record]:
        """The records that bridged live calls will have, by id."""

        def read(some: Sequence[str]) -> Any:
            with self._redis.pipeline(transaction=False) as pipe:
                for one in some:
                    pipe.hmget(self._keys.call(one), "accepted", "answered", "bridged")
                return pipe.execute()

        rows = zip(ids, in_pieces(ids, read, _CHUNK), strict=True)
        return {
            one: {"published": float(accepted), "answered": float(answered), "disposition": 0}
            for one, (accepted, answered, bridged) in rows
            if accepted and answered and bridged
        }


def _figures(records: Sequence[Record]) -> dict[str, Any]:
    """The figures of some records: the share of answered calls, and the seconds from acceptance to
    answer."""
    if not records:
        return {}
    answered = sum(1 for record in records if record["disposition"] == 0)
    figures = {"rate": round(answered / len(records), 4)}
    waits = sorted(r["answered"] - r["published"] for r in records if r.get("answered"))
    if waits:
        figures |= {"p50": _nearest(waits, 0.5), "p90": _nearest(waits, 0.9)}
    return figures


def _rate(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The answer rate of all points, each weighted by its number of calls: a chart reads as many
    records of a busy stretch as of a quiet one."""
    rated = [point for point in points if "rate" in point]
    calls = sum(point["calls"] for point in rated)
    return {"rate": round(sum(p["rate"] * p["calls"] for p in rated) / calls, 4)} if calls else {}


def _nearest(values: Sequence[float], share: float) -> float:
    """The smallest value that is at least as large as this share of the values."""
    return round(values[math.ceil(share * len(values)) - 1], 3)
