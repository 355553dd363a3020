"""`ringback switch`: list, add, set, remove, pause, drain, resume, declare dead, forget."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ringback_cli import complete, words
from ringback_cli.session import Session, as_json, put_json, tell, who

if TYPE_CHECKING:
    from app.store.registered import Registered
    from app.store.switches import Pause, Switch
    from freeswitch.address import SwitchAddress

_STYLES = {"up": "green", "unreachable": "red", "unknown": "red"}
# Seconds between two counts of the calls that a switch still has, and the seconds for which it must
# have none: a call that a worker claimed before the pause may still come.
_LOOK = 0.5
_SETTLED = 2.0

_name = click.argument("name", shell_complete=complete.switches)
_why = click.option("--why", default="", help="The reason, which `ringback switch list` shows.")
# The word that takes a value back.
_OWN, _ALL = "own", "all"


class _Limit(click.ParamType):  # type: ignore[type-arg]
    """A limit of a switch: a number, 0 for none, or ``own`` for the switch's own."""

    name = "number"

    def __init__(self, number: Callable[[str], float]) -> None:
        self._number = number

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        if value == _OWN:
            return _OWN
        try:
            number = self._number(value)
        except ValueError:
            number = -1.0
        if not (number == 0 or 0.001 <= number <= 1e6):
            self.fail(f"{value!r} is no number from 0.001 to 1000000, nor 0 or {_OWN}.", param, ctx)
        return number


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a switch may get."""
    for option in (
        click.option("--password-env", help="The variable of each process with the password."),
        click.option(
            "--password-file", help="The file of each process' machine with the password."
        ),
        click.option(
            "--slow-start",
            type=click.FloatRange(0, 3600),
            help="Seconds in which a new or returned switch comes to its whole share.",
        ),
        click.option("--max-legs", type=_Limit(int), help="The most legs at a time."),
        click.option("--legs-per-second", type=_Limit(float), help="The most legs each second."),
        click.option(
            "--gateway", "gateways", multiple=True, help="A gateway that it has; all by default."
        ),
        click.option("--tag", "tags", multiple=True, help="A word to choose switches by."),
        click.option(
            "--weight",
            type=click.IntRange(0, 10_000),
            help="Its share of the calls beside the others' (100); 0 for none.",
        ),
    ):
        command = option(command)
    return command


@click.group("switch")
def command() -> None:
    """List, add, change, pause, drain and remove switches."""


@command.command()
@click.argument("name")
@click.argument("url")
@_settings
@as_json
def add(name: str, url: str, as_json: bool, **options: Any) -> None:
    """Register a switch at a URL such as esl://:PASSWORD@10.0.0.1:8021.

    Workers and listeners connect to it at once. dns+esl:// and srv+esl:// take a DNS name, whose
    addresses are the switches. With --password-file or --password-env the URL has no password.
    """
    from dataclasses import replace

    from app.store.registered import AlreadyRegistered, Registered

    session = Session.open()
    given = _given(options)
    address, kept = _parsed(name, url, given)
    new = Registered(
        name=name,
        url=kept,
        legs_per_second=address.legs_per_second,
        max_legs=address.max_legs,
        added=session.now(),
        by=who(),
    )
    new = replace(new, **given)
    try:
        session.registry.add(new)
    except AlreadyRegistered:
        raise click.ClickException(
            f"Switch {name} is registered. `ringback switch set {name}` changes it, and "
            f"`ringback switch resume {name}` takes back its removal."
        ) from None
    session.audit("add_switch", name, new.shown()["url"])
    _tell(session, new, as_json, "is registered: workers and listeners connect to it.")


@command.command("set")
@_name
@click.option("--url", help="The new address. Live calls of the old one would be lost sight of.")
@_settings
@click.option("--force", is_flag=True, help="Change the address though the switch has live calls.")
@as_json
def set_(name: str, url: str | None, force: bool, as_json: bool, **options: Any) -> None:
    """Change a registered switch. What is not given stays.

    `--tag ''` leaves no tag, `--gateway all` stands for all gateways, and `own` for the switch's
    own limit.
    """
    from dataclasses import replace

    from app.store.registered import has_password

    session = Session.open()
    entry = _registered(session, name)
    given = _given(options)
    if not given and url is None:
        raise click.UsageError("Give what is to change.")
    if entry.source is not None:
        raise click.ClickException(
            f"Switch {name} is an address of {entry.source}: change {entry.source}."
        )
    if url is not None:
        address, given_url = _parsed(name, url, given, entry)
        before = _of_entry(entry)
        moves = (address.host, address.port) != (before.host, before.port)
        calls = session.switches.get_many([name])[0].calls
        if moves and calls and not force:
            raise click.ClickException(
                f"Switch {name} has {calls} live calls, which another address does not know. "
                f"Run `ringback switch drain {name} --wait` first, or add --force."
            )
        limits = {"legs_per_second": address.legs_per_second, "max_legs": address.max_legs}
        given = {n: v for n, v in limits.items() if v is not None} | given | {"url": given_url}
        if has_password(given_url):
            given |= {"password_file": None, "password_env": None}
    elif given.keys() & {"password_file", "password_env"}:
        given["url"] = _of_entry(entry).url
    if given.get("password_file") or given.get("password_env"):
        # One of them counts.
        given = {"password_file": None, "password_env": None} | given
    given["by"] = who()
    changed = session.registry.set(name, lambda old: replace(old, **given))
    said = {"url": changed.shown()["url"]} if "url" in given else {}
    told = {key: given[key] for key in sorted(given.keys() - {"url", "by", "setting"})} | said
    session.audit("set_switch", name, " ".join(f"{key}={value}" for key, value in told.items()))
    _tell(session, changed, as_json, "is changed.")


@command.command()
@_name
@click.option("--drain", is_flag=True, help="Let its live calls go on, and remove it after them.")
@click.option("--force", is_flag=True, help="Hang up its live calls, and remove it after them.")
@click.option("--limit", type=click.FloatRange(0), help="The most seconds to wait for its calls.")
@_why
@as_json
def remove(
    name: str, drain: bool, force: bool, limit: float | None, why: str, as_json: bool
) -> None:
    """Remove a switch for good: workers and listeners leave it without a restart.

    A switch with live calls is refused unless --drain or --force says what becomes of them.
    """
    from app.store.switches import Pause

    session = Session.open()
    entry = _registered(session, name)
    if entry.source is not None and not entry.removing:
        raise click.ClickException(
            f"Switch {name} is an address of {entry.source}: it goes when DNS names it no more."
        )
    of = [each.name for each in session.registry.all().values() if each.source == name]
    names = [name, *of]
    calls = sum(each.calls for each in session.switches.get_many(names))
    if calls and not (drain or force):
        raise click.ClickException(
            f"Switch {name} has {calls} live calls. --drain lets them go on and removes the switch "
            "after them, and --force hangs them up."
        )
    pause = Pause(who(), session.now(), why or "it is removed", drain=True)
    for each in names:
        session.registry.begin_removal(each, pause)
    session.audit("remove_switch", name, why or None)
    if force and calls:
        from ringback_cli.commands.calls import hang_up, matching

        for each in names:
            of_it = {"switch": each, "number": None, "user": None, "extension": None}
            hang_up(session, list(matching(session, of_it)))
    if left := _removed(session, names, limit):
        raise click.ClickException(
            f"Switch {name} still has {left} calls. It gets no new ones, and goes after the last. "
            f"If it is dead, run `ringback switch declare-dead {name}`."
        )
    if as_json:
        put_json({"name": name, "removed": names})
    else:
        click.echo(f"{name} is removed.")


@command.command("declare-dead")
@_name
@_why
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
def declare_dead(name: str, why: str, yes: bool, as_json: bool) -> None:
    """Say that a switch is gone for good, and its calls with it.

    It gets no new calls, and its live calls end as dead without an answer of the switch.
    `ringback switch resume` takes it back.
    """
    import sys

    session = Session.open()
    _registered(session, name)
    calls = session.switches.get_many([name])[0].calls
    if calls and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(f"{name} has {calls} live calls. Add --yes to end them.")
        click.confirm(f"End {calls} calls of {name}?", abort=True, err=True)
    session.registry.declare_dead(name, who(), session.now(), why)
    session.audit("declare_dead", name, why or None)
    _answer(session, name, as_json, "is declared dead, and gets no new calls.")


@command.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List the switches with their state, load and limits."""
    session = Session.open()
    found = session.switches.get_many(_names(session))
    registered = session.registry.all()
    if as_json:
        put_json([document(switch, registered.get(switch.name)) for switch in found])
        return
    from rich.text import Text

    from ringback_cli.screen import console, table

    now = session.now()
    made = table(
        *(
            "name",
            "state",
            "since",
            "calls",
            "legs",
            "sessions",
            "legs/s",
            "listeners",
            "core",
        ),
        right=("calls", "legs", "sessions", "legs/s", "listeners"),
    )
    for each in found:
        since = each.up_since if each.unreachable_since is None else each.unreachable_since
        made.add_row(
            each.name,
            Text(each.state, style=_STYLES.get(each.state, "yellow")),
            words.age(now - since) if since else "",
            str(each.calls),
            _of(each.legs, each.limit.most),
            _of(each.sessions, each.max_sessions),
            f"{each.limit.legs_per_second:g}" if each.limit.legs_per_second else "any",
            str(each.listeners),
            # Enough of its Core-UUID to tell two apart.
            (each.core_uuid or "")[:8],
        )
    console().print(made)
    for each in found:
        if each.paused is not None:
            click.echo(f"{each.name} gets no new calls: {_said(each.paused)}")
        elif each.closed:
            click.echo(f"{each.name} gets no new calls: {each.closed}")
    for entry in registered.values():
        if said := _registration(entry):
            click.echo(f"{entry.name} {said}")
    if not found:
        tell("No switch is known yet. Add one: `ringback switch add NAME URL`.")


