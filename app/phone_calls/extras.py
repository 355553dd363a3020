"""What a create request may say of a call that the UAPI does not have: metadata, a status callback,
and SIP headers."""

import json
import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, post_load
from marshmallow.validate import Length, OneOf

from app.calls.status_callback import EVENTS
from app.errors import api_error
from app.web.addresses import Networks, refusal
from app.web.fields import BaseRequest, coded
from app.web.urls import is_callable, target

# The most bytes of metadata as JSON in UTF-8, the most characters of a key, and the most keys: each
# is an entry of an index (app.store.metadata_index).
METADATA_BYTES = 2048
METADATA_KEY = 64
METADATA_KEYS = 50
# What may stand beside the views.
NAMES = ("metadata", "statusCallback")


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


def check_callback(body: Mapping[str, Any], allow: Networks, app: str) -> None:
    """Check that the URL of an app's status callback leads to a public address or to one of
    ``allow``. Raises ApiError."""
    if not (callback := body.get("statusCallback")):
        return
    if (reason := refusal(callback["url"], allow, app)) is not None:
        raise api_error(
            "pc_callback_invalid",
            field="/statusCallback/url",
            value=callback["url"],
            reason=reason,
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

    @post_load
    def _in_order(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """In one form, whatever the order: a retry is the same request."""
        return {**data, "events": [name for name in EVENTS if name in data["events"]]}


# What the dial string takes (freeswitch.dialstring.check_headers), which arrives as sent.
_HEADER = re.compile(r"X-(?!FS-|AUTH-|Ringback)[A-Za-z0-9-]{1,40}", re.ASCII | re.IGNORECASE)
_HEADER_VALUE = re.compile(r"(?!ARRAY::)(?! )[A-Za-z0-9 _.%~+*#@:!/=;?&-]{1,256}(?<! )", re.ASCII)
_MOST_HEADERS = 10


class Headers(fields.Dict):
    """A field for SIP headers by name."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValidationError("Takes an object of strings.")
        if len(value) > _MOST_HEADERS:
            raise ValidationError(f"Takes at most {_MOST_HEADERS} headers.")
        known: set[str] = set()
        for name, text in value.items():
            if reason := _header_refusal(name, text, known):
                raise ValidationError({name: [reason]})
            known.add(name.lower())
        return value


def _header_refusal(name: str, text: Any, known: set[str]) -> str | None:
    if not name.startswith("X-") or _HEADER.fullmatch(name) is None:
        return (
            "A name takes X- and 1 to 40 letters, digits and hyphens, and not the names of the "
            "switch (X-FS-, X-AUTH-) and of Ringback (X-Ringback)."
        )
    if name.lower() in known:
        return "Two names must differ in more than the case of their letters."
    if not isinstance(text, str) or _HEADER_VALUE.fullmatch(text) is None or ":_:" in text:
        return (
            "A value takes 1 to 256 letters, digits, blanks and _.%~+*#@:!/=;?&- with no blank at "
            "an end, no ARRAY:: at its start, and no :_: in it."
        )
    return None


def _side() -> Headers:
    return Headers(metadata=coded("pc_headers_invalid"))


class DestinationHeadersSchema(BaseRequest):
    destination = _side()


class HeadersSchema(DestinationHeadersSchema):
    source = _side()


def stored_headers(view: Mapping[str, Any]) -> dict[str, Any]:
    """The field of a call for the SIP headers of its view; empty without any."""
    sides = headers_of(view)
    return {"sip_headers": _text(sides)} if sides else {}


def headers_of(view: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The SIP headers of a view, without sides that send none."""
    return {side: headers for side, headers in view.get("headers", {}).items() if headers}


def stored(body: Mapping[str, Any], app: str) -> dict[str, Any]:
    """The fields of a call for what the request says; without what it does not say."""
    found = {}
    if metadata := body.get("metadata"):
        found["metadata"] = _text(metadata)
    if callback := body.get("statusCallback"):
        found["status_callback"] = _text({**callback, "target": target(callback["url"], app)})
    return found


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
