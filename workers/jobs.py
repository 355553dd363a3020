"""The jobs: short, and none of them waits for a phone.

RQ runs these by their dotted names in the process that :func:`bind` was called in.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

from rq import get_current_job

from app.calls.model import State
from app.store.queue import ACT, ACTIONS, CALLS, HANG_UP, PLACE_CALL
from app.telemetry import counting, logs
from freeswitch.pool import SwitchPool
from workers.actions import Actor
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
@_logged
def hang_up(call_id: str) -> None:
    """Hang up what a client has asked for, the call or parties of it, on its switch."""
    context = _bound()
    call = context.runtime.store.get(call_id)
    if call is None or call.state is State.ENDED or call.switch is None:
        return
    connection = context.pool.reach(call.switch)
    if connection is None:
        log.warning(
            "call %s: switch %s is unavailable; the listener hangs the call up once it is back",
            call.id,
            call.switch,
        )
        return
    try_to_hang_up(context.runtime.store, connection, call)


@counting.jobs(ACTIONS)
@_logged
def act(call_id: str, request: str) -> str | None:
    """Carry out an action; the API gets the result."""
    context = _bound()
    return Actor(context.runtime, context.pool).act(call_id, request)


# What each queue runs, by the names that jobs have.
OF_CALLS = {PLACE_CALL: place_call}
OF_ACTIONS = {HANG_UP: hang_up, ACT: act}
