"""Whether a Redis can do what Ringback needs of it: looked at when a process starts, and by
`ringback doctor`.

Each script runs once, on keys that nothing else uses. So a Redis that refuses a script, or a user
that may not use what it uses, is found before a client meets it.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from app.settings import SettingsError
from app.store import once, scripts
from app.store.client import is_unavailable
from app.store.keys import Keys

log = logging.getLogger(__name__)

# The first version with EXAT of SET, which keeps a call's record.
REDIS_VERSION = (6, 2)
# Seconds after which Redis forgets the keys of a probe.
_KEPT = 60
_ADVICE = "docs/operations/redis-users.md says what the user of each process may do."
# A script by its name, with its text and the number of keys, KEYS and ARGV.
Probe = tuple[str, scripts.Script, list[Any]]


class Unfit(SettingsError):
    """Ringback cannot work on this Redis; the text is a sentence for an operator."""


def check(redis: Redis, keys: Keys, replicas: int, more: Iterable[Probe] = ()) -> None:
    """Raise Unfit for a Redis that cannot work, or an error of Redis.

    ``replicas`` is RINGBACK_WAIT_REPLICAS; ``more`` are scripts of the process besides those of
    app/store.
    """
    for sentence in faults(redis, keys, replicas, more):
        raise Unfit(f"RINGBACK_REDIS_URL: {sentence}")


def faults(redis: Redis, keys: Keys, replicas: int, more: Iterable[Probe] = ()) -> Iterator[str]:
    """A sentence for each reason why this Redis cannot work. May raise an error of Redis that says
    that it is unavailable."""
    info = _info(redis)
    yield from _settings_faults(info)
    if info.get("cluster_enabled"):
        # No script would run.
        return
    if replicas and (error := _refused(redis, "WAIT", 0, 1)) is not None:
        yield f"RINGBACK_WAIT_REPLICAS is {replicas}, and Redis refuses WAIT: {error}. {_ADVICE}"
    for name, script, words in (*_probes(redis, keys), *more):
        try:
            scripts.run(redis, script, words)
        except ResponseError as error:
            if is_unavailable(error):
                raise
            yield f"Redis refuses the script {name}: {error}. {_ADVICE}"
            return


def version_of(info: Mapping[str, Any]) -> tuple[int, ...]:
    """The first two numbers of the version; empty where Redis does not say."""
    return tuple(map(int, re.findall(r"\d+", str(info.get("redis_version", "")))[:2]))


def _info(redis: Redis) -> dict[str, Any]:
    """What Redis tells of itself; empty where this user may not ask, or a proxy cannot."""
    try:
        found: Any = redis.info()
    except ResponseError as error:
        if is_unavailable(error):
            raise
        log.warning("cannot ask Redis for INFO: %s", error)
        return {}
    return dict(found)


def _settings_faults(info: Mapping[str, Any]) -> Iterator[str]:
    version = version_of(info)
    if version and version < REDIS_VERSION:
        least = ".".join(map(str, REDIS_VERSION))
        yield f"Redis is of version {info['redis_version']}. Install {least} or newer."
    if info.get("cluster_enabled"):
        yield (
            "Redis runs in cluster mode, and Ringback's scripts use keys of several slots."
            " Use one master with replicas and Sentinels."
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield (
            f"maxmemory-policy is {policy}, which deletes calls when Redis is full."
            " Set maxmemory-policy noeviction."
        )


def _refused(redis: Redis, *words: Any) -> str | None:
    """Why Redis refuses a command; None where it does not."""
    try:
        redis.execute_command(*words)  # type: ignore[no-untyped-call]
    except RedisError as error:
        if is_unavailable(error):
            raise
        return str(error)
    return None


def _probes(redis: Redis, real: Keys) -> Iterator[Probe]:
    """Each script of app/store with what has it use its keys, and change none of Ringback's."""
    # Imported here: these import the number of the format, whose module looks at Redis by this one.
    from app.store.calls import CallStore
    from app.store.pace import SUSPENDED, Asking, Claims

    keys = Keys(f"{real.prefix}probe:")
    call, mark = keys.call("probe"), once.new_mark()
    end = ["EXPIRE", call, _KEPT]
    limits = json.dumps({"switch": "1.0:1"})
    yield (
        "limits",
        scripts.LIMITS,
        # Without the words that change the accounts, as most processes may not.
        [*(3, keys.limits, keys.room, keys.format), 0, mark, 0, limits],
    )
    change = ["", json.dumps([["HSET", 1, "version", 1, "stamp", mark], ["EXPIRE", 1, _KEPT]])]
    # As a request without a nonce does.
    accept = json.dumps([[1, change]])
    after_all = f"{1 << 52}"
    yield (
        "accept",
        scripts.ACCEPT,
        [3, keys.limits, keys.limits, call, after_all, "", "", accept, "", len(end), *end],
    )
    unchanged = [f"1:{mark}", "[]"]
    yield "change", scripts.CHANGE, [1, call, *unchanged]
    yield "begin", scripts.BEGIN, [2, keys.waiting, call, "[]", "", *unchanged]
    pace = Claims(CallStore(redis, keys), "probe").words(Asking(mark), {"probe": "run"}, 1)
    # Only workers may look at RQ's own mark.
    pace[pace.index(SUSPENDED)] = keys.suspended
    yield "pace", scripts.PACE, pace
    yield "queued", scripts.QUEUED, [2, keys.queued, keys.claims, 1, 1]
    yield "buckets", scripts.BUCKETS, [1, keys.bucket("requests", "probe"), 1, 1, 0]
    check = {"holder": "probe", "name": "probe", "of": "", "limit": 1}
    yield (
        "alert",
        scripts.ALERT,
        [0, keys.prefix, f"{1 << 52}", json.dumps(check), 80, 1, _KEPT],
    )
    # At last: it removes what the others have written.
    left = (
        *(call, keys.limits, keys.pace, keys.format, keys.room, keys.alerts, keys.turn(mark)),
        *(f"{keys.prefix}quota:alert:80:probe probe", keys.once(mark)),
    )
    commands = [["DEL", key] for key in left]
    yield "once", scripts.ONCE, [*once.arguments(keys, mark, commands)]
