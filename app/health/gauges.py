"""Gauges that the API reads from Redis at the scrape: how many things wait, and for how long.

A gauge reads counts and first entries only, so that its cost does not grow with the number of
calls.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from rq.job import Job

from app.accounts import caps, usage
from app.accounts.store import AccountStore
from app.health.parts import is_followed
from app.store import ejection
from app.store.calls import CallStore
from app.store.queue import JobQueue, seconds
from app.store.replies import of_its_type
from app.store.switches import SwitchStore
from app.telemetry import counting, registry
from app.telemetry.registry import Described

log = logging.getLogger(__name__)

# Seconds after its deadline at which a call is overdue. Listeners look every second, and take the
# lead within four.
_OVERDUE = 5.0
_VERSION = version("ringback-server")
# The number of dead letters, of which each app has a stream.
# KEYS  1 what the names of the streams begin with: the stream of an older version
# ARGV  1 the hash that has a field for each app with dead letters
_DEAD_LETTERS = """
local count = redis.call('XLEN', KEYS[1])
for _, app in ipairs(redis.call('HKEYS', ARGV[1])) do
  count = count + redis.call('XLEN', KEYS[1] .. ':' .. app)
end
return count
"""


class BuildInfo(Collector):
    """A collector for the version of the process."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        yield _family(registry.BUILD_INFO, [((_VERSION,), 1)])


class RedisGauges(Collector):
    """A collector for the gauges that are read from Redis."""

    def __init__(
        self, store: CallStore, accounts: AccountStore, organizations: int, retention: int
    ) -> None:
        """``organizations`` is the most that are told apart; calls are kept for ``retention``
        seconds."""
        self._store = store
        self._accounts = accounts
        self._organizations = organizations
        self._retention = retention
        self._queue = JobQueue(store.redis, store.keys)
        self._switches = SwitchStore(store.redis, store.keys)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        # An unreadable gauge is left out; the page still shows the other metrics.
        found: list[GaugeMetricFamily] = []
        up = True
        for read in (self._of_switches, self._of_queues, self._of_calls, self._of_caps):
            try:
                found += read()
            except RedisError as error:
                log.warning("the gauges could not be read: %r", error)
                up = False
                break
            except Exception as error:
                log.error("some gauges could not be read: %r", error)
        yield _family(registry.REDIS_UP, [((), up)])
        yield from found

    def _of_switches(self) -> Iterator[GaugeMetricFamily]:
        switches = self._switches.get_many(self._switches.names())
        steers = [each.steer for each in switches]
        for of, values in (
            (registry.CALLS_LIVE, [each.calls for each in switches]),
            (registry.SWITCH_UP, [is_followed(each) for each in switches]),
            (registry.SWITCH_LISTENERS, [each.listeners for each in switches]),
            (registry.SWITCH_SESSIONS, [each.sessions for each in switches]),
            (registry.SWITCH_SESSIONS_MAX, [each.max_sessions for each in switches]),
            (
                registry.SWITCH_SESSIONS_OF_OTHERS,
                [s.sessions_of_others if s else None for s in steers],
            ),
            (registry.SWITCH_IDLE_CPU, [s.idle if s else None for s in steers]),
            (registry.SWITCH_WEIGHT, [s.weight if s else None for s in steers]),
            (registry.SWITCH_WINDOW, [s.window if s else None for s in steers]),
            (
                registry.SWITCH_PAUSED,
                [each.paused is not None or each.closed != "" for each in switches],
            ),
            (registry.CHANNELS_UNKNOWN, [each.unknown for each in switches]),
        ):
            told = zip(switches, values, strict=True)
            yield _family(of, [((each.name,), value) for each, value in told if value is not None])
        ejected = ejection.read(self._store.redis, self._store.keys)
        of_each = [((each.switch, each.gateway or counting.NONE), 1) for each in ejected]
        yield _family(registry.SWITCH_EJECTED, of_each)

    def _of_queues(self) -> Iterator[GaugeMetricFamily]:
        queues = self._queue.all
        with self._store.redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(queue.key)
                pipe.zcard(queue.failed_job_registry.key)
                pipe.lindex(queue.key, 0)
            replies = pipe.execute()
            for first in replies[2::3]:
                # Another program's job may have any bytes for an id, and no hash.
                pipe.hget(Job.redis_job_namespace_prefix.encode() + (first or b""), "enqueued_at")
            enqueued = of_its_type(pipe.execute(raise_on_error=False))
        now = self._store.now()
        names = [(queue.name,) for queue in queues]
        since = [seconds((at or b"").decode(errors="replace")) for at in enqueued]
        ages = [0.0 if at is None else max(0.0, now - at) for at in since]
        yield _family(registry.QUEUE_JOBS, zip(names, replies[0::3], strict=True))
        yield _family(registry.QUEUE_FAILED, zip(names, replies[1::3], strict=True))
        yield _family(registry.QUEUE_AGE, zip(names, ages, strict=True))

    def _of_caps(self) -> Iterator[GaugeMetricFamily]:
        holders = caps.capped_organizations(self._accounts.current())[: self._organizations]
        redis, keys, now = self._store.redis, self._store.keys, self._store.now()
        found = usage.read(redis, keys, holders, now, self._retention)
        ratios = [
            ((use.holder.partition(":")[2], use.cap), use.used / use.limit if use.limit else 1.0)
            for use in found
        ]
        yield _family(registry.QUOTA_USED, ratios)

    def _of_calls(self) -> Iterator[GaugeMetricFamily]:
        keys, now = self._store.keys, self._store.now()
        with self._store.redis.pipeline(transaction=False) as pipe:
            pipe.hlen(keys.waiting)
            pipe.eval(_DEAD_LETTERS, 1, keys.dead_letters, f"{keys.webhooks}sizes")
            pipe.xrange(keys.outbox, count=1)
            pipe.zrange(keys.webhook_apps, 0, 0, withscores=True)
            pipe.zrange(f"{keys.webhooks}incoming", 0, 0, withscores=True)
            pipe.exists(keys.unexported)
            pipe.xlen(keys.unexported)
            for key in (keys.old_deadlines, *map(keys.deadlines, self._switches.names())):
                pipe.zcount(key, "-inf", now - _OVERDUE)
            waiting, dead, outbox, apps, incoming, *others = pipe.execute()
        exports, unexported, *overdue = others
        yield _family(registry.CALLS_WAITING, [((), waiting)])
        yield _family(registry.CALLS_OVERDUE, [((), sum(overdue))])
        yield _family(registry.WEBHOOK_DEAD_LETTERS, [((), dead)])
        yield _family(registry.RECORDS_UNEXPORTED, [((), unexported)] if exports else [])
        # The oldest events that are no messages yet, and the time when the first message is due.
        since = [int(entry.partition(b"-")[0]) / 1000 for entry, _ in outbox]
        since += [due for _, due in (*apps, *incoming)]
        yield _family(registry.WEBHOOK_LAG, [((), max(0.0, now - min(since, default=now)))])


def _family(of: Described, samples: Iterable[tuple[Sequence[str], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(of.name, of.text, labels=of.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
