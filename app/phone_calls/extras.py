"""What a create request may say of a call beside its views: metadata and a status callback."""

import json
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields
from marshmallow.validate import Length, OneOf

from app.calls.status_callback import EVENTS
from app.web.fields import BaseRequest, coded
from app.web.urls import is_callable, target

# The most bytes of metadata as JSON in UTF-8, the most characters of a key, and the most keys: each
# is an entry of an index (app.store.metadata_index).
METADATA_BYTES = 2048
METADATA_KEY = 64
METADATA_KEYS = 50


class Metadata(fields.Dict):
    """A field for an object of strings."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValidationError("metadata takes an object of strings.")
        if len(value) > METADATA_KEYS:
            raise ValidationError(f"metadata takes at most {METADATA_KEYS} keys.")
        for key, text in value.items():
            if reason := _refusal(key, text):
                raise ValidationError({key: [reason]})
        if len(_text(value).encode()) > METADATA_BYTES:
            raise ValidationError(f"metadata takes at most {METADATA_BYTES} bytes of JSON.")
        return value


def _refusal(key: str, text: Any) -> str | None:
    if not 1 <= len(key) <= METADATA_KEY or not key.isprintable() or ":" in key:
        return f"A key takes 1 to {METADATA_KEY} printable characters, and no colon."
    if not isinstance(text, str):
        return "A value takes a string."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "A value takes whole characters, not half of a surrogate pair."
    return None


def _callable(url: str) -> None:
    if not is_callable(url):
        raise ValidationError(
            "url takes an http or https URL of at most 2048 characters, without a user or a "
            "fragment."
        )


class StatusCallbackSchema(BaseRequest):
    url = fields.String(required=True, validate=_callable, metadata=coded("pc_callback_invalid"))
    events = fields.List(
        fields.String(validate=OneOf(EVENTS)),
        load_default=list(EVENTS),
        validate=Length(1),
        metadata=coded("pc_callback_invalid"),
    )
    # The body is JSON, and a GET has none.
    method = fields.String(
        load_default="POST", validate=OneOf(["POST"]), metadata=coded("pc_callback_invalid")
    )


def stored(body: Mapping[str, Any], app: str) -> dict[str, str]:
    """The fields of a call for what the request says; without what it does not say."""
    found = {}
    if metadata := body.get("metadata"):
        found["metadata"] = _text(metadata)
    if callback := body.get("statusCallback"):
        found["status_callback"] = _text({**callback, "target": target(callback["url"], app)})
    return found


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
