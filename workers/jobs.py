"""The jobs: short, and none of them waits for a phone.

RQ runs these by their dotted names in the process that :func:`bind` was called in.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

from rq import get_current_job

from app.calls.ending_many import EndMany
from app.calls.model import Call, State
from app.store import audit
from app.store.audit import Who
from app.store.calls import Change
from app.store.queue import (
    ACT,
    ACTIONS,
    ADOPT,
    CALLS,
    END_MANY,
    HANG_UP,
    HANG_UP_CHANNEL,
    PLACE_CALL,
)
from app.store.writes import Note
from app.telemetry import counting, logs
from freeswitch.errors import EventSocketError
from freeswitch.pool import SwitchPool
from workers.actions import Actor
from workers.adopting import Adopter, Refused
from workers.dispatch import Dispatcher
from workers.hang_up import try_to_hang_up
from workers.runtime import Runtime

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True)
class JobContext:
    runtime: Runtime
    pool: SwitchPool
    dispatcher: Dispatcher


_context: JobContext | None = None


def bind(context: JobContext) -> None:
    """Set the connections that the jobs of this process use."""
    global _context
    _context = context


def _bound() -> JobContext:
    if _context is None:
        raise RuntimeError("this process was not started as `ringback worker`")
    return _context


def _logged(job: Callable[..., _T]) -> Callable[..., _T]:
    """A job whose log lines name its call."""

    @wraps(job)
    def run(call_id: str, *args: str) -> _T:
        current = get_current_job()
        with logs.about(call=call_id, job=current.id if current else None):
            return job(call_id, *args)

    return run


def place_call(call_id: str) -> None:
    """Wait until what was claimed together with this job is with the switches.

    The job is a reason to look: CallWorker claims when it takes jobs. The call itself stands in
    line since it was accepted, and any worker may claim it.
    """
    with counting.jobs(CALLS):
        _bound().dispatcher.wait_sent()


def place_calls(jobs: Sequence[tuple[str]]) -> list[None]:
    """Do what place_call does, once for many jobs."""
    with counting.jobs(CALLS, len(jobs)):
        _bound().dispatcher.wait_sent()
    return [None] * len(jobs)


# A worker that has several of these jobs runs this function in their place.
place_call.many = place_calls  # type: ignore[attr-defined]


@counting.jobs(ACTIONS)
def hang_up(*call_ids: str) -> None:
    """Hang up what clients have asked for, calls or parties of them, on their switches."""
    _hang_up(_bound().runtime.store.get_many(call_ids))


@counting.jobs(ACTIONS)
def end_many(wanted: str) -> None:
    """Mark calls as wanted ended (EndMany as text), and hang them up. Raises an error of Redis:
    marks that Redis has are not made again."""
    store, many = _bound().runtime.store, EndMany.loads(wanted)
    who = Who(**many.who)  # type: ignore[arg-type]
    changes = []
    for call in store.get_many(many.calls):
        if call is not None:
            data = ",".join(many.calls[call.id]) or None
            note = Note("request", "hang up", data=data, who=who, audited=audit.HANG_UP)
            changes.append(Change(call, many.applied, (note,)))
    _hang_up(store.change_many(changes, replicated=True))


def _hang_up(calls: Iterable[Call | None]) -> None:
    context, job = _bound(), get_current_job()
    unavailable = set()
    for call in calls:
        if call is None or call.state is State.ENDED or call.switch is None:
            continue
        with logs.about(call=call.id, job=job.id if job else None):
            connection = None
            if call.switch not in unavailable:
                connection = context.pool.reach(call.switch)
            if connection is None:
                # To reach a switch that is down takes a while.
                unavailable.add(call.switch)
                log.warning(
                    "call %s: switch %s is unavailable; the listener hangs the call up once it is "
                    "back",
                    call.id,
                    call.switch,
                )
                continue
            try_to_hang_up(context.runtime.store, connection, call)


@counting.jobs(ACTIONS)
@_logged
def act(call_id: str, request: str) -> str | None:
    """Carry out an action; the API gets the result."""
    context = _bound()
    return Actor(context.runtime, context.pool).act(call_id, request)


@counting.jobs(ACTIONS)
def adopt(switch: str, uuid: str, extension: str, who: str) -> str:
    """Make a call of a channel that Redis does not know."""
    return _answered(
        lambda adopter: {"call": adopter.adopt(switch, uuid, extension, Who(**json.loads(who)))}
    )


@counting.jobs(ACTIONS)
def hang_up_channel(switch: str, uuid: str) -> str:
    """Hang up a channel that Redis does not know."""
    return _answered(lambda adopter: {"said": adopter.hang_up(switch, uuid)})


def _answered(work: Callable[[Adopter], dict[str, str]]) -> str:
    """What came of the work, as JSON for the command that waits for it."""
    context = _bound()
    try:
        found = work(Adopter(context.runtime, context.pool))
    except Refused as error:
        found = {"refused": str(error)}
    except EventSocketError as error:
        found = {"refused": f"The switch did not answer: {error}"}
    return json.dumps(found)


# What each queue runs, by the names that jobs have.
OF_CALLS = {PLACE_CALL: place_call}
OF_ACTIONS: dict[str, Callable[..., object]] = {
    HANG_UP: hang_up,
    END_MANY: end_many,
    ACT: act,
    ADOPT: adopt,
    HANG_UP_CHANNEL: hang_up_channel,
}
