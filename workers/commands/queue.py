"""`ringback queue`: the jobs, who does them, and the line of calls that wait for their turn."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click
from redis import Redis
from rich.text import Text
from rq import Queue, Worker
from rq.exceptions import InvalidJobOperation
from rq.job import Job
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from app.store.queue import HANG_UP, PLACE_CALL
from workers.commands import words
from workers.commands.session import Session, as_json, console, put_json, tell

# Jobs that do nothing a second time: a call is claimed once, what is hung up is gone. An action
# that ran may have been done.
_REPEATABLE = frozenset({PLACE_CALL, HANG_UP})
# Calls of each organization that are shown.
_SHOWN = 5


@click.group("queue", invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Jobs and workers, and the calls that wait for their turn; `failed` for what went wrong."""
    if context.invoked_subcommand is not None:
        return
    session = Session.open()
    now = session.store.now()
    queues = [_queue(queue, now) for queue in _queues(session)]
    workers = [_worker(worker, now) for worker in _workers(session.redis)]
    line = _line(session, now)
    paused = [s.name for s in session.switches.get_many(session.switches.names()) if s.paused]
    if as_json:
        put_json({"queues": queues, "workers": workers, "line": line, "paused_switches": paused})
        return
    out = console()
    numbers = ("waiting", "oldest", "started", "failed")
    made = words.table("queue", *numbers, right=numbers)
    for row in queues:
        made.add_row(
            row["name"],
            str(row["waiting"]),
            _age(row["oldest"]),
            str(row["started"]),
            Text(str(row["failed"]), style="red" if row["failed"] else ""),
        )
    out.print(made)
    made = words.table("worker", "queue", "state", "heard", "up for", "jobs", right=("jobs",))
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
        tell("No worker is registered: nothing is dialled. Start `ringback worker`.")
    made = words.table(
        "organization", "waiting", "oldest", "next calls (before them)", right=("waiting", "oldest")
    )
    for row in line:
        calls = "  ".join(f"{call['id']} ({call['ahead']})" for call in row["calls"])
        made.add_row(row["organization"], str(row["waiting"]), _age(row["oldest"]), calls)
    if line:
        out.print(made)
    else:
        click.echo("No call waits for its turn.")
    if paused:
        tell(f"Paused: {', '.join(paused)}. `ringback switch resume` gives them calls again.")


@command.group(invoke_without_command=True)
@as_json
@click.pass_context
def failed(context: click.Context, as_json: bool) -> None:
    """Jobs that failed; retry or drop them."""
    if context.invoked_subcommand is not None:
        return
    found = [_failed(job) for job in _failed_jobs(Session.open())]
    if as_json:
        put_json(found)
        return
    made = words.table("id", "job", "call", "failed", "why")
    for row in found:
        made.add_row(row["id"], row["job"], row["call"], words.clock(row["ended"]), row["why"])
    console().print(made)
    if not found:
        tell("No job has failed.")


