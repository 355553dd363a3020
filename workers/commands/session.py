"""What the commands have in common: Redis and the settings, what they write to, what went wrong."""

import getpass
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click
from redis import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.accounts.model import Accounts
from app.accounts.store import AccountStore
from app.errors import ApiError
from app.settings import Settings, SettingsError, load_settings
from app.store import format
from app.store.calls import CallStore
from app.store.client import connect, is_unavailable
from app.store.errors import OutcomeUnknown
from app.store.keys import Keys
from app.store.pace import Pacer
from app.store.queue import JobQueue
from app.store.switches import SwitchStore
from freeswitch.errors import EventSocketError

# Columns where nothing is known of them: no terminal, and nobody to read a cut table.
_WIDE = 240


@dataclass(frozen=True)
class Session:
    """One command's Redis, and what is read and changed there."""

    settings: Settings
    redis: Redis
    keys: Keys

    @classmethod
    def open(cls, *, timeout: float = 3.0, retries: int = 1) -> "Session":
        """A session by the RINGBACK_* variables, as the processes read them. Raises SettingsError,
        also where Redis holds data of another format, or an error of Redis."""
        settings = load_settings()
        redis = connect(settings.require_redis(), timeout=timeout, retries=retries)
        keys = Keys(settings.key_prefix)
        format.check(redis, keys)
        return cls(settings, redis, keys)

    @cached_property
    def store(self) -> CallStore:
        return CallStore(self.redis, self.keys, self.settings.wait_replicas)

    @cached_property
    def queue(self) -> JobQueue:
        return JobQueue(self.redis, self.keys)

    @cached_property
    def pacer(self) -> Pacer:
        return Pacer(self.redis, self.keys)

    @cached_property
    def switches(self) -> SwitchStore:
        return SwitchStore(self.redis, self.keys)

    @cached_property
    def accounts(self) -> Accounts:
        return AccountStore(self.redis, self.keys).current()

    def extended(self, number: str) -> str:
        """An extension's extended number, also of a short one that only one extension has."""
        if "*" in number:
            return number
        found = [name for name in self.accounts.extensions if name.partition("*")[2] == number]
        if len(found) != 1:
            known = f"Give one of {', '.join(sorted(found))}." if found else ""
            known = known or "`ringback accounts show` lists those that there are."
            raise click.ClickException(
                f"{len(found) or 'No'} extensions have the number {number}. {known}"
            )
        return found[0]


def who() -> str:
    """The user and machine that a change is put down to."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A user id without a name, as in containers.
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def console(*, err: bool = False) -> Console:
    """Standard output or error; rich leaves colours out where NO_COLOR is set or nobody looks."""
    file = sys.stderr if err else sys.stdout
    width = None if file.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(file=file, width=width, highlight=False, emoji=False, markup=False)


def tell(text: str) -> None:
    """A word beside the output."""
    click.echo(text, err=True)


def put_json(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def put_json_line(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=False))


def progress() -> Progress:
    """A bar on standard error, where somebody looks at it."""
    out = console(err=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=out,
        disable=not out.is_terminal,
    )


def as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that all have."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document.")(command)


def as_json_lines(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="JSON, a line each.")(command)


def explained(error: Exception) -> click.ClickException | None:
    """An error that may be expected as a sentence that says what to do; None of any other."""
    if isinstance(error, BrokenPipeError):
        # Nobody reads on: that is no error, and click ends quietly.
        return None
    if isinstance(error, ApiError):
        return click.ClickException(f"{error.message} ({error.code})")
    if isinstance(error, OutcomeUnknown):
        return click.ClickException(
            f"It may have been done or not: {error}. Look with `ringback calls list`."
        )
    if is_unavailable(error):
        return click.ClickException(
            f"Redis cannot be used: {_first_line(error)}. Is it up, and RINGBACK_REDIS_URL right? "
            "`ringback doctor` looks further."
        )
    if isinstance(error, SettingsError | EventSocketError | OSError):
        return click.ClickException(str(error))
    return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
