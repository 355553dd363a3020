"""The form of an app's tokens, client secrets and dates in the accounts file."""

from datetime import UTC, date, datetime
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import Regexp

from app.accounts.credentials import Credential, token_sha256

HASH = Regexp(r"\A[0-9a-f]{64}\Z", error="Takes a SHA-256 in hex.")
SECRET = Regexp(r"\A[!-~]{16,255}\Z", error="Takes 16 to 255 printable characters.")
WEBHOOK_SECRET = Regexp(
    r"\Awhsec_(?=.{32,88}\Z)(?:[A-Za-z0-9+/]{4})+"
    r"(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z",
    error="Takes whsec_ and 24 to 64 bytes in base64.",
)
# The tokens and client secrets of the demo accounts. The documentation names them, so everybody
# knows them.
DEMO_TOKENS = tuple(
    f"demo-{level}-{kind}"
    for kind in ("token", "secret")
    for level in ("user", "organization", "administrator", "voipnow")
)
# The secret of the demo's apps that signs call events. The documentation names it too.
DEMO_WEBHOOK_SECRET = "whsec_dGhlIHdlYmhvb2sgc2VjcmV0IG9mIHRoZSBkZW1v"
# Those of the demo are shorter than others may be.
TOKEN = Regexp(
    rf"\A(?:{'|'.join(DEMO_TOKENS)}|[A-Za-z0-9_.-]{{20,255}})\Z",
    error="Takes 20 to 255 letters, digits, underscores, dots and hyphens.",
)


class Moment(fields.Field[float]):
    """A date or a date and time, loaded as epoch seconds. A date means its beginning, and a time
    without a zone is UTC."""

    default_error_messages = {  # noqa: RUF012
        "invalid": "Takes a date or a date and time: 2026-12-31 or 2026-12-31T12:00:00Z."
    }

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> float:
        try:
            at = datetime.fromisoformat(value) if isinstance(value, str) else value
            if not isinstance(at, date):
                raise self.make_error("invalid")
            if not isinstance(at, datetime):
                at = datetime(at.year, at.month, at.day, tzinfo=UTC)
            return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise self.make_error("invalid") from None


class _CredentialSchema(Schema):
    # The name of the credential, and of its hash with _sha256 after it.
    of = ""
    not_before = Moment()
    expires = Moment()

    @validates_schema(skip_on_field_errors=True)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if len({self.of, f"{self.of}_sha256"} & data.keys()) != 1:
            raise ValidationError(f"Give either {self.of} or {self.of}_sha256.", self.of)
        if "not_before" in data and "expires" in data and data["expires"] <= data["not_before"]:
            raise ValidationError("Takes a time after not_before.", "expires")

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Credential:
        text, digest = data.pop(self.of, None), data.pop(f"{self.of}_sha256", None)
        return Credential(digest or token_sha256(text), **data)


class TokenSchema(_CredentialSchema):
    of = "token"
    token = fields.String(validate=TOKEN)
    token_sha256 = fields.String(validate=HASH)


class ClientSecretSchema(_CredentialSchema):
    of = "client_secret"
    client_secret = fields.String(validate=SECRET)
    client_secret_sha256 = fields.String(validate=HASH)


def moment_text(at: float) -> str:
    """The text of a time that :class:`Moment` reads."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