@command.command()
@_name
@_why
@as_json
def pause(name: str, why: str, as_json: bool) -> None:
    """Give a switch no new calls.

    Its live calls go on, and actions on them work.
    """
    session = Session.open()
    _pause(session, name, why, drain=False)
    _answer(session, name, as_json, "gets no new calls until you run `ringback switch resume`.")


@command.command()
@_name
@_why
@click.option("--wait", is_flag=True, help="Wait until its last call has ended.")
@click.option("--limit", type=click.FloatRange(0), help="The most seconds that --wait waits.")
@as_json
def drain(name: str, why: str, wait: bool, limit: float | None, as_json: bool) -> None:
    """Give a switch no new calls, to take it away once it has none."""
    session = Session.open()
    _pause(session, name, why, drain=True)
    if wait:
        left = _drained(session, name, limit)
        if left:
            raise click.ClickException(
                f"Switch {name} still has {left} calls, and stays draining. "
                f"`ringback calls list --switch {name}` lists them."
            )
    _answer(session, name, as_json, "gets no new calls.")


@command.command()
@_name
@as_json
def resume(name: str, as_json: bool) -> None:
    """Give a switch new calls again that is paused, draining, being removed or declared dead."""
    session = Session.open()
    _check(session, name)
    revived = session.registry.revive(name)
    was = session.switches.resume(name) or revived
    if was:
        session.audit("resume", name)
    # It may have been given calls by now: their number says nothing.
    said = "gets new calls again." if was else "was not paused."
    _answer(session, name, as_json, said, counted=False)


