"""What the commands have in common: Redis and the settings, their output, and their errors.

The stores import what they need only when a command asks for them.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from ringback_cli import output

if TYPE_CHECKING:
    from redis import Redis

    from app.accounts.model import Accounts
    from app.phone_calls.services import PhoneCalls
    from app.settings import Settings
    from app.store.keys import Keys
    from app.store.pace import Pacer
    from app.store.queue import JobQueue
    from app.store.reading import CallReader
    from app.store.registered import SwitchRegistry
    from app.store.switches import SwitchStore


# The app of what a command asks for. No app of the accounts can have this id.
APP = "@command-line"


class Session:
    """The Redis of one command, and the stores that read and change it."""

    def __init__(self, settings: "Settings", redis: "Redis", keys: "Keys") -> None:
        self.settings = settings
        self.redis = redis
        self.keys = keys

    @classmethod
    def open(cls, *, timeout: float = 3.0, retries: int = 1) -> "Session":
        """A session by the RINGBACK_* variables. Raises SettingsError, also where Redis holds data
        of another format, or an error of Redis."""
        from ringback_cli.process import leave_out_opentelemetry

        leave_out_opentelemetry()
        from app.settings import load_settings
        from app.store import format
        from app.store.client import connect
        from app.store.keys import Keys

        settings = load_settings()
        redis = connect(settings.require_redis(), timeout=timeout, retries=retries, counted=False)
        keys = Keys(settings.key_prefix)
        format.check(redis, keys)
        return cls(settings, redis, keys)

    @cached_property
    def calls(self) -> "CallReader":
        from app.store.reading import CallReader

        return CallReader(self.redis, self.keys)

    @cached_property
    def queue(self) -> "JobQueue":
        from app.store.queue import JobQueue

        return JobQueue(self.redis, self.keys)

    @cached_property
    def pacer(self) -> "Pacer":
        from app.store.pace import Pacer

        return Pacer(self.redis, self.keys)

    @cached_property
    def switches(self) -> "SwitchStore":
        from app.store.switches import SwitchStore

        return SwitchStore(self.redis, self.keys)

    @cached_property
    def registry(self) -> "SwitchRegistry":
        from app.store.registered import SwitchRegistry

        return SwitchRegistry(self.redis, self.keys)

    @cached_property
    def accounts(self) -> "Accounts":
        from app.accounts.store import AccountStore

        return AccountStore(self.redis, self.keys).current()

    def now(self) -> float:
        """Epoch seconds by Redis' clock."""
        return self.calls.now()

    def audit(self, what: str, on: str | None = None, data: str | None = None) -> None:
        """Note in the audit what this command has changed."""
        from app.store.audit import Entry, Who, command

        redis: Any = self.redis
        entry = Entry(Who("operator", APP, who()), what, on, data=data)
        redis.execute_command(*command(self.keys, entry, self.now(), self.settings.audit_retention))

    def phone_calls(self) -> "PhoneCalls":
        """The service of the API, which does not wait for the switch here."""
        from dataclasses import replace

        from app.phone_calls.services import PhoneCalls
        from app.store.calls import CallStore

        settings = replace(self.settings, action_timeout=0.0)
        store = CallStore(self.redis, self.keys, settings.wait_replicas)
        return PhoneCalls(settings, store, self.queue, self.pacer)

    def extended(self, number: str) -> str:
        """The extended number of an extension, also for a short number that only one extension
        has."""
        if "*" in number:
            return number
        found = [name for name in self.accounts.extensions if name.partition("*")[2] == number]
        if not found:
            raise click.ClickException(
                f"No extension has the number {number}. `ringback accounts show` lists them all."
            )
        if len(found) > 1:
            raise click.ClickException(
                f"{len(found)} extensions have the number {number}. Give the extended number: "
                f"{', '.join(sorted(found))}."
            )
        return found[0]


def who() -> str:
    """The user and the machine that make a change."""
    import getpass
    import socket

    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A user id without a name, as in containers.
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def tell(text: str) -> None:
    """Print a remark on standard error, beside the output."""
    click.echo(text, err=True)


def put_json(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=not _has_all_letters(), indent=2))


def put_json_line(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=not _has_all_letters()))


def _has_all_letters() -> bool:
    """Whether the encoding of the output has all letters."""
    return sys.stdout.encoding.lower().startswith("utf")


def as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --json for one document."""
    text = "Print one JSON document."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def as_json_lines(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --json for a command that follows what happens."""
    text = "Print one JSON document a line."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def explained(error: Exception) -> click.ClickException | None:
    """An expected error as a sentence that says what to do; None for any other error."""
    if error in output.failures:
        # It ends the process.
        return None
    from app.errors import ApiError
    from app.records.errors import RecordsUnavailable
    from app.settings import SettingsError
    from app.store.client import is_unavailable
    from app.store.errors import OutcomeUnknown

    if isinstance(error, RecordsUnavailable):
        return click.ClickException(
            f"The database of records is unavailable: {error}. Check that it runs, and check "
            "RINGBACK_RECORDS_URL. `ringback doctor` checks more."
        )
    if isinstance(error, ApiError):
        words = (error.message, error.details.get("reason"), f"({error.code})")
        return click.ClickException(" ".join(filter(None, words)))
    if isinstance(error, OutcomeUnknown):
        return click.ClickException(
            f"The outcome is unknown: {error}. `ringback calls list` shows whether it was done."
        )
    if is_unavailable(error):
        return click.ClickException(
            f"Redis is unavailable: {_first_line(error)}. Check that it runs, and check "
            "RINGBACK_REDIS_URL. `ringback doctor` checks more."
        )
    if isinstance(error, SettingsError | OSError):
        return click.ClickException(str(error))
    return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
