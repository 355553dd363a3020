"""`ringback queue`: the jobs, their workers, and the calls that wait for their turn."""

from typing import TYPE_CHECKING, Any

import click

from ringback_cli import words
from ringback_cli.session import Session, as_json, put_json, tell

if TYPE_CHECKING:
    from rq import Queue

    from app.store.jobs import FailedJob

# The most calls of each organization that are shown.
_SHOWN = 5


@click.group("queue", invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show jobs, workers and the calls that wait."""
    if context.invoked_subcommand is not None:
        return
    from app.store.queue import workers as all_workers

    session = Session.open()
    now = session.now()
    queues = [_queue(queue, now) for queue in _queues(session)]
    workers = [_worker(worker, now) for worker in all_workers(session.redis, session.keys)]
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
    cannot be retried, and neither can jobs that are not Ringback's.
    """
    from app.store import jobs

    session = Session.open()
    chosen = _chosen(session, ids, every)
    refused = [job for job in chosen if job.refusal]
    # Somebody else may have retried some of them meanwhile.
    again = [job.id for job in chosen if not job.refusal and jobs.retry(job)]
    if again:
        session.audit("job_retry", "all" if every else ",".join(again), f"{len(again)} done")
    if as_json:
        told = [{"id": job.id, "why": job.refusal} for job in refused]
        put_json({"retried": again, "refused": told})
    else:
        click.echo(f"{len(again)} enqueued again")
    for job in refused:
        tell(f"{job.id} is not retried: {job.refusal}")
    if refused and not every:
        raise click.ClickException(
            f"{len(refused)} not retried. Drop them with `ringback queue failed drop`."
        )


@failed.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "every", is_flag=True, help="Drop all failed jobs.")
@as_json
def drop(ids: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Drop failed jobs.

    A call that waits to be placed is enqueued again later, or it ends.
    """
    from app.store import jobs

    session = Session.open()
    chosen = _chosen(session, ids, every)
    for job in chosen:
        jobs.drop(session.redis, job)
    if chosen:
        on = "all" if every else ",".join(job.id for job in chosen)
        session.audit("job_drop", on, f"{len(chosen)} done")
    put_json({"dropped": [job.id for job in chosen]}) if as_json else click.echo(
        f"{len(chosen)} dropped"
    )


def _queues(session: Session) -> "tuple[Queue, ...]":
    return session.queue.all


def _queue(queue: "Queue", now: float) -> dict[str, Any]:
    from app.store.jobs import enqueued

    at = enqueued(queue)
    return {
        "name": queue.name,
        "waiting": queue.connection.llen(queue.key),
        "oldest": None if at is None else now - at,
        "started": queue.started_job_registry.get_job_count(cleanup=False),
        "failed": queue.failed_job_registry.get_job_count(cleanup=False),
    }


def _worker(worker: dict[str, Any], now: float) -> dict[str, Any]:
    heard, born = worker["heartbeat"], worker["born"]
    return {
        "name": worker["name"],
        "queue": worker["queues"].replace(",", " "),
        "state": worker["state"],
        "heard": None if heard is None else now - heard,
        "up_for": None if born is None else now - born,
        "jobs": worker["done"],
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


def _failed_jobs(session: Session) -> "list[FailedJob]":
    from app.store.jobs import failed_jobs

    return failed_jobs(session.redis, _queues(session))


def _failed(job: "FailedJob") -> dict[str, Any]:
    return {
        "id": job.id,
        "queue": job.queue.name,
        "job": job.function.rpartition(".")[2],
        "call": str(job.arguments[0]) if job.arguments else "",
        "ended": job.ended,
        "why": job.why,
        "may_retry": not job.refusal,
    }


def _chosen(session: Session, ids: tuple[str, ...], every: bool) -> "list[FailedJob]":
    if bool(ids) == every:
        raise click.UsageError("Give the ids of failed jobs, or --all.")
    jobs = {job.id: job for job in _failed_jobs(session)}
    if missing := [job_id for job_id in ids if job_id not in jobs]:
        raise click.ClickException(
            f"There is no failed job {', '.join(missing)}. `ringback queue failed` lists them all."
        )
    return list(jobs.values()) if every else [jobs[job_id] for job_id in ids]


def _age(seconds: float | None) -> str:
    return "" if seconds is None else words.age(seconds)