@command.command()
@_name
@as_json
def forget(name: str, as_json: bool) -> None:
    """Forget what Redis has of a switch that is not registered.

    `ringback switch remove` removes one that is.
    """
    session = Session.open()
    _check(session, name)
    (switch,) = session.switches.get_many([name])
    if name in session.registry.all():
        raise click.ClickException(
            f"Switch {name} is registered: run `ringback switch remove {name}`."
        )
    if switch.listeners or switch.calls:
        raise click.ClickException(
            f"{switch.listeners} listeners hear {name}, and it has {switch.calls} live calls. "
            "First stop what follows it."
        )
    session.switches.forget(name)
    session.audit("forget", name)
    _answer(session, name, as_json, "is forgotten.")


def document(switch: "Switch", registered: "Registered | None" = None) -> dict[str, object]:
    """The switch for JSON, times in epoch seconds. ``registered`` is its entry in the registry."""
    paused = switch.paused
    shown = registered.shown() if registered else None
    if shown is not None:
        del shown["name"]
    return {
        "name": switch.name,
        "state": switch.state,
        "core_uuid": switch.core_uuid,
        "up_since": switch.up_since,
        "unreachable_since": switch.unreachable_since,
        "calls": switch.calls,
        "legs": switch.legs,
        "legs_per_second": switch.limit.legs_per_second or None,
        "max_legs": switch.limit.most or None,
        "sessions": switch.sessions,
        "max_sessions": switch.max_sessions,
        "sessions_per_second": switch.sessions_per_second,
        "heartbeat": switch.heartbeat,
        "listener": switch.listener,
        "listeners": switch.listeners,
        "paused": paused
        and {"by": paused.by, "at": paused.at, "why": paused.why, "drain": paused.drain},
        "closed": switch.closed or None,
        "weight": switch.steer and switch.steer.weight,
        "window": switch.steer and switch.steer.window,
        "sessions_of_others": switch.steer and switch.steer.sessions_of_others,
        "registered": shown,
    }


