"""Counting functions. Other modules call one of them once for each thing that has happened.

No function here raises or waits. A client's words never become a label: they would make new
series without end, and may be telephone numbers.
"""

import atexit
import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from time import monotonic, sleep
from typing import Any, ParamSpec, TypeVar

from prometheus_client import Counter, Histogram

from app.calls import endings
from app.calls.model import Call, Leg, State
from app.calls.transitions import DISPOSITION_NAMES
from app.telemetry import registry

log = logging.getLogger(__name__)

# FreeSWITCH's hang-up causes (switch_channel.c). Any other cause may be text from a far end.
CAUSES = frozenset(
    """
    NONE UNALLOCATED_NUMBER NO_ROUTE_TRANSIT_NET NO_ROUTE_DESTINATION CHANNEL_UNACCEPTABLE
    CALL_AWARDED_DELIVERED NORMAL_CLEARING USER_BUSY NO_USER_RESPONSE NO_ANSWER SUBSCRIBER_ABSENT
    CALL_REJECTED NUMBER_CHANGED REDIRECTION_TO_NEW_DESTINATION EXCHANGE_ROUTING_ERROR
    DESTINATION_OUT_OF_ORDER INVALID_NUMBER_FORMAT FACILITY_REJECTED RESPONSE_TO_STATUS_ENQUIRY
    NORMAL_UNSPECIFIED NORMAL_CIRCUIT_CONGESTION NETWORK_OUT_OF_ORDER NORMAL_TEMPORARY_FAILURE
    SWITCH_CONGESTION ACCESS_INFO_DISCARDED REQUESTED_CHAN_UNAVAIL PRE_EMPTED
    FACILITY_NOT_SUBSCRIBED OUTGOING_CALL_BARRED INCOMING_CALL_BARRED BEARERCAPABILITY_NOTAUTH
    BEARERCAPABILITY_NOTAVAIL SERVICE_UNAVAILABLE BEARERCAPABILITY_NOTIMPL CHAN_NOT_IMPLEMENTED
    FACILITY_NOT_IMPLEMENTED SERVICE_NOT_IMPLEMENTED INVALID_CALL_REFERENCE
    INCOMPATIBLE_DESTINATION INVALID_MSG_UNSPECIFIED MANDATORY_IE_MISSING MESSAGE_TYPE_NONEXIST
    WRONG_MESSAGE IE_NONEXIST INVALID_IE_CONTENTS WRONG_CALL_STATE RECOVERY_ON_TIMER_EXPIRE
    MANDATORY_IE_LENGTH_ERROR PROTOCOL_ERROR INTERWORKING SUCCESS ORIGINATOR_CANCEL CRASH
    SYSTEM_SHUTDOWN LOSE_RACE MANAGER_REQUEST BLIND_TRANSFER ATTENDED_TRANSFER ALLOTTED_TIMEOUT
    USER_CHALLENGE MEDIA_TIMEOUT PICKED_OFF USER_NOT_REGISTERED PROGRESS_TIMEOUT INVALID_GATEWAY
    GATEWAY_DOWN INVALID_URL INVALID_PROFILE NO_PICKUP SRTP_READ_ERROR BOWOUT BUSY_EVERYWHERE
    DECLINE DOES_NOT_EXIST_ANYWHERE NOT_ACCEPTABLE UNWANTED NO_IDENTITY BAD_IDENTITY_INFO
    UNSUPPORTED_CERTIFICATE INVALID_IDENTITY STALE_DATE REJECT_ALL
    """.split()
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Seconds between two writes of the counts to the metrics.
_WRITE = 1.0
# The label for a missing name, and the label for names beyond the limit.
NONE, OTHER = "none", "other"

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Count:
    """A buffer for one counter, written every second. A direct increment takes ten times as long,
    and one call makes some thirty of them."""

    __slots__ = ("_counter", "_more")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._more: float = 0
        _all.append(self)

    def inc(self, count: float = 1) -> None:
        self._more += count

    def write(self) -> None:
        if self._more:
            more, self._more = self._more, 0
            self._counter.inc(more)


class _Spread:
    """A buffer for one histogram, written every second."""

    __slots__ = ("_bounds", "_buckets", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds: list[float] = histogram._upper_bounds
        self._sum = 0.0
        self._buckets = [0] * len(self._bounds)
        _all.append(self)

    def observe(self, amount: float) -> None:
        # The clocks of two machines may differ.
        self._sum += max(0.0, amount)
        self._buckets[bisect_left(self._bounds, amount)] += 1

    def write(self) -> None:
        # This does what the histogram's own observe does, for many values at once.
        if any(self._buckets):
            total, self._sum = self._sum, 0.0
            counts, self._buckets = self._buckets, [0] * len(self._bounds)
            self._histogram._sum.inc(total)
            for bucket, count in zip(self._histogram._buckets, counts, strict=True):
                if count:
                    bucket.inc(count)


_all: list[_Count | _Spread] = []


class _By(dict[tuple[str, ...], _T]):
    """The buffers of a metric by labels. The metric's own look-up takes longer than all else."""

    def __init__(self, kind: Callable[[Any], _T], metric: Counter | Histogram) -> None:
        super().__init__()
        self._kind = kind
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> _T:
        found = self[labels] = self._kind(self._metric.labels(*labels))
        return found


class _Capped:
    """A limited set of label values: the first ``most`` names, and one label for all others."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= self.most:
                return OTHER
            self._known.add(name)
        return name


_requests = _By(_Count, registry.HTTP_REQUESTS)
_durations = _By(_Spread, registry.HTTP_DURATION)
_requests_refused = _By(_Count, registry.REQUESTS_REFUSED)
_accepted = _By(_Count, registry.CALLS_ACCEPTED)
_refused = _By(_Count, registry.QUOTA_REFUSED)
_reached = _By(_Count, registry.QUOTA_REACHED)
_counts_lost = _Count(registry.QUOTA_COUNTS_LOST)
_entered = {state: _Count(registry.CALLS_ENTERED.labels(state.value)) for state in State}
_ended = _By(_Count, registry.CALLS_ENDED)
_organizations_ended = _By(_Count, registry.ORGANIZATION_CALLS_ENDED)
_legs = _By(_Count, registry.LEGS_ENDED)
_gateway_legs = _By(_Count, registry.GATEWAY_LEGS)
_gateway_delays = _By(_Spread, registry.GATEWAY_DELAY)
_gateway_talks = _By(_Count, registry.GATEWAY_TALK)
_gateway_audio = _By(_Count, registry.GATEWAY_AUDIO)
_dial_delay = _Spread(registry.DIAL_DELAY)
_bridge_delay = _Spread(registry.BRIDGE_DELAY)
_talk = _Spread(registry.TALK)
_originates = _By(_Count, registry.ORIGINATES)
_replies = _By(_Spread, registry.ORIGINATE_REPLY)
_jobs = _By(_Count, registry.JOBS)
_ejections = _By(_Count, registry.EJECTIONS)
_actions = _By(_Count, registry.ACTIONS)
_barred = _By(_Count, registry.BARRED)
_events = _By(_Count, registry.SWITCH_EVENTS)
_lag = _By(_Spread, registry.EVENT_LAG)
_skipped = _By(_Count, registry.EVENTS_SKIPPED)
_disconnects = _By(_Count, registry.SWITCH_DISCONNECTS)
_gone = _By(_Count, registry.EVENTS_SUSPECTED_LOST)
_moves = _By(_Count, registry.LEASE_MOVES)
_reconciled = _By(_Count, registry.RECONCILE)
_reconcile_seconds = _By(_Spread, registry.RECONCILE_SECONDS)
_deliveries = {
    result: _Count(registry.WEBHOOK_DELIVERIES.labels(result))
    for result in ("delivered", "retried", "dead", "dropped")
}
_redis_errors = _Count(registry.REDIS_ERRORS)
_organizations = _Capped(100)
_failing: set[str] = set()


def tell_apart(organizations: int) -> None:
    """Set how many organizations have their own series (RINGBACK_METRICS_ORGANIZATIONS)."""
    _organizations.most = organizations


def _harmless(count: Callable[_P, None]) -> Callable[_P, None]:
    """Catch and log errors of a counting function, so that its caller never fails."""

    @wraps(count)
    def counted(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            count(*args, **kwargs)
        except Exception:
            if count.__name__ not in _failing:
                # One line is enough: each call would bring another.
                _failing.add(count.__name__)
                log.exception("%s could not be counted", count.__name__)

    return counted


@_harmless
def write() -> None:
    """Write the buffered counts to the metrics."""
    for each in _all:
        each.write()


def keep_written() -> None:
    """Write the buffered counts every second, for ever. Needs its own greenlet or thread."""
    while True:
        sleep(_WRITE)
        write()


# A process that ends in order writes the last counts.
atexit.register(write)

# The API


@_harmless
def request(route: str | None, method: str, status: int, seconds: float) -> None:
    """Count an answered request; ``route`` is the rule that the request matched."""
    route = route or NONE
    method = method if method in METHODS else OTHER
    _requests[route, method, str(status)].inc()
    _durations[route, method].observe(seconds)


@_harmless
def request_refused(reason: str) -> None:
    """Count a request that a rate limit refused: ``requests``, ``calls`` or ``address``."""
    _requests_refused[(reason,)].inc()


# Calls


@_harmless
def accepted(calls: Sequence[Call]) -> None:
    """Count new calls after the API has written them."""
    for call in calls:
        _accepted[(_organizations.label(call.organization),)].inc()
    _entered[State.QUEUED].inc(len(calls))


@_harmless
def cap_refused(holder: str, cap: str) -> None:
    """Count a request that a cap refused. ``holder`` is such as ``organization:3``."""
    _refused[holder.partition(":")[0], cap].inc()


@_harmless
def cap_reached(holder: str, cap: str, percent: int) -> None:
    """Count that so many percent of a cap are used."""
    _reached[holder.partition(":")[0], cap, str(percent)].inc()


@_harmless
def counts_lost() -> None:
    """Count that the counts of caps began anew."""
    _counts_lost.inc()


@_harmless
def changed(old: Call, new: Call) -> None:
    """Count what a written change of a call brings."""
    if new.legs is not old.legs:
        # An action adds its legs at the end.
        for was, leg in zip(old.legs, new.legs, strict=False):
            if leg.ended is not None and was.ended is None:
                _leg_ended(leg)
    if old.bridged is None and new.bridged is not None:
        _bridge_delay.observe(new.bridged - new.accepted)
    if new.state is not old.state:
        _entered[new.state].inc()
        if new.state is State.ENDED:
            _call_ended(new)


def _leg_ended(leg: Leg) -> None:
    if leg.created is None and leg.cause is None:
        # Its party was taken out of a call that waited.
        return
    gateway = leg.trunk or NONE
    _legs[gateway, _cause(leg.cause)].inc()
    if (result := endings.outcome(leg)) is None:
        return
    _gateway_legs[gateway, result].inc()
    if (delay := endings.post_dial_delay(leg)) is not None:
        _gateway_delays[(gateway,)].observe(delay)
    if leg.answered is not None and leg.ended is not None:
        _gateway_talks[(gateway,)].inc(max(0.0, leg.ended - leg.answered))
    if (audio := endings.audio(leg)) is not None:
        _gateway_audio[gateway, audio].inc()


def _call_ended(call: Call) -> None:
    disposition = DISPOSITION_NAMES[call.disposition or 0]
    cause, by = _cause(call.hangup_cause), call.ended_by or NONE
    _ended[disposition, cause, by, call.switch or NONE].inc()
    _organizations_ended[_organizations.label(call.organization), disposition].inc()
    if call.bridged is not None and call.ended is not None:
        _talk.observe(call.ended - call.bridged)


def _cause(cause: str | None) -> str:
    return NONE if cause is None else cause if cause in CAUSES else OTHER


# Workers


@_harmless
def originate(
    call: Call,
    switch: str,
    result: str,
    seconds: float | None = None,
    taken: float | None = None,
) -> None:
    """Count the result of a call's originate, the seconds that the switch took to answer, and
    the time when the switch had taken it."""
    gateway = call.legs[0].trunk if call.legs else None
    _originates[switch, gateway or NONE, result].inc()
    if seconds is not None:
        _replies[(switch,)].observe(seconds)
    if taken is not None:
        _dial_delay.observe(taken - call.accepted)


@_harmless
def ejection(switch: str, gateway: str, what: str) -> None:
    """Count that a switch, or a gateway on it, was ejected, is tried, has returned, or was not
    ejected because all switches fail."""
    _ejections[switch, gateway or NONE, what].inc()


@contextmanager
def jobs(queue: str, count: int = 1) -> Iterator[None]:
    """Count ``count`` jobs that the body of the ``with`` runs together."""
    try:
        yield
    except Exception:
        _add(_jobs, (queue, "failed"), count)
        raise
    _add(_jobs, (queue, "done"), count)


@_harmless
def _add(counts: _By[_Count], labels: tuple[str, ...], count: int) -> None:
    counts[labels].inc(count)


@_harmless
def action(name: str, result: str) -> None:
    _actions[name, result].inc()


@_harmless
def barred(policy: str | None, entry: str, *, enforced: bool = True) -> None:
    """A rule barred a number: a policy's, or with None a built-in one."""
    rule = entry.partition(" ")[0]
    _barred[policy or "built-in", rule, "yes" if enforced else "no"].inc()


# Listeners


@_harmless
def events(switch: str, names: Iterable[str], lag: float | None) -> None:
    """Count handled events; ``lag`` is the age of the oldest in seconds."""
    for name in names:
        _events[switch, name].inc()
    if lag is not None:
        _lag[(switch,)].observe(lag)


@_harmless
def event_skipped(switch: str, reason: str) -> None:
    """Count an event that a listener could not read."""
    _skipped[switch, reason].inc()


@_harmless
def legs_gone(switch: str, count: int) -> None:
    """Count legs that vanished from the switch without an event."""
    _gone[(switch,)].inc(count)


@_harmless
def leads(switch: str, held: bool) -> None:
    """Record that a listener begins or ceases to lead."""
    registry.LEASE_HELD.labels(switch).set(held)
    # The series must exist before its first increment: Prometheus sees no increase in a new one.
    _gone[(switch,)].inc(0)
    _moves[(switch,)].inc(held)


@contextmanager
def reconciling(switch: str) -> Iterator[None]:
    begun = monotonic()
    try:
        yield
    except Exception:
        _add(_reconciled, (switch, "failed"), 1)
        raise
    _reconciled_in(switch, monotonic() - begun)


@_harmless
def _reconciled_in(switch: str, seconds: float) -> None:
    _reconciled[switch, "done"].inc()
    _reconcile_seconds[(switch,)].observe(seconds)


# Workers and listeners


@_harmless
def connected(switch: str, process: str, up: bool) -> None:
    registry.SWITCH_CONNECTED.labels(switch, process).set(up)


@_harmless
def forgotten(switch: str, process: str) -> None:
    """Show no connection any more to a switch that was removed."""
    if registry.SHARED:
        # The client can remove no series of several processes. No alert compares with this.
        registry.SWITCH_CONNECTED.labels(switch, process).set(math.nan)
    else:
        registry.SWITCH_CONNECTED.remove(switch, process)


@_harmless
def disconnected(switch: str, process: str) -> None:
    """Count a connection to the switch that was up and has ended."""
    _disconnects[switch, process].inc()


# Webhooks


@_harmless
def delivery(result: str) -> None:
    _deliveries[result].inc()


# The exporter of records


@_harmless
def exported(count: int) -> None:
    registry.RECORDS_EXPORTED.inc(count)


@_harmless
def record_refused() -> None:
    registry.RECORDS_REFUSED.inc()


@_harmless
def export_failed() -> None:
    registry.RECORDS_FAILURES.inc()


@_harmless
def exported_all(at: float) -> None:
    """Note that the database had all records at a time in epoch seconds."""
    registry.RECORDS_EXPORTED_AT.set(at)


# All


@_harmless
def redis_error() -> None:
    _redis_errors.inc()