@failed.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "every", is_flag=True, help="All that may be repeated.")
@as_json
def retry(ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Do them again: what places or hangs up a call, for that is done once. A call that was claimed
    or has ended is not dialled again; actions cannot be repeated."""
    jobs, refused = _chosen(ids, every), []
    again = []
    for job in jobs:
        if job.func_name in _REPEATABLE:
            # Another may have been faster.
            with suppress(InvalidJobOperation):
                _registry(job).requeue(job)
                again.append(job.id)
        else:
            refused.append(job.id)
    put_json({"retried": again, "refused": refused}) if as_json else click.echo(
        f"{len(again)} enqueued again"
    )
    if refused and not every:
        raise click.ClickException(
            f"An action is not repeated, it may have been done: {', '.join(refused)}. Ask for it "
            "anew, and `ringback queue failed drop` this."
        )


@failed.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "every", is_flag=True, help="All of them.")
@as_json
def drop(ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Forget them. A call that was to be placed is enqueued again in its time, or ends."""
    jobs = _chosen(ids, every)
    for job in jobs:
        _registry(job).remove(job, delete_job=True)
    put_json({"dropped": [job.id for job in jobs]}) if as_json else click.echo(
        f"{len(jobs)} dropped"
    )


def _queues(session: Session) -> tuple[Queue, Queue]:
    return session.queue.calls, session.queue.actions


def _queue(queue: Queue, now: float) -> dict[str, Any]:
    waiting = queue.get_job_ids()
    first = _job(waiting[0], queue.connection) if waiting else None
    at = first.enqueued_at if first else None
    of: dict[str, Any] = {"connection": queue.connection, "serializer": JSONSerializer}
    return {
        "name": queue.name,
        "waiting": len(waiting),
        "oldest": now - _seconds(at) if at else None,
        "started": StartedJobRegistry(queue.name, **of).get_job_count(cleanup=False),
        "failed": FailedJobRegistry(queue.name, **of).get_job_count(cleanup=False),
    }


def _workers(redis: Redis) -> list[BaseWorker]:
    return sorted(Worker.all(redis, serializer=JSONSerializer), key=lambda worker: worker.name)


def _worker(worker: BaseWorker, now: float) -> dict[str, Any]:
    heard, born = worker.last_heartbeat, worker.birth_date
    return {
        "name": worker.name,
        "queue": " ".join(worker.queue_names()),
        "state": worker.get_state(),
        "heard": now - _seconds(heard) if heard else None,
        "up_for": now - _seconds(born) if born else None,
        "jobs": worker.successful_job_count,
    }


def _line(session: Session, now: float) -> list[dict[str, Any]]:
    """The organizations whose calls wait, the one whose turn it is first."""
    redis, keys = session.redis, session.keys
    organizations: Any = redis.zrange(keys.turns, 0, -1)
    rows = []
    for name in map(bytes.decode, organizations):
        first: Any = redis.zrange(keys.line(name), 0, _SHOWN - 1, withscores=True)
        if not first:
            continue
        ids = [call_id.decode() for call_id, _ in first]
        calls = [call for call in session.store.get_many(ids) if call is not None]
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


def _failed_jobs(session: Session) -> list[Job]:
    found: Iterable[Job | None] = (
        _job(job_id, session.redis)
        for queue in _queues(session)
        for job_id in FailedJobRegistry(queue=queue).get_job_ids(cleanup=False)
    )
    return [job for job in found if job is not None]


def _job(job_id: str, redis: Redis) -> Job | None:
    (job,) = Job.fetch_many([job_id], connection=redis, serializer=JSONSerializer)
    return job


def _failed(job: Job) -> dict[str, Any]:
    result = job.latest_result()
    text = ((result.exc_string if result else None) or "").strip()
    return {
        "id": job.id,
        "queue": job.origin,
        "job": (job.func_name or "").rpartition(".")[2],
        "call": str(job.args[0]) if job.args else "",
        "ended": _seconds(job.ended_at) if job.ended_at else None,
        "why": text.splitlines()[-1] if text else "its worker was lost",
        "may_retry": job.func_name in _REPEATABLE,
    }


def _chosen(ids: tuple[str, ...], every: bool) -> list[Job]:
    if bool(ids) == every:
        raise click.UsageError("Give the ids of failed jobs, or --all.")
    jobs = {job.id: job for job in _failed_jobs(Session.open())}
    if missing := [job_id for job_id in ids if job_id not in jobs]:
        raise click.ClickException(
            f"No such failed job: {', '.join(missing)}. `ringback queue failed` lists them."
        )
    return list(jobs.values()) if every else [jobs[job_id] for job_id in ids]


def _registry(job: Job) -> FailedJobRegistry:
    return FailedJobRegistry(job.origin, connection=job.connection, serializer=JSONSerializer)


def _seconds(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _age(seconds: float | None) -> str:
    return "" if seconds is None else words.age(seconds)
