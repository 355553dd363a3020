"""Log lines in one form for all processes: they name their call and show no secrets.

Modules log by ``logging.getLogger(__name__)``, and structlog renders. The ``extra`` of a line
names its subject (``call``, ``leg``, ``switch``, ``job``). Code that handles one subject for a
while binds it to structlog's context variables instead. A greenlet begins with none of these, so
that it never names the call of another greenlet. Code that handles several calls together names
each in ``extra``.
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
from app.telemetry.request_ids import ENVIRON, request_id

if TYPE_CHECKING:
    from flask import Flask
    from structlog.types import EventDict, Processor

log = logging.getLogger(__name__)

# The logger for the ends of calls.
_calls = logging.getLogger("app.calls")
# The fields for a line's subject and for the end of a call, in their order in a JSON line.
FIELDS = ("call", "leg", "switch", "job", "request_id", "disposition", "cause", "ended_by")

# A telephone number without any mark between its digits: 7 to 16 digits that stand alone, or more
# behind a + or 00. Longer runs are ids. 16 digits that begin with 15 to 19 are microseconds since
# 1970. Runs with a point or a hyphen and more behind them are times, addresses and uuids.
_BEGIN = r"(?:(?<![\w.])(?<!\w-)|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"
_END = r"(?!\w|\.[0-9]|-\w)"
_NUMBER = re.compile(
    rf"(?:(\+|%2[Bb])|{_BEGIN})(?!(?:1[5-9][0-9]{{14}}){_END})"
    rf"((?(1)[0-9]{{5,18}}|(?:00[0-9]{{3,13}}|[0-9]{{5,14}})))(?=[0-9]{{2}}{_END})"
)
# A number with marks between its digits, as people write it: +49 (1555) 01-09, 030/123.456. No
# group of digits begins a date or a time of the day.
_MARKS = r"(?:[ \u00a0\u2009\u202f\-\u2010-\u2015\u2212./()\[\]]|%20|%2[89DdFf]|%5[BbDd]){1,3}+"
_DATE = r"(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])(?![0-9])"
_GROUP = rf"(?!{_DATE}|[0-9]{{1,2}}:[0-9]{{2}})[0-9]++"
_MARKED = re.compile(
    rf"(?:(\+|%2[Bb])|{_BEGIN})([(\[]|%28|%5[Bb])?+({_GROUP}(?:{_MARKS}{_GROUP}){{1,16}}+){_END}"
)
# Text without such a run has no number, so the patterns need not run.
_RUN = re.compile(r"[0-9](?:(?:%[0-9A-Fa-f]{2}|\W){0,3}[0-9]){6}")
_BETWEEN = re.compile(r"%[0-9A-Fa-f]{2}|[^0-9]")
_DIGITS = re.compile(r"%[0-9A-Fa-f]{2}|([0-9])")
_LONGEST = 18
# The most digits of a port, and those of a time in milliseconds (the ids of a stream).
_PORT, _MILLISECONDS = 5, 13
_IP_V4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?:\.|$)){4}")
_DAY = re.compile(r"(0?[1-9]|[12][0-9]|3[01])([./-])(0?[1-9]|1[0-2])\2(19|20)[0-9]{2}")
_SHORTEST = 6
# A client can cause long log lines, so every pattern here runs in linear time.
_SIP_USER = re.compile(r"\b(sips?:)[^\s@<>\"']{1,128}@", re.IGNORECASE)
# The password between the colon and the last @. In our own kinds of URL it may contain a /.
_PASSWORD = re.compile(
    r"((?:rediss?(?:\+sentinel)?|unix|esls?)://[^\s:@/]*):\S{0,500}@|(://[^\s:@/]*):[^\s/@]*@",
    re.IGNORECASE,
)
# A secret's name in a URL, a form, a JSON document or a header, with the secret's value.
_SECRET = re.compile(
    r"((?:password|passwd|secret|token)[\"']?\s*[=:]\s*(?:b?[\"'])?)(?:bearer\s+)?[^\s\"'&,;}]+"
    r"|(\b(?:bearer|authorization[\"']?\s*[=:]\s*[\"']?basic)\s+)[^\s\"',;}]+",
    re.IGNORECASE,
)
# A text without any of these words has no secret, so the patterns need not run.
_SECRET_HINTS = ("://", "password", "passwd", "secret", "token", "bearer", "basic")
_HIDDEN = "xxx"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# The color of a level's word on a terminal.
_COLORS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_CALL_ID = re.compile(r"[0-9a-f]{20}")


def hide_number(number: str) -> str:
    """The number with all but its last two digits hidden."""
    return "x" * (len(number) - 2) + number[-2:]


def hide_numbers(text: str) -> str:
    """The text with telephone numbers and the users of SIP addresses hidden."""
    if len(text) < _SHORTEST:
        return text
    if "sip" in text or "SIP" in text:
        text = _SIP_USER.sub(rf"\1{_HIDDEN}@", text)
    if _RUN.search(text) is None:
        return text
    text = _MARKED.sub(_hide_marked, text)
    return _NUMBER.sub(lambda found: (found[1] or "") + "x" * len(found[2]), text)


def _hide_marked(found: re.Match[str]) -> str:
    """What :data:`_MARKED` found, hidden if it is a number."""
    text = found[0]
    plus, bracket, written = found.groups()
    marks = set(_BETWEEN.findall(written))
    groups = [group for group in _BETWEEN.split(written) if group]
    count = sum(map(len, groups))
    if count <= _SHORTEST:
        return text
    if count > _LONGEST and plus is None:
        # Several numbers one behind the other, or an id.
        return _hide_words(text)
    if plus is None and bracket is None:
        if _IP_V4.fullmatch(written) or _DAY.fullmatch(written):
            return text
        if marks == {"."} and len(groups) == 2:
            # A measure.
            return text
        if "-" in marks and len(groups) == 2 and len(groups[0]) == _MILLISECONDS:
            return text
        blank, zero = marks & {" ", "%20"}, groups[0][0] == "0"
        if blank and "." in marks and groups[0][:2] != "00":
            return text
        if not zero and (blank or "/" in marks):
            longest = max(map(len, groups))
            if longest > _SHORTEST:
                # A number beside a count or a port, or in a path.
                return _hide_words(text)
            if blank and len(groups) == 2 and longest <= _PORT:
                return text
    return _hide_digits(text)


def _hide_words(text: str) -> str:
    """The text with each word hidden that is a number of its own with marks in it."""
    words = text.split(" ")
    return " ".join(_MARKED.sub(_hide_marked, w) for w in words) if len(words) > 1 else text


def _hide_digits(text: str) -> str:
    left = sum(found[1] is not None for found in _DIGITS.finditer(text))

    def hide(found: re.Match[str]) -> str:
        nonlocal left
        if found[1] is None:
            return found[0]
        left -= 1
        return "x" if left >= 2 else found[0]

    return _DIGITS.sub(hide, text)


def hide_secrets(text: str) -> str:
    """The text without passwords in URLs, and without the values of named tokens and secrets."""
    lower = text.lower()
    if not any(hint in lower for hint in _SECRET_HINTS):
        return text
    text = _PASSWORD.sub(lambda found: f"{found[1] or found[2]}:{_HIDDEN}@", text)
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}{_HIDDEN}", text)


class _Hidden:
    """An argument of a line; its text has telephone numbers hidden."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return hide_numbers(str(self._value))

    def __repr__(self) -> str:
        return hide_numbers(repr(self._value))


