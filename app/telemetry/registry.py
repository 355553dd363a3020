"""Every metric with its type, labels and meaning. A test compares docs/metrics.md with this module.

If PROMETHEUS_MULTIPROC_DIR is set at the first import, all processes that share that folder count
into it, and each of them shows the counts of all.
"""

import os
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

# The folder that several processes count into; None for one process.
SHARED = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
if SHARED:
    os.makedirs(SHARED, exist_ok=True)
# The client writes no _created series for several processes, and they double the number of series.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()


@dataclass(frozen=True, slots=True)
class Described:
    """A metric as a scrape shows it. A counter's name ends in ``_total``; a histogram has
    ``_bucket``, ``_sum`` and ``_count``."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...]


# All metrics in the order of this module.
DESCRIBED: list[Described] = []


def _describe(
    name: str, kind: Literal["counter", "gauge", "histogram"], text: str, labels: tuple[str, ...]
) -> Described:
    DESCRIBED.append(described := Described(f"ringback_{name}", kind, text, labels))
    return described


def _counter(name: str, text: str, *labels: str) -> Counter:
    of = _describe(name, "counter", text, labels)
    return Counter(of.name, text, labels, registry=REGISTRY)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
    of = _describe(name, "histogram", text, labels)
    return Histogram(of.name, text, labels, registry=REGISTRY, buckets=buckets)


def _gauge(
    name: str, text: str, *labels: str, of_all: Literal["livesum", "livemin", "livemax"]
) -> Gauge:
    """A gauge; ``of_all`` says how the values of several processes become one."""
    of = _describe(name, "gauge", text, labels)
    return Gauge(of.name, text, labels, registry=REGISTRY, multiprocess_mode=of_all)


def _read(name: str, text: str, *labels: str) -> Described:
    """A gauge that app.health.gauges reads at the scrape."""
    return _describe(name, "gauge", text, labels)


# Buckets, in seconds.
_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONGER = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RINGING = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0)
_TALKS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)

# The API

HTTP_REQUESTS = _counter(
    "http_requests_total", "Requests that were answered", "route", "method", "status"
)
HTTP_DURATION = _histogram(
    "http_request_duration_seconds",
    "Time until a request was answered, or until a stream began",
    *("route", "method"),
    buckets=_SHORT,
)

REQUESTS_REFUSED = _counter(
    "requests_refused_total",
    "Requests that a rate limit refused: of the requests or calls of an app, or of an address",
    "reason",
)

# Caps of organizations, users, apps and policies

QUOTA_REFUSED = _counter(
    "quota_refused_total",
    "Requests that a cap refused, by the kind of its holder",
    *("holder", "cap"),
)
QUOTA_REACHED = _counter(
    "quota_reached_total",
    "Caps of which 80 or 100 percent were used, once a day or window each",
    *("holder", "cap", "percent"),
)
QUOTA_COUNTS_LOST = _counter(
    "quota_counts_lost_total", "Times that Redis came back empty and all counts of caps began anew"
)

# Calls: the process that applies a change counts it

CALLS_ACCEPTED = _counter("calls_accepted_total", "Calls that were accepted", "organization")
CALLS_ENTERED = _counter(
    "calls_entered_total", "Calls that entered a state; a skipped state does not count", "state"
)
CALLS_ENDED = _counter(
    "calls_ended_total",
    "Calls that ended, by their disposition and cause at the end",
    *("disposition", "cause", "ended_by", "switch"),
)
ORGANIZATION_CALLS_ENDED = _counter(
    "organization_calls_ended_total",
    "Calls that ended, by organization",
    *("organization", "disposition"),
)
LEGS_ENDED = _counter("legs_ended_total", "Legs that ended, by gateway", "gateway", "cause")
GATEWAY_LEGS = _counter(
    "gateway_legs_total",
    "Dialled legs that ended: answered, busy, declined, no_answer, blocked, cancelled, failed, "
    "unknown",
    *("gateway", "result"),
)
GATEWAY_DELAY = _histogram(
    "gateway_post_dial_delay_seconds",
    "Time from the INVITE of a leg to the first 18x",
    "gateway",
    buckets=_RINGING,
)
GATEWAY_TALK = _counter(
    "gateway_talk_seconds_total", "Time from the answer of legs to their end", "gateway"
)
GATEWAY_AUDIO = _counter(
    "gateway_talks_total",
    "Talks whose audio was measured: good, one_way, low_quality",
    *("gateway", "audio"),
)
DIAL_DELAY = _histogram(
    "call_dial_delay_seconds",
    "Time from the acceptance of a call until the switch took the originate",
    buckets=_LONGER,
)
BRIDGE_DELAY = _histogram(
    "call_bridge_delay_seconds",
    "Time from the acceptance of a call until source and destination were connected",
    buckets=_RINGING,
)
TALK = _histogram(
    "call_talk_seconds",
    "Time that source and destination of an ended call were connected",
    buckets=_TALKS,
)

# Workers

ORIGINATES = _counter(
    "originates_total",
    "Originates: sent, refused by the switch, unknown (sent or not), not_sent",
    *("switch", "gateway", "result"),
)
EJECTIONS = _counter(
    "switch_ejections_total",
    "Switches, and gateways on them, that failed what worked on the others: ejected, probing (tried"
    " again), returned, carrier (all switches failed, so all get calls)",
    *("switch", "gateway", "what"),
)
ORIGINATE_REPLY = _histogram(
    "originate_reply_seconds",
    "Time that the switch took to take an originate",
    "switch",
    buckets=_SHORT,
)
JOBS = _counter("jobs_total", "Jobs that were run: done, failed", "queue", "result")
ACTIONS = _counter(
    "actions_total", "Actions on calls: done, refused, unknown (done or not)", "action", "result"
)

BARRED = _counter(
    "numbers_barred_total",
    "Numbers and caller ids that a rule barred, or would bar if its policy were enforced",
    "policy",
    "rule",
    "enforced",
)

# Listeners

SWITCH_EVENTS = _counter(
    "switch_events_total",
    "Events that the leading listener of the switch handled",
    *("switch", "event"),
)
EVENT_LAG = _histogram(
    "event_lag_seconds",
    "Time from an event, the oldest of those written together, until Redis had it",
    "switch",
    buckets=_SHORT,
)
EVENTS_SKIPPED = _counter(
    "switch_events_skipped_total",
    "Events that a listener could not read: unreadable, too large",
    *("switch", "reason"),
)
EVENTS_SUSPECTED_LOST = _counter(
    "events_suspected_lost_total",
    "Legs that were gone from the switch without an event",
    "switch",
)
LEASE_MOVES = _counter("lease_moves_total", "Times that a listener began to lead", "switch")
LEASE_HELD = _gauge("lease_held", "Whether this process leads", "switch", of_all="livesum")
RECONCILE = _counter(
    "reconcile_total",
    "Comparisons of live calls with the switch's channels: done, failed",
    *("switch", "outcome"),
)
RECONCILE_SECONDS = _histogram(
    "reconcile_seconds", "Time that a comparison took", "switch", buckets=_LONGER
)

# Workers and listeners

SWITCH_CONNECTED = _gauge(
    "switch_connected",
    "Whether all processes of the kind are connected to the switch",
    *("switch", "process"),
    of_all="livemin",
)
SWITCH_DISCONNECTS = _counter(
    "switch_disconnects_total",
    "Connections to the switch that were up and ended",
    *("switch", "process"),
)

# Webhooks

WEBHOOK_DELIVERIES = _counter(
    "webhook_deliveries_total",
    "Attempts at call events: delivered, retried (later), dead (given up), dropped (deleted)",
    "result",
)

# The exporter of records

RECORDS_EXPORTED = _counter(
    "records_exported_total", "Records that the exporter wrote to the database for the first time"
)
RECORDS_REFUSED = _counter("records_refused_total", "Records that the database refused")
RECORDS_FAILURES = _counter(
    "records_export_failures_total",
    "Times that an export failed because Redis or the database was unavailable",
)
RECORDS_EXPORTED_AT = _gauge(
    "records_exported_timestamp_seconds",
    "When the database last had all records, in epoch seconds",
    of_all="livemax",
)

# All

REDIS_ERRORS = _counter(
    "redis_errors_total", "Attempts at commands that failed because Redis was unavailable"
)

# Read from Redis by the API

CALLS_LIVE = _read("calls_live", "Live calls that were claimed for the switch", "switch")
CALLS_WAITING = _read("calls_waiting", "Calls that wait in the queue for their turn")
CALLS_OVERDUE = _read(
    "calls_overdue", "Calls that a listener should have looked at over five seconds ago"
)
QUOTA_USED = _read(
    "quota_used_ratio",
    "How much of an organization's cap is used, 1 for all of it",
    *("organization", "cap"),
)
QUEUE_JOBS = _read("queue_jobs", "Jobs that wait for a worker", "queue")
QUEUE_AGE = _read("queue_age_seconds", "How long the first job in the queue has waited", "queue")
QUEUE_FAILED = _read("queue_failed_jobs", "Jobs that failed, while Redis keeps them", "queue")
SWITCH_UP = _read("switch_up", "Whether a listener hears the switch", "switch")
SWITCH_LISTENERS = _read("switch_listeners", "Listeners that hear the switch", "switch")
SWITCH_SESSIONS = _read(
    "switch_sessions", "Sessions of the switch, as its last heartbeat told", "switch"
)
SWITCH_SESSIONS_MAX = _read(
    "switch_sessions_max", "The switch's max-sessions, as its last heartbeat told", "switch"
)
SWITCH_SESSIONS_OF_OTHERS = _read(
    "switch_sessions_of_others", "Sessions of the switch that are no legs of Ringback", "switch"
)
SWITCH_IDLE_CPU = _read("switch_idle_cpu_percent", "Idle CPU, as the switch told", "switch")
SWITCH_WEIGHT = _read("switch_weight", "The weight by which the switch is chosen now", "switch")
SWITCH_WINDOW = _read(
    "switch_window", "How many calls may be set up at a time where nobody has set a limit", "switch"
)
SWITCH_PAUSED = _read("switch_paused", "Whether the switch gets no new calls", "switch")
SWITCH_EJECTED = _read(
    "switch_ejected",
    "1 while a switch, or a gateway on it, fails what works on the others and gets no calls",
    *("switch", "gateway"),
)
CHANNELS_UNKNOWN = _read(
    "channels_unknown", "Channels of ours on the switch that belong to no known call", "switch"
)
WEBHOOK_LAG = _read("webhook_lag_seconds", "How long the first call event that is due has waited")
RECORDS_UNEXPORTED = _read(
    "records_unexported", "Changes of records that wait for the exporter, if there is one"
)
WEBHOOK_DEAD_LETTERS = _read("webhook_dead_letters", "Call events that were given up")
REDIS_UP = _read("redis_up", "Whether Redis answered this scrape")

# All

BUILD_INFO = _read("build_info", "1, with the version of Ringback", "version")
