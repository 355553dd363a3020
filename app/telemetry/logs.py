"""Log lines: one form for all processes, with the call that they are about and without secrets.

Modules log by ``logging.getLogger(__name__)``, structlog renders. What a line is about stands in
its ``extra`` (``call``, ``leg``, ``switch``, ``job``) or, where all that is done at the time is
about the same, in structlog's context variables. Greenlets begin with none of these, so that what
handles one call says nothing of another's; where several calls are handled together, ``extra``
names each.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import orjson

from app.calls.model import Call, State
from app.calls.transitions import BY_SWITCH, DISPOSITION_NAMES, FAILED, FAULTS
from app.settings import Settings

if TYPE_CHECKING:
    from flask import Flask
    from structlog.types import EventDict, Processor

log = logging.getLogger(__name__)

# Where the ends of calls are told.
_calls = logging.getLogger("app.calls")
# What a line may be about, and how a call ended, in the order in which a line of JSON has it.
FIELDS = ("call", "leg", "switch", "job", "disposition", "cause", "ended_by")

# A telephone number that nobody named as one: 7 to 15 digits (E.164) that stand alone. Longer runs
# are ids and microseconds, those with a point or a hyphen and more behind them times, addresses and
# uuids.
_NUMBER = re.compile(
    r"((?<![\w.])(?<!\w-)|\+|%[0-9A-Fa-f]{2}|\\[nrt])([0-9]{5,13})(?=[0-9]{2}(?!\w|\.[0-9]|-\w))"
)
_SHORTEST = 6
# Whoever asks may have long lines written: no pattern here takes more than a time in proportion to
# their length.
_SIP_USER = re.compile(r"\b(sips?:)[^\s@<>\"']{1,128}@", re.IGNORECASE)
# What stands between the colon and the last @; of our own kinds of address also where it holds a /.
_PASSWORD = re.compile(
    r"((?:redis|rediss|unix|redis\+sentinel|esl)://[^\s:@/]*):\S{0,500}@|(://[^\s:@/]*):[^\s/@]*@",
    re.IGNORECASE,
)
# A secret's name, in a URL, a form, a JSON document or a header, and what is its value.
_SECRET = re.compile(
    r"((?:password|passwd|secret|token)[\"']?\s*[=:]\s*(?:b?[\"'])?)(?:bearer\s+)?[^\s\"'&,;}]+"
    r"|(\b(?:bearer|authorization[\"']?\s*[=:]\s*[\"']?basic)\s+)[^\s\"',;}]+",
    re.IGNORECASE,
)
# Without any of these no pattern needs to look for a secret.
_SECRET_HINTS = ("://", "password", "passwd", "secret", "token", "bearer", "basic")
_HIDDEN = "xxx"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# Of a level's word on a terminal.
_COLORS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_CALL_ID = re.compile(r"[0-9a-f]{20}")


def hide_number(number: str) -> str:
    """A telephone number of which the last two digits can be read."""
    return "x" * (len(number) - 2) + number[-2:]


def hide_numbers(text: str) -> str:
    """The text with what looks like a telephone number, and the users of SIP addresses, hidden."""
    if len(text) < _SHORTEST:
        return text
    if "sip" in text or "SIP" in text:
        text = _SIP_USER.sub(rf"\1{_HIDDEN}@", text)
    return _NUMBER.sub(lambda found: found[1] + "x" * len(found[2]), text)


def hide_secrets(text: str) -> str:
    """The text without the passwords of its URLs, and without tokens and secrets that are named."""
    lower = text.lower()
    if not any(hint in lower for hint in _SECRET_HINTS):
        return text
    text = _PASSWORD.sub(lambda found: f"{found[1] or found[2]}:{_HIDDEN}@", text)
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}{_HIDDEN}", text)


class _Hidden:
    """A word of a line, whose numbers are hidden as soon as it is written out."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return hide_numbers(str(self._value))

    def __repr__(self) -> str:
        return hide_numbers(repr(self._value))


def _hidden(value: object) -> object:
    # A telephone number is text: what is counted and measured is none.
    return value if isinstance(value, int | float) else _Hidden(value)


class _Render:
    """The processor that makes of a record what a line has."""

    def __init__(self, process: str, *, numbers: bool) -> None:
        self._process = process
        self._numbers = numbers

    def __call__(self, _: Any, level: str, event: "EventDict") -> "EventDict":
        record: logging.LogRecord = event["_record"]
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": f"{at.isoformat(timespec='milliseconds')[:-6]}Z",
            "level": level,
            "logger": record.name,
            "process": self._process,
            "pid": record.process,
            "event": self._text(event["event"], event.pop("positional_args", ())),
        }
        line |= {name: event[name] for name in FIELDS if event.get(name)}
        if "job" not in line and (job := getattr(record, "job_id", None)) is not None:
            # RQ's own, of a job that failed. The first argument of ours is the call's id.
            line["job"] = job
            first = next(iter(getattr(record, "arguments", None) or ()), None)
            if isinstance(first, str) and _CALL_ID.fullmatch(first):
                line["call"] = first
        for name in ("exception", "stack_info"):
            if event.get(name):
                line[name] = self._safe(event[name])
        return line

    def _text(self, message: str, words: Any) -> str:
        try:
            if not words:
                return self._safe(message)
            if not self._numbers:
                if isinstance(words, Mapping):
                    words = {name: _hidden(word) for name, word in words.items()}
                else:
                    words = tuple(map(_hidden, words))
            return hide_secrets(message % words)
        except Exception as error:
            # A line that was not written well is better than none.
            return self._safe(f"{message} {words!r} ({error})")

    def _safe(self, text: str) -> str:
        text = hide_secrets(text)
        return text if self._numbers else hide_numbers(text)


