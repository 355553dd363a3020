"""`ringback maintenance`: on, off, status, failover."""

import sys

import click

from ringback_cli.session import Session, as_json, put_json, tell, who
from ringback_cli.words import age

_why = click.option("--why", default="", help="The reason, which `maintenance status` shows.")
# Seconds until replicas must have all.
_LIMIT = 30.0


@click.group("maintenance")
def command() -> None:
    """Accept nothing for a while, for planned work on Redis.

    The API answers requests that change something with 503 and `Retry-After`. Workers claim no
    calls. Calls that are dialled already go on, and requests that only read work.
    """


@command.command()
@_why
@as_json
def on(why: str, as_json: bool) -> None:
    """Switch maintenance on, and wait until all replicas have all.

    The exit status is 1 if a replica did not get all within 30 seconds. Maintenance is on then too.
    """
    session = Session.open()
    have, there = begin(session, why)
    if as_json:
        put_json({"on": True, "replicas": there, "replicas_with_all": have})
    else:
        click.echo("Maintenance is on until you run `ringback maintenance off`.")
        click.echo(_replicas(have, there))
    if have < there:
        sys.exit(1)


@command.command()
@as_json
def off(as_json: bool) -> None:
    """Switch maintenance off."""
    session = Session.open()
    was_on = end(session)
    if as_json:
        put_json({"on": False, "changed": was_on})
    else:
        click.echo(f"Maintenance {'is' if was_on else 'was already'} off.")


@command.command()
@as_json
def status(as_json: bool) -> None:
    """Show whether maintenance is on."""
    from app.store.maintenance import Maintenance, connected

    session = Session.open()
    state = Maintenance(session.redis, session.keys).state()
    replicas = connected(session.redis)
    if as_json:
        found = {} if state is None else {"by": state.by, "at": state.at, "why": state.why}
        put_json({"on": state is not None, "replicas": replicas, **found})
        return
    if state is None:
        click.echo(f"Maintenance is off. Redis has {replicas} replicas.")
        return
    why = f": {state.why}" if state.why else ""
    since = age(session.now() - state.at)
    click.echo(f"Maintenance is on for {since}, by {state.by}{why}. Redis has {replicas} replicas.")


@command.command()
@_why
@as_json
def failover(why: str, as_json: bool) -> None:
    """Have the Sentinels fail Redis over, and lose nothing.

    It switches maintenance on, stops all writes, waits until the replicas have all, has the
    Sentinels name another master, makes the old one its replica, and switches maintenance off. It
    needs the default user of Redis, or one that may use CLIENT PAUSE and REPLICAOF.
    """
    from ringback_cli.failing_over import fail_over

    host, port = fail_over(Session.open(), why, tell)
    if as_json:
        put_json({"host": host, "port": port})
    else:
        click.echo("Redis has failed over. Maintenance is off.")


def begin(session: Session, why: str) -> tuple[int, int]:
    """Switch maintenance on and wait for the replicas. Returns how many have all, and how many
    there are."""
    import time

    from app.store.maintenance import SEEN_BY_ALL, Maintenance, State, await_replicas

    if Maintenance(session.redis, session.keys).begin(State(who(), session.now(), why)):
        session.audit("maintenance_on", data=why or None)
    # Until each API refuses hang-ups and actions too. It accepts no call from now on.
    time.sleep(SEEN_BY_ALL)
    return await_replicas(session.redis, session.keys, _LIMIT)


def end(session: Session) -> bool:
    """Switch maintenance off. Returns whether it was on."""
    from app.store.maintenance import Maintenance

    was_on = Maintenance(session.redis, session.keys).end()
    if was_on:
        session.audit("maintenance_off")
    return was_on


def _replicas(have: int, there: int) -> str:
    if not there:
        return "Redis has no replica."
    if have == there:
        return f"All {there} replicas have all." if there > 1 else "The replica has all."
    return f"Only {have} of {there} replicas have all: do not fail over to the others."
