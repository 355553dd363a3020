"""Dial strings, read by FreeSWITCH's rules.

The rules stand in switch_utils.c, switch_event.c and switch_ivr_originate.c. This module shares no
code with the builder of dial strings (`freeswitch.dialstring`), so that the two check each other.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

MAX_PEERS = 128
"""The most parts, alternatives or peers that the switch reads. The rest stays in the last one."""

ENTERPRISE = ":_:"
_MAX_VARIABLES = 1024
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " "}

Variables = dict[str, str]


class DialStringError(Exception):
    """No endpoint to dial. `cause` is the switch's reply."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Peer:
    """One `[variables]endpoint/data` of a dial string."""

    endpoint: str
    data: str
    variables: Variables = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DialString:
    """A dial string: `<…>{…}` and the alternatives (`|`), each with peers that ring at once (`,`).

    An alternative with an open bracket has no peers: the switch tries the next one.
    """

    variables: Variables
    alternatives: list[list[Peer]]
    nested_variables: bool
    """Whether `origination_nested_vars=true` stands anywhere: then values may hold `${…}`."""


def split(text: str, delimiter: str, limit: int) -> list[str]:
    """Split as the switch does, into at most `limit` items. The last one has all that remains.

    A delimiter within closed quotes or behind a backslash does not split. Each item is then
    unquoted. `^^X` at the start makes X the delimiter. With a space as delimiter, several spaces
    count as one, and a quote that never closes swallows the rest.
    """
    if text.startswith("^^") and len(text) > 3:
        delimiter, text = text[2], text[3:]
    blank = delimiter == " "
    if not blank and "'" not in text and "\\" not in text:
        plain = text.split(delimiter, limit - 1)
        if not plain[-1]:  # an empty rest after the last delimiter is no item
            plain.pop()
        return [item.strip(" ") for item in plain]
    items: list[str] = []
    start = 0
    while start < len(text) and len(items) < limit:
        last = len(items) == limit - 1
        end = len(text) if last else _item_end(text, start, delimiter)
        items.append(_unquote(text[start:end], "" if blank else delimiter))
        start = end + 1
        while blank and start < len(text) and text[start] == " ":
            start += 1
    return items


def _item_end(text: str, start: int, delimiter: str) -> int:
    blank = delimiter == " "
    while blank and text.startswith(" ", start):
        start += 1
    quoted = False
    last_quote = text.rfind("'")
    for match in _marks(delimiter).finditer(text, start):
        if match[0] == "'" and (quoted or blank or match.start() < last_quote):
            quoted = not quoted
        elif match[0] == delimiter and not quoted:
            return match.start()
    return len(text)


@lru_cache
def _marks(delimiter: str) -> re.Pattern[str]:
    """A pattern of a backslash with the character after it, a quote, or a delimiter."""
    return re.compile(rf"\\.?|'|{re.escape(delimiter)}", re.DOTALL)


def _unquote(text: str, delimiter: str) -> str:
    """Remove quotes, backslashes that escape, and blanks at both ends."""
    if "'" not in text and "\\" not in text:
        return text.strip(" ")
    kept: list[str] = []
    end = 0
    quoted = False
    text = text.lstrip(" ")
    last_quote = text.rfind("'")
    at = 0
    while at < len(text):
        character = text[at]
        following = text[at + 1 : at + 2]
        if character == "\\" and following and following in f"'\"\\{delimiter}nrts":
            literal = following in f"'\"\\{delimiter}"
            kept.append(following if literal else _ESCAPED[following])
            end = len(kept)
            at += 1
        elif character == "'" and (quoted or at < last_quote):
            quoted = not quoted
            if quoted:
                end = len(kept)
        else:
            kept.append(character)
            if character != " " or quoted:
                end = len(kept)
        at += 1
    return "".join(kept[:end])


def _closing(text: str, opening: str, closing: str, start: int = 0) -> int:
    """The place where the bracket at `start`, or after blanks there, closes, or -1.
    Quotes do not count."""
    while text.startswith(" ", start):
        start += 1
    if not text.startswith(opening, start):
        return -1
    depth = 1
    at = start
    while depth:
        close = text.find(closing, at + 1)
        if close < 0:
            return -1
        depth += text.count(opening, at + 1, close) - 1
        at = close
    return at