def _json(_: Any, __: str, line: "EventDict") -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:
        # Half a character, or a number beyond 64 bits.
        return json.dumps(line, default=str)


def _console(colors: bool, _: Any, level: str, line: "EventDict") -> str:
    """A line for people; structlog's own takes twice the time, and calls wait for it."""
    word = level.upper()
    if colors and level in _COLORS:
        word = f"{_COLORS[level]}{word}\x1b[0m"
    about = "".join(f" {name}={line[name]}" for name in FIELDS if name in line)
    text = f"{line['event']}{about}"
    for name in ("exception", "stack_info"):
        if name in line:
            text += f"\n{line[name]}"
    # Nobody else's words begin a line, or move a terminal's cursor.
    text = _CONTROL.sub("?", text).replace("\n", "\n    ")
    return f"{line['time']} {line['process']}[{line['pid']}] {word} {line['logger']}: {text}"


def formatter(settings: Settings, process: str, *, colors: bool = False) -> logging.Formatter:
    """What makes a line of a record, as the settings say. ``process`` is the name of its kind:
    ``api``, ``worker``, …"""
    from structlog.contextvars import merge_contextvars
    from structlog.processors import format_exc_info
    from structlog.stdlib import ExtraAdder, ProcessorFormatter

    shape: Processor = _json if settings.log_format == "json" else partial(_console, colors)
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars, ExtraAdder(FIELDS), format_exc_info],
        processors=[_Render(process, numbers=settings.log_numbers == "full"), shape],
        # The words are looked at before they are part of the text.
        use_get_message=False,
        pass_foreign_args=True,
    )


def configure(settings: Settings, process: str) -> None:
    """Have the lines of all loggers of this process written to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings, process, colors=sys.stderr.isatty()))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # What no line shows need not be found out.
    logging.logThreads = logging.logMultiprocessing = False
    sys.excepthook = partial(uncaught, process)
    log.info("Ringback %s begins", version("ringback"))


def uncaught(where: object, *exc_info: Any) -> None:
    """In place of what Python, or gevent of a greenlet, prints of an exception by itself."""
    log.error("%s has failed", where, exc_info=exc_info)


def changed(old: Call, new: Call) -> None:
    """A change of a call was written: say how it ended."""
    if new.state is not State.ENDED or old.state is State.ENDED:
        return
    level = logging.WARNING if is_abnormal(new) else logging.INFO
    if _calls.isEnabledFor(level):
        about = {
            "call": new.id,
            "switch": new.switch,
            "disposition": DISPOSITION_NAMES[new.disposition or 0],
            "cause": new.hangup_cause,
            "ended_by": new.ended_by,
        }
        _calls.log(level, "call ended", extra=about)


def is_abnormal(call: Call) -> bool:
    """Whether an operator may have to see to how a call ended: Ringback lost it, or the switch or
    its gateway failed it."""
    failed = call.ended_by == BY_SWITCH and call.disposition == FAILED
    return failed or call.ended_by in FAULTS


@cache
def _context() -> Any:
    # Here, for the commands of the command line do without.
    from structlog import contextvars

    return contextvars


def bind(**about: str) -> None:
    """Have the further lines of this greenlet, or of this request, say what they are about."""
    # Where nothing renders lines nobody asks.
    if "structlog" in sys.modules:
        _context().bind_contextvars(**about)


def unbind_call() -> None:
    """What follows in this greenlet is about another call, or about none."""
    _context().unbind_contextvars("call")


def about(**fields: str | None) -> AbstractContextManager[None]:
    """The same for what is done within."""
    known = {name: text for name, text in fields.items() if text is not None}
    bound: AbstractContextManager[None] = _context().bound_contextvars(**known)
    return bound


def bind_request(app: "Flask") -> None:
    """Have what is logged for a request say which call it is about."""
    from flask import request

    @app.before_request
    def _bind() -> None:
        # The request before it on the same connection had the same greenlet.
        unbind_call()
        call_id = (request.view_args or {}).get("call_id")
        # What a client has written is none for a log.
        if call_id and _CALL_ID.fullmatch(call_id):
            bind(call=call_id)
