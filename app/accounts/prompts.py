"""Prompts in the accounts, and who hears them: the parties that must accept a call by a key, and
the announcements that are played before a party is connected.

The patterns repeat those of ``freeswitch.prompts``, which checks again what stands in a command.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import Length, Range, Regexp

from app.calls.model import Accept, NumberKind, Role

_NAME = Regexp(r"\A[A-Za-z0-9_-]{1,64}\Z", error="Takes letters, digits, - and _.")
_PART = r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*"
_FILE = Regexp(
    rf"\A(/?{_PART}(/{_PART})*|silence_stream://[0-9]{{1,6}}|phrase:[A-Za-z0-9_-]{{1,64}})\Z",
    error="Takes a path on the switch, phrase:NAME or silence_stream://MILLISECONDS.",
)
_TEXT = Regexp(
    r"\A[^\W_][\w .?-]{0,499}\Z",
    error="Takes up to 500 letters, digits, blanks and the marks . ? and -.",
)
_VOICE = Regexp(r"\A[A-Za-z0-9_-]{1,32}\|[A-Za-z0-9_.-]{1,64}\Z", error="Takes ENGINE|VOICE.")
_LANGUAGE = Regexp(r"\A[a-z]{2,3}(-[A-Za-z0-9]{2,8})?\Z", error="Takes a language code: de.")
_KEY = Regexp(r"\A[0-9*#]{1,9}\Z", error="Takes one to nine of the keys 0 to 9, * and #.")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sound of the switch: a ``file``, or a ``text`` that its TTS speaks by ``voice``."""

    name: str
    file: str | None = None
    text: str | None = None
    # ``engine|voice``.
    voice: str | None = None
    # The language of a phrase.
    language: str | None = None


class Of(StrEnum):
    """The side of a call that accepts, or hears an announcement."""

    SOURCE = "source"
    DESTINATION = "destination"
    BOTH = "both"

    def has(self, role: Role) -> bool:
        return self is Of.BOTH or self.value == role.value


@dataclass(frozen=True, slots=True)
class AcceptRule:
    """Which parties of a call must accept it, and how. Extensions need not, unless
    ``extensions`` says so."""

    prompt: str
    key: str = "1"
    timeout: int = 8
    attempts: int = 2
    of: Of = Of.SOURCE
    extensions: bool = False

    def accept(self, role: Role, kind: NumberKind) -> str | None:
        """What it takes a leg to accept, as the leg keeps it; None if it need not."""
        asked = kind is NumberKind.PUBLIC or self.extensions
        if not asked or not self.of.has(role):
            return None
        return Accept(self.key, self.prompt, self.timeout, self.attempts).dumps()


@dataclass(frozen=True, slots=True)
class AnnounceRule:
    """Which parties of a call hear an announcement before they are connected."""

    prompt: str
    to: Of = Of.DESTINATION

    def announce(self, role: Role) -> str | None:
        """The prompt's name, for a leg that hears it; else None."""
        return self.prompt if self.to.has(role) else None


class PromptSchema(Schema):
    name = fields.String(required=True, validate=_NAME)
    file = fields.String(validate=[Length(1, 255), _FILE])
    text = fields.String(validate=_TEXT)
    voice = fields.String(validate=_VOICE)
    language = fields.String(validate=_LANGUAGE)

    @validates_schema(skip_on_field_errors=True)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if ("file" in data) is ("text" in data):
            raise ValidationError("Give either file or text.", "file")
        if ("text" in data) is not ("voice" in data):
            raise ValidationError("A text needs a voice, and a file takes none.", "voice")

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Prompt:
        return Prompt(**data)


class AcceptSchema(Schema):
    prompt = fields.String(required=True, validate=_NAME)
    key = fields.String(validate=_KEY)
    timeout = fields.Integer(strict=True, validate=Range(1, 60))
    attempts = fields.Integer(strict=True, validate=Range(1, 10))
    of = fields.Enum(Of, by_value=True)
    extensions = fields.Boolean(truthy={True}, falsy={False})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> AcceptRule:
        return AcceptRule(**data)


class AnnounceSchema(Schema):
    prompt = fields.String(required=True, validate=_NAME)
    to = fields.Enum(Of, by_value=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> AnnounceRule:
        return AnnounceRule(**data)


def missing(prompts: Mapping[str, Prompt], *rules: AcceptRule | AnnounceRule | None) -> str | None:
    """The name of a prompt of these rules that the accounts do not have; None if all are there."""
    return next((r.prompt for r in rules if r is not None and r.prompt not in prompts), None)