def _hidden(value: object) -> object:
    # A telephone number is text. An int or a float is a count or a measure.
    return value if isinstance(value, int | float) else _Hidden(value)


class _Render:
    """A processor that turns a record into the fields of a line."""

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
            # RQ logs this about a failed job. The first argument of our jobs is the call's id.
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
            # A badly formatted line is better than no line.
            return self._safe(f"{message} {words!r} ({error})")

    def _safe(self, text: str) -> str:
        text = hide_secrets(text)
        return text if self._numbers else hide_numbers(text)


def _json(_: Any, __: str, line: "EventDict") -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:
        # orjson rejects a lone surrogate and a number beyond 64 bits.
        return json.dumps(line, default=str)


def _console(colors: bool, _: Any, level: str, line: "EventDict") -> str:
    """A line for people. structlog's own renderer takes twice the time, and calls wait for it."""
    word = level.upper()
    if colors and level in _COLORS:
        word = f"{_COLORS[level]}{word}\x1b[0m"
    about = "".join(f" {name}={line[name]}" for name in FIELDS if name in line)
    text = f"{line['event']}{about}"
    for name in ("exception", "stack_info"):
        if name in line:
            text += f"\n{line[name]}"
    # Text from outside must not begin a line or move a terminal's cursor.
    text = _CONTROL.sub("?", text).replace("\n", "\n    ")
    return f"{line['time']} {line['process']}[{line['pid']}] {word} {line['logger']}: {text}"


