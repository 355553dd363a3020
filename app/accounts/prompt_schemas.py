"""The form of prompts in the accounts, and of the rules that name them.

The patterns repeat those of ``freeswitch.prompts``, which checks again what stands in a command.
"""

from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import Length, Range, Regexp

from app.accounts.fields import Whole
from app.accounts.prompts import AcceptRule, AnnounceRule, Of, Prompt

_NAME = Regexp(r"\A[A-Za-z0-9_-]{1,64}\Z", error="Takes letters, digits, - and _.")
_NUMBER = Regexp(r"\A[0-9]{1,16}\Z", error="Takes digits.")
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


class PromptSchema(Schema):
    name = fields.String(required=True, validate=_NAME)
    file = fields.String(validate=[Length(1, 255), _FILE])
    text = fields.String(validate=_TEXT)
    voice = fields.String(validate=_VOICE)
    language = fields.String(validate=_LANGUAGE)
    organization = fields.String(validate=_NUMBER)

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
    timeout = Whole(validate=Range(1, 60))
    attempts = Whole(validate=Range(1, 10))
    of = fields.Enum(Of, by_value=True)
    extensions = fields.Boolean()

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> AcceptRule:
        return AcceptRule(**data)


class AnnounceSchema(Schema):
    prompt = fields.String(required=True, validate=_NAME)
    to = fields.Enum(Of, by_value=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> AnnounceRule:
        return AnnounceRule(**data)
