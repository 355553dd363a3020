"""`ringback queue`: the jobs, their workers, and the calls that wait for their turn."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ringback_cli import words
from ringback_cli.session import Session, as_json, put_json, tell

if TYPE_CHECKING:
    from redis import Redis
    from rq import Queue
    from rq.job import Job
    from rq.registry import FailedJobRegistry
    from rq.worker import BaseWorker

# The most calls of each organization that are shown.
_SHOWN = 5


@click.group("queue", invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show jobs, workers and the calls that wait."""
    if context.invoked_subcommand is not None:
        return
    session = Session.open()
    now = session.now()
    queues = [_queue(queue, now) for queue in _queues(session)]
    workers = [_worker(worker, now) for worker in _workers(session.redis)]
    organizations = _organizations(session, now)
    paused = [s.name for s in session.switches.get_many(session.switches.names()) if s.paused]
    if as_json:
        found = {"queues": queues, "workers": workers, "line": organizations}
        put_json({**found, "paused_switches": paused})
        return
    from rich.text import Text

    from ringback_cli.screen import console, table

    out = console()
    numbers = ("waiting", "oldest", "started", "failed")
    made = table("queue", *numbers, right=numbers)
    for row in queues:
        made.add_row(
            row["name"],
            str(row["waiting"]),
            _age(row["oldest"]),
            str(row["started"]),
            Text(str(row["failed"]), style="red" if row["failed"] else ""),
        )
    out.print(made)
    made = table("worker", "queue", "state", "heard", "up for", "jobs", right=("jobs",))
    for row in workers:
        made.add_row(
            row["name"],
            row["queue"],
            row["state"],
            f"{_age(row['heard'])} ago",
            _age(row["up_for"]),
            str(row["jobs"]),
        )
    out.print(made)
    if not workers:
        tell("No worker is registered, so no call is dialled. Start `ringback worker`.")
    made = table(
        "organization", "waiting", "oldest", "next calls (calls ahead)", right=("waiting", "oldest")
    )
    for row in organizations:
        calls = "  ".join(f"{call['id']} ({call['ahead']})" for call in row["calls"])
        made.add_row(row["organization"], str(row["waiting"]), _age(row["oldest"]), calls)
    if organizations:
        out.print(made)
    else:
        click.echo("No call waits.")
    if paused:
        tell(f"Paused switches: {', '.join(paused)}. `ringback switch resume` gives them calls.")


@command.group(invoke_without_command=True)
@as_json
@click.pass_context
def failed(context: click.Context, as_json: bool) -> None:
    """List the jobs that failed; retry or drop them."""
    if context.invoked_subcommand is not None:
        return
    found = [_failed(job) for job in _failed_jobs(Session.open())]
    if as_json:
        put_json(found)
        return
    from ringback_cli.screen import console, table

    made = table("id", "job", "call", "failed", "why")
    for row in found:
        made.add_row(row["id"], row["job"], row["call"], words.clock(row["ended"]), row["why"])
    console().print(made)
    if not found:
        tell("No job has failed.")