def formatter(settings: Settings, process: str, *, colors: bool = False) -> logging.Formatter:
    """A formatter that follows the settings. ``process`` is the kind of process: ``api``,
    ``worker``, …"""
    from structlog.contextvars import merge_contextvars
    from structlog.processors import format_exc_info
    from structlog.stdlib import ExtraAdder, ProcessorFormatter

    shape: Processor = _json if settings.log_format == "json" else partial(_console, colors)
    return ProcessorFormatter(
        foreign_pre_chain=[merge_contextvars, ExtraAdder(FIELDS), format_exc_info],
        processors=[_Render(process, numbers=settings.log_numbers == "full"), shape],
        # _Render hides numbers in the arguments before they become part of the text.
        use_get_message=False,
        pass_foreign_args=True,
    )


def configure(settings: Settings, process: str) -> None:
    """Write the lines of all loggers of this process to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings, process, colors=sys.stderr.isatty()))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    # No line shows these values, so logging need not find them.
    logging.logThreads = logging.logMultiprocessing = False
    sys.excepthook = partial(uncaught, process)
    log.info("Ringback %s begins", version("ringback-server"))


def uncaught(where: object, *exc_info: Any) -> None:
    """Log an uncaught exception, in place of what Python or gevent prints."""
    log.error("%s failed", where, exc_info=exc_info)


def changed(old: Call, new: Call) -> None:
    """Log how a call ended, if a written change ended it."""
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
    """Whether an operator may have to act on a call's end: Ringback lost the call, or the switch
    or its gateway failed it."""
    failed = call.ended_by == BY_SWITCH and call.disposition == FAILED
    return failed or call.ended_by in FAULTS


@cache
def _context() -> Any:
    # The import stands here because the command line does not need structlog.
    from structlog import contextvars

    return contextvars


def bind(**about: str) -> None:
    """Bind fields to all further lines of this greenlet or request."""
    # Without structlog no renderer reads the fields.
    if "structlog" in sys.modules:
        _context().bind_contextvars(**about)


def bound(name: str) -> str | None:
    """The field of that name that is bound to the lines of this greenlet."""
    found: str | None = _context().get_contextvars().get(name)
    return found


def unbind_request() -> None:
    """Remove the request and its call from the bound fields of this greenlet."""
    _context().unbind_contextvars("call", "request_id")


def about(**fields: str | None) -> AbstractContextManager[None]:
    """Bind fields to the lines that the body of the ``with`` writes."""
    known = {name: text for name, text in fields.items() if text is not None}
    bound: AbstractContextManager[None] = _context().bound_contextvars(**known)
    return bound


def bind_request(app: "Flask") -> None:
    """Name the request and its call in all lines that a request of ``app`` logs. The id of the
    request is ``g.request_id``."""
    from flask import g, request

    @app.before_request
    def _bind() -> None:
        # An earlier request on the same connection ran in the same greenlet.
        unbind_request()
        g.request_id = request_id(request.environ.get(ENVIRON))
        bind(request_id=g.request_id)
        call_id = (request.view_args or {}).get("call_id")
        # Only a well-formed id reaches the log, never a client's free text.
        if call_id and _CALL_ID.fullmatch(call_id):
            bind(call=call_id)