def _names(session: Session) -> list[str]:
    """The registered switches, and others that a listener has followed. While the registry is
    empty, those of RINGBACK_SWITCHES, which a listener is going to register."""
    names = session.switches.names()
    if session.settings.switches and not session.registry.all():
        from workers.runtime import switch_addresses

        named = [each.name for each in switch_addresses(session.settings) if not each.found_by]
        names = list(dict.fromkeys([*named, *names]))
    return names


def _check(session: Session, name: str) -> None:
    known = _names(session)
    if name not in known:
        others = f"Known switches: {', '.join(known)}." if known else "No switch is known yet."
        raise click.ClickException(f"There is no switch {name}. {others}")


def _registered(session: Session, name: str) -> "Registered":
    found = session.registry.all()
    if name not in found:
        others = f"Registered are: {', '.join(found)}." if found else "No switch is registered."
        raise click.ClickException(f"There is no registered switch {name}. {others}")
    return found[name]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a registered switch that the options say."""
    from workers.following import PASSWORD_ENV

    given = {name: value for name, value in options.items() if value not in (None, ())}
    for name in ("legs_per_second", "max_legs"):
        if given.get(name) == _OWN:
            given[name] = None
    if "tags" in given:
        given["tags"] = tuple(tag for tag in given["tags"] if tag)
    if "gateways" in given:
        given["gateways"] = None if _ALL in given["gateways"] else given["gateways"]
    if "password_file" in given and "password_env" in given:
        raise click.UsageError("Give --password-file or --password-env, not both.")
    if not given.get("password_file", "/").startswith("/"):
        raise click.UsageError("--password-file must be an absolute path.")
    if (env := given.get("password_env")) and not PASSWORD_ENV.fullmatch(env):
        raise click.UsageError(
            "--password-env must begin with ESL_ or RINGBACK_ESL_, in capitals, digits and '_'."
        )
    return given


def _parsed(
    name: str, url: str, given: dict[str, Any], entry: "Registered | None" = None
) -> tuple["SwitchAddress", str]:
    """The address of a URL, and the URL to keep: without a password where the processes find one
    elsewhere."""
    from app.store.registered import has_password
    from freeswitch.address import SwitchAddress

    elsewhere = bool(given.get("password_file") or given.get("password_env"))
    if entry is not None and not has_password(url):
        elsewhere = elsewhere or not has_password(entry.url)
    try:
        address = SwitchAddress.parse(f"{name}={url}", "-" if elsewhere else None)
    except ValueError as error:
        hint = "" if elsewhere else " Or give --password-file or --password-env."
        raise click.UsageError(f"The address cannot be used: {error}.{hint}") from None
    return address, address.url if elsewhere else address.secret_url


def _of_entry(entry: "Registered") -> "SwitchAddress":
    """The address of a registered switch, with any password if its own is elsewhere."""
    from app.store.registered import has_password
    from freeswitch.address import SwitchAddress

    password = None if has_password(entry.url) else "-"
    return SwitchAddress.parse(f"{entry.name}={entry.url}", password)


def _removed(session: Session, names: list[str], limit: float | None) -> int:
    """Wait until the switches are gone. Returns how many calls they have after ``limit`` seconds.

    Listeners remove them as well, should this command end before.
    """
    from ringback_cli.screen import progress

    begun, most = time.monotonic(), 0
    with progress() as bar:
        task = bar.add_task(f"{names[0]}: calls ended", total=None)
        while True:
            # A DNS name goes after its switches.
            for name in reversed(names):
                session.registry.finish_removal(name)
            here = session.registry.all()
            if not any(name in here for name in names):
                return 0
            left = sum(each.calls for each in session.switches.get_many(names))
            most = max(most, left)
            bar.update(task, total=most, completed=most - left)
            if limit is not None and time.monotonic() - begun >= limit:
                return left
            time.sleep(_LOOK)


def _tell(session: Session, entry: "Registered", as_json: bool, text: str) -> None:
    if as_json:
        (switch,) = session.switches.get_many([entry.name])
        put_json(document(switch, entry))
    else:
        click.echo(f"{entry.name} {text}")


def _registration(entry: "Registered") -> str:
    """What the registry says of a switch beyond the usual."""
    said = []
    if entry.is_source:
        said.append(f"is a DNS name of switches: {entry.shown()['url']}")
    elif entry.source is not None:
        said.append(f"is an address of {entry.source}")
    if entry.weight != 100:
        said.append(f"has the weight {entry.weight}")
    if entry.tags:
        said.append(f"has the tags {', '.join(entry.tags)}")
    if entry.gateways is not None:
        said.append(f"has the gateways {', '.join(entry.gateways) or 'none'}")
    if entry.dead is not None:
        said.append(f"was declared dead by {entry.dead.by} on {words.clock(entry.dead.at)}")
    if entry.removing:
        said.append("is removed once its last call has ended")
    return ", ".join(said)


def _pause(session: Session, name: str, why: str, *, drain: bool) -> None:
    from app.store.switches import Pause

    _check(session, name)
    session.switches.pause(name, Pause(who(), session.now(), why, drain))
    session.audit("drain" if drain else "pause", name, why or None)


def _drained(session: Session, name: str, limit: float | None) -> int:
    """Wait until the switch has no call. Returns how many it has left after ``limit`` seconds."""
    from ringback_cli.screen import progress

    begun = busy = time.monotonic()
    most = 0
    with progress() as bar:
        task = bar.add_task(f"{name}: calls ended", total=None)
        while True:
            left = session.switches.get_many([name])[0].calls
            most = max(most, left)
            bar.update(task, total=most, completed=most - left)
            at = time.monotonic()
            busy = at if left else busy
            if at - busy >= _SETTLED or (limit is not None and at - begun >= limit):
                return left
            time.sleep(_LOOK)


def _answer(session: Session, name: str, as_json: bool, text: str, *, counted: bool = True) -> None:
    (switch,) = session.switches.get_many([name])
    if as_json:
        put_json(document(switch))
    else:
        calls = f" It has {switch.calls} live calls." if counted else ""
        click.echo(f"{name} {text}{calls}")


def _said(pause: "Pause") -> str:
    said = f"{'draining' if pause.drain else 'paused'} by {pause.by or 'an unknown user'}"
    said += f" on {words.clock(pause.at)}" if pause.at else ""
    return f"{said}: {pause.why}" if pause.why else said


def _of(count: int | None, most: int | None) -> str:
    return "" if count is None else f"{count} of {most}" if most else str(count)