@failed.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "every", is_flag=True, help="Retry all jobs that place or hang up calls.")
@as_json
def retry(ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Retry jobs that place or hang up calls.

    A retry is safe: a call that was claimed or has ended is not dialled again. Jobs of actions
    cannot be retried.
    """
    from rq.exceptions import InvalidJobOperation

    jobs, refused = _chosen(ids, every), []
    again = []
    for job in jobs:
        if _may_retry(job):
            # Somebody else may have retried it meanwhile.
            with suppress(InvalidJobOperation):
                _registry(job).requeue(job)
                again.append(job.id)
        else:
            refused.append(job.id)
    if again:
        Session.open().audit("job_retry", "all" if every else ",".join(again), f"{len(again)} done")
    put_json({"retried": again, "refused": refused}) if as_json else click.echo(
        f"{len(again)} enqueued again"
    )
    if refused and not every:
        raise click.ClickException(
            f"An action may have been done and cannot be retried: {', '.join(refused)}. Request it "
            "again over the API, and drop the job with `ringback queue failed drop`."
        )


@failed.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "every", is_flag=True, help="Drop all failed jobs.")
@as_json
def drop(ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Drop failed jobs.

    A call that waits to be placed is enqueued again later, or it ends.
    """
    jobs = _chosen(ids, every)
    for job in jobs:
        _registry(job).remove(job, delete_job=True)
    if jobs:
        on = "all" if every else ",".join(job.id for job in jobs)
        Session.open().audit("job_drop", on, f"{len(jobs)} done")
    put_json({"dropped": [job.id for job in jobs]}) if as_json else click.echo(
        f"{len(jobs)} dropped"
    )


def _queues(session: Session) -> "tuple[Queue, Queue]":
    return session.queue.calls, session.queue.actions


def _queue(queue: "Queue", now: float) -> dict[str, Any]:
    waiting = queue.get_job_ids()
    first = _job(waiting[0], queue.connection) if waiting else None
    at = first.enqueued_at if first else None
    return {
        "name": queue.name,
        "waiting": len(waiting),
        "oldest": now - _seconds(at) if at else None,
        "started": queue.started_job_registry.get_job_count(cleanup=False),
        "failed": queue.failed_job_registry.get_job_count(cleanup=False),
    }


def _workers(redis: "Redis") -> "list[BaseWorker]":
    from rq import Worker
    from rq.serializers import JSONSerializer

    return sorted(Worker.all(redis, serializer=JSONSerializer), key=lambda worker: worker.name)


def _worker(worker: "BaseWorker", now: float) -> dict[str, Any]:
    heard, born = worker.last_heartbeat, worker.birth_date
    return {
        "name": worker.name,
        "queue": " ".join(worker.queue_names()),
        "state": worker.get_state(),
        "heard": now - _seconds(heard) if heard else None,
        "up_for": now - _seconds(born) if born else None,
        "jobs": worker.successful_job_count,
    }


def _organizations(session: Session, now: float) -> list[dict[str, Any]]:
    """The organizations with waiting calls, in the order of their turns."""
    redis, keys = session.redis, session.keys
    organizations: Any = redis.zrange(keys.turns, 0, -1)
    rows = []
    for name in map(bytes.decode, organizations):
        first: Any = redis.zrange(keys.line(name), 0, _SHOWN - 1, withscores=True)
        if not first:
            continue
        ids = [call_id.decode() for call_id, _ in first]
        calls = [call for call in session.calls.get_many(ids) if call is not None]
        places = session.pacer.places(calls)
        rows.append(
            {
                "organization": name,
                "waiting": redis.zcard(keys.line(name)),
                "oldest": now - first[0][1],
                "calls": [
                    {"id": call_id, "ahead": place.ahead, "seconds": round(place.seconds, 1)}
                    for call_id, place in places.items()
                ],
            }
        )
    return rows


def _failed_jobs(session: Session) -> "list[Job]":
    found: Iterable[Job | None] = (
        _job(job_id, session.redis)
        for queue in _queues(session)
        for job_id in queue.failed_job_registry.get_job_ids(cleanup=False)
    )
    return [job for job in found if job is not None]


def _job(job_id: str, redis: "Redis") -> "Job | None":
    from rq.job import Job
    from rq.serializers import JSONSerializer

    (job,) = Job.fetch_many([job_id], connection=redis, serializer=JSONSerializer)
    return job


def _failed(job: "Job") -> dict[str, Any]:
    result = job.latest_result()
    text = ((result.exc_string if result else None) or "").strip()
    return {
        "id": job.id,
        "queue": job.origin,
        "job": (job.func_name or "").rpartition(".")[2],
        "call": str(job.args[0]) if job.args else "",
        "ended": _seconds(job.ended_at) if job.ended_at else None,
        "why": text.splitlines()[-1] if text else "the worker was lost",
        "may_retry": _may_retry(job),
    }


def _may_retry(job: "Job") -> bool:
    """Whether a second run of the job is harmless: a call is claimed once, and a leg that was hung
    up is gone. An action may have been done."""
    from app.store.queue import HANG_UP, PLACE_CALL

    return job.func_name in (PLACE_CALL, HANG_UP)


def _chosen(ids: tuple[str, ...], every: bool) -> "list[Job]":
    if bool(ids) == every:
        raise click.UsageError("Give the ids of failed jobs, or --all.")
    jobs = {job.id: job for job in _failed_jobs(Session.open())}
    if missing := [job_id for job_id in ids if job_id not in jobs]:
        raise click.ClickException(
            f"There is no failed job {', '.join(missing)}. `ringback queue failed` lists them all."
        )
    return list(jobs.values()) if every else [jobs[job_id] for job_id in ids]


def _registry(job: "Job") -> "FailedJobRegistry":
    from rq.registry import FailedJobRegistry
    from rq.serializers import JSONSerializer

    return FailedJobRegistry(job.origin, connection=job.connection, serializer=JSONSerializer)


def _seconds(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _age(seconds: float | None) -> str:
    return "" if seconds is None else words.age(seconds)