def _read_block(
    text: str, opening: str, closing: str, delimiter: str, into: Variables
) -> str | None:
    """Read the `{…}` at the start of `text`; return the rest, None if it never closes."""
    end = _closing(text, opening, closing)
    if end < 0:
        return None
    inner = text[text.index(opening) + 1 : end]
    if inner.startswith("^^"):
        delimiter, inner = inner[2:3], inner[3:]
    for item in split(inner, delimiter, _MAX_VARIABLES) if delimiter else ():
        pair = split(item, "=", 2)
        if len(pair) == 2:
            _add(into, *pair)
    return text[end + 1 :]


def _add(variables: Variables, name: str, value: str) -> None:
    """Set a variable. The switch ignores the case of names and keeps the last one."""
    for known in variables:
        if known != name and known.lower() == name.lower():
            del variables[known]
            break
    variables.pop(name, None)
    if value:
        variables[name] = value


def _read_blocks(text: str, opening: str, closing: str, delimiter: str, into: Variables) -> str:
    while text.startswith(opening):
        rest = _read_block(text, opening, closing, delimiter, into)
        if rest is None:
            raise DialStringError("DESTINATION_OUT_OF_ORDER")
        text = rest
    return text


def enterprise_parts(text: str) -> tuple[Variables, list[str]] | None:
    """The `<variables>` and parts of an enterprise originate; None for an ordinary one.

    The characters `:_:` count wherever they stand, even within a value.
    """
    if ENTERPRISE not in text:
        return None
    variables: Variables = {}
    rest = _read_blocks(text.lstrip(" "), "<", ">", ",", variables).lstrip(" ")
    return variables, rest.split(ENTERPRISE, MAX_PEERS - 1)


def parse(text: str) -> DialString:
    """Read a dial string without `:_:`. Raises DialStringError."""
    text = text.lstrip(" ")
    nested = "origination_nested_vars=true" in text.lower()
    variables: Variables = {}
    text = _read_blocks(text, "<", ">", ",", variables)
    text = _read_blocks(text, "{", "}", ",", variables).lstrip(" ")
    if not text:
        raise DialStringError("DESTINATION_OUT_OF_ORDER")
    return DialString(variables, list(map(_peers, split(text, "|", MAX_PEERS))), nested)


# Other characters replace commas within […] while the peers are split. A comma in quotes, or with
# another separator, belongs to a value. Any other comma separates variables.
_VALUE_COMMA = "\x01"
_SEPARATING_COMMA = "\x02"


def _peers(alternative: str) -> list[Peer]:
    try:
        return [_peer(text) for text in split(_hide_commas(alternative), ",", MAX_PEERS)]
    except DialStringError:
        return []


def _hide_commas(text: str) -> str:
    if "[" not in text:
        return text
    characters = list(text)
    end = -1
    quoted = other_separator = False
    for match in _BRACKETS_AND_COMMAS.finditer(text):
        at = match.start()
        if end < at and match[0] == "[":
            end = _closing(text, "[", "]", at)
            other_separator = text.startswith("^^", at + 1)
            quoted = False
        elif match[0] == "'":
            quoted = not quoted
        elif match[0] == "," and at < end and text[at - 1] != "\\":
            hidden = quoted or other_separator
            characters[at] = _VALUE_COMMA if hidden else _SEPARATING_COMMA
    return "".join(characters)


_BRACKETS_AND_COMMAS = re.compile(r"[\[',]")


def _peer(text: str) -> Peer:
    text = text.lstrip(" ")
    variables: Variables = {}
    while text.startswith("["):
        end = _closing(text, "[", "]")
        text = text[:end].replace(_VALUE_COMMA, ",") + text[end:] if end >= 0 else text
        rest = _read_block(text, "[", "]", _SEPARATING_COMMA, variables)
        if rest is None:
            raise DialStringError("DESTINATION_OUT_OF_ORDER")
        text = rest
    endpoint, _, data = text.lstrip(" ").partition("/")
    return Peer(endpoint, data, variables)


def application(text: str) -> tuple[str, str] | None:
    """The name and argument of `&name(argument)`; None for an extension of the dialplan.

    The first `)` ends the argument.
    """
    if not text.startswith("&") or len(text) < 2:
        return None
    name, _, argument = text[1:].partition(")")[0].partition("(")
    return name, argument
