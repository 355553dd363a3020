"""The form of the accounts file, and the rules between its parts."""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validates_schema
from marshmallow.validate import Length, OneOf, Range, Regexp

from app.accounts import credentials, ringback
from app.accounts.credential_schemas import (
    DEMO_TOKENS,
    DEMO_WEBHOOK_SECRET,
    HASH,
    SECRET,
    TOKEN,
    WEBHOOK_SECRET,
    ClientSecretSchema,
    Moment,
    TokenSchema,
)
from app.accounts.fields import Parsed, Rate, Whole, one_line
from app.accounts.model import (
    Accounts,
    App,
    Compatibility,
    Conference,
    Extension,
    ExtensionType,
    Gateway,
    Level,
    Organization,
    PriceOf,
    Route,
    User,
    token_sha256,
)
from app.accounts.policy import TYPES, Policy
from app.accounts.prompt_schemas import AcceptSchema, AnnounceSchema, PromptSchema
from app.accounts.prompts import Prompt, missing, of_organization
from app.accounts.scopes import AppScope
from app.caller_id import parse_caller_id
from app.calls.cost import MILLION, decimal
from app.calls.model import gateway_of
from app.calls.sight import organization_of
from app.number_plans import COUNTRIES
from app.numbers import NumberFormat

_OF_DEMO = "Is one of the demo's, which everybody knows: choose another."
_ID = Regexp(r"\A[A-Za-z0-9_-]{1,64}\Z", error="Takes letters, digits, - and _.")
_NUMBER = Regexp(r"\A[0-9]{1,16}\Z", error="Takes digits.")
_EXTENDED = Regexp(r"\A[0-9]{1,16}\*[0-9]{1,16}\Z", error="Takes an extended number: 0003*210.")
_SWITCH = Regexp(r"\A[A-Za-z0-9_-]{1,32}\Z", error="Takes letters, digits, - and _.")
_DIGITS = Regexp(r"\A\+?[0-9]{0,32}\Z", error="Takes the first digits of numbers: 4420.")
_PATTERN = Regexp(
    r"\A[0-9]{1,16}\*[0-9]{0,16}\*?\Z",
    error="Takes extended numbers, with * at the end for any: 0003*2*.",
)
_GATEWAY = Regexp(r"\A[A-Za-z0-9_.-]{1,64}\Z", error="Takes letters, digits, . _ and -.")
_DIAL_STRING = Regexp(
    r"\A(?!.*:_:)[A-Za-z0-9_]+(/[A-Za-z0-9_.@:;=+*#%~-]+)+\Z",
    error="Takes one endpoint such as user/210@example.com, without blanks or variables.",
)


def _name(required: bool = True) -> fields.String:
    return fields.String(required=required, validate=[Length(int(required), 128), one_line])


def _digits() -> fields.String:
    """A prefix of numbers, which matches with and without ``+``."""
    return fields.String(required=True, validate=_DIGITS)


def _most() -> fields.Integer:
    return fields.Integer(strict=True, validate=Range(1, 1_000_000))


_PREFIX = Regexp(r"\A\+[1-9][0-9]{0,14}\Z", error="Takes a prefix in E.164 form: +4420.")
_CALLER_ID = Regexp(
    r"\A(\*|\+?[0-9*]{1,31}\*?)\Z",
    error="Takes a number, the first digits of numbers with * at the end, or *.",
)


def _country() -> fields.String:
    return fields.String(
        validate=OneOf(sorted(COUNTRIES), error="Takes an ISO 3166 country code: US.")
    )


class Rows(fields.List[Any]):
    """A list that is loaded as a tuple."""

    def __init__(self, row: fields.Field[Any], most: int = 1000, *, least: int = 0) -> None:
        super().__init__(row, validate=Length(least, most))

    def _deserialize(self, *args: Any, **kwargs: Any) -> Any:
        return tuple(super()._deserialize(*args, **kwargs))


class GuardedSchema(Schema):
    """The rules that organizations, users, extensions and apps may have."""

    policy = fields.String(validate=_ID)
    caller_ids = Rows(fields.String(validate=_CALLER_ID))


class PolicySchema(Schema):
    name = fields.String(required=True, validate=_ID)
    countries = Rows(_country())
    allow = Rows(fields.String(validate=_PREFIX), 10_000)
    deny = Rows(fields.String(validate=_PREFIX), 10_000)
    types = Rows(fields.String(validate=OneOf(list(TYPES))))
    emergency = fields.Boolean()
    enforce = fields.Boolean()
    calls_to_number_per_hour = fields.Integer(strict=True, validate=Range(1, 1_000_000))
    new_countries_per_day = fields.Integer(strict=True, validate=Range(0, 1_000))

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Policy:
        return Policy(**data)


class Money(fields.Field[str]):
    """An amount of money, kept as a decimal number without loss."""

    default_error_messages = {  # noqa: RUF012
        "invalid": "Takes a number of 0 to 1000000000 with at most 6 decimals."
    }

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        text = str(value)
        if not text.isascii() or "_" in text:
            raise self.make_error("invalid")
        try:
            amount = Decimal(text)
        except InvalidOperation:
            raise self.make_error("invalid") from None
        if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount <= 1_000_000_000:
            raise self.make_error("invalid")
        if (micros := amount * MILLION) != int(micros):
            raise self.make_error("invalid")
        return decimal(int(micros))


class CappedSchema(Schema):
    max_calls = _most()
    max_legs = _most()
    calls_per_minute = _most()
    calls_per_day = _most()
    minutes_per_day = _most()
    cost_per_day = Money()
    max_waiting = _most()


class HomedSchema(Schema):
    switch = fields.String(validate=_SWITCH)
    tags = Rows(fields.String(validate=_SWITCH), 16)
    elsewhere = fields.Boolean()

    @validates_schema(skip_on_field_errors=True)
    def _check_home(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("switch") and data.get("tags"):
            raise ValidationError("Give either switch or tags, not both.", "tags")
        if data.get("elsewhere") and not (data.get("switch") or data.get("tags")):
            raise ValidationError("Is only taken with switch or tags.", "elsewhere")


def _supervise() -> Rows:
    return Rows(fields.String(validate=_PATTERN), 100)


class OrganizationSchema(GuardedSchema, CappedSchema, HomedSchema):
    id = fields.String(required=True, validate=_ID)
    number = fields.String(required=True, validate=_NUMBER)
    name = _name()
    extension_digits = Whole(validate=Range(1, 16))
    legs_per_second = Rate()
    max_kept = _most()
    country = _country()
    ringback = Parsed(ringback.canonical)
    accept = fields.Nested(AcceptSchema)
    announce = fields.Nested(AnnounceSchema)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Organization:
        return Organization(**data)


class UserSchema(GuardedSchema, CappedSchema):
    id = fields.String(required=True, validate=_ID)
    organization = fields.String(required=True, validate=_NUMBER)
    name = _name(required=False)
    supervise = _supervise()

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> User:
        return User(**data)


class ExtensionSchema(GuardedSchema, HomedSchema):
    number = fields.String(required=True, validate=_EXTENDED)
    type = fields.Enum(ExtensionType, by_value=True, required=True)
    owner = fields.String(required=True, validate=_ID)
    dial_string = fields.String(validate=_DIAL_STRING)
    caller_id = fields.String()
    may_set_caller_id = fields.Boolean()
    may_record = fields.Boolean()
    voicemail = fields.String(
        validate=Regexp(
            r"\A[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9.-]{1,255}\Z", error="Takes box@domain."
        )
    )

    @validates_schema(skip_on_field_errors=True)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if data["type"].rings and "dial_string" not in data:
            raise ValidationError("Is required to reach the extension.", "dial_string")
        if "caller_id" in data:
            try:
                parse_caller_id(data["caller_id"])
            except ValueError as error:
                raise ValidationError(str(error), "caller_id") from error

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Extension:
        return Extension(**data)


class AppSchema(GuardedSchema, CappedSchema):
    id = fields.String(required=True, validate=_ID)
    level = fields.Enum(Level, by_value=True, required=True)
    token = fields.String(validate=TOKEN)
    token_sha256 = fields.String(validate=HASH)
    tokens = Rows(fields.Nested(TokenSchema), credentials.MOST)
    user = fields.String(validate=_ID)
    organization = fields.String(validate=_NUMBER)
    compatibility = fields.Enum(Compatibility, by_value=True)
    # Printable characters (RFC 6749, appendix A); a colon would end the id in HTTP Basic.
    client_id = fields.String(validate=Regexp(r"\A[!-9;-~]{1,128}\Z"))
    client_secret = fields.String(validate=SECRET)
    client_secret_sha256 = fields.String(validate=HASH)
    client_secrets = Rows(fields.Nested(ClientSecretSchema), credentials.MOST)
    expires = Moment()
    scopes = Rows(fields.Enum(AppScope, by_value=True), len(AppScope), least=1)
    token_in_query = fields.Boolean()
    webhook_secret = fields.String(validate=WEBHOOK_SECRET)

    supervise = _supervise()

    @validates_schema(skip_on_field_errors=True)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("supervise") and data["level"] is Level.ADMINISTRATOR:
            text = "Is not taken at level administrator, which supervises all calls."
            raise ValidationError(text, "supervise")
        for name in ("token", "client_secret"):
            if name in data and f"{name}_sha256" in data:
                raise ValidationError(f"Give either {name} or {name}_sha256, not both.", name)
            one = bool({name, f"{name}_sha256"} & data.keys())
            if one + len(data.get(f"{name}s", ())) > credentials.MOST:
                text = f"An app has at most {credentials.MOST} of these, with {name}."
                raise ValidationError(text, f"{name}s")
        if AppScope.ADMIN in data.get("scopes", ()) and data["level"] is not Level.ADMINISTRATOR:
            raise ValidationError("admin is only taken at level administrator.", "scopes")
        given = {"token", "token_sha256", "client_secret", "client_secret_sha256"} & data.keys()
        if not given and not data.get("tokens") and not data.get("client_secrets"):
            raise ValidationError("Give a token, a client_secret or both.", "token")
        needed = {Level.USER: {"user"}, Level.ORGANIZATION: {"organization"}}
        given = {"user", "organization"} & data.keys()
        if given != (wanted := needed.get(data["level"], set())):
            name = next(iter(wanted | given))
            verb = "Is required" if name in wanted else "Is not taken"
            raise ValidationError(f"{verb} at level {data['level']}.", name)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> App:
        for name in ("token", "client_secret"):
            if text := data.pop(name, None):
                data[f"{name}_sha256"] = token_sha256(text)
        return App(**{"client_id": data["id"], **data})


class ConferenceSchema(Schema):
    extension = fields.String(required=True, validate=_EXTENDED)
    number = fields.String(required=True, validate=_NUMBER)
    pin = fields.String(validate=_NUMBER)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Conference:
        return Conference(**data)


class GatewaySchema(HomedSchema):
    name = fields.String(required=True, validate=_GATEWAY)
    legs_per_second = Rate()
    max_legs = _most()
    number_format = fields.Enum(NumberFormat, by_value=True)
    ringback = Parsed(ringback.canonical)
    progress_timeout = fields.Integer(strict=True, validate=Range(0, 600))
    media_timeout = fields.Integer(strict=True, validate=Range(0, 3_600))

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Gateway:
        return Gateway(**data)


class RouteSchema(Schema):
    prefix = _digits()
    gateways = fields.List(
        fields.String(validate=_GATEWAY),
        required=True,
        validate=Length(1, 8),
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Route:
        # A prefix matches the same numbers with and without +.
        return Route(data["prefix"].lstrip("+"), tuple(data["gateways"]))


class PriceSchema(Schema):
    prefix = _digits()
    per_minute = Money(required=True)
    per_call = Money()
    increment = fields.Integer(strict=True, validate=Range(1, 3600))
    currency = fields.String(
        required=True, validate=Regexp(r"\A[A-Z]{3}\Z", error="Takes a code of ISO 4217: USD.")
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> PriceOf:
        return PriceOf(**{**data, "prefix": data["prefix"].lstrip("+")})


class AccountsSchema(Schema):
    """The schema of the whole file. ``demo`` allows the demo's tokens."""

    organizations = fields.List(fields.Nested(OrganizationSchema), load_default=list)
    users = fields.List(fields.Nested(UserSchema), load_default=list)
    extensions = fields.List(fields.Nested(ExtensionSchema), load_default=list)
    apps = fields.List(fields.Nested(AppSchema), load_default=list)
    routes = fields.List(fields.Nested(RouteSchema), load_default=list)
    gateways = fields.List(fields.Nested(GatewaySchema), load_default=list)
    conferences = fields.List(fields.Nested(ConferenceSchema), load_default=list)
    policies = fields.List(fields.Nested(PolicySchema), load_default=list)
    rates = fields.List(fields.Nested(PriceSchema), load_default=list)
    prompts = fields.List(fields.Nested(PromptSchema), load_default=list)
    # Says which of two files is newer (app.accounts.files).
    version = fields.Integer(strict=True, validate=Range(0, 10**15 - 1))

    def __init__(self, *, demo: bool = False) -> None:
        super().__init__()
        self._demo = demo

    @validates_schema(skip_on_field_errors=True)
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        """Check that every name is unique and that every reference leads to something."""
        errors = _Errors()
        errors.unique("organizations", "number", data["organizations"])
        errors.unique("organizations", "id", data["organizations"])
        errors.unique("users", "id", data["users"])
        errors.unique("extensions", "number", data["extensions"])
        errors.unique("apps", "id", data["apps"])
        errors.tokens(data["apps"])
        errors.unique("apps", "client_id", data["apps"])
        errors.unique("routes", "prefix", data["routes"])
        errors.unique("gateways", "name", data["gateways"])
        errors.unique("policies", "name", data["policies"])
        policies = {policy.name for policy in data["policies"]}
        for table in ("organizations", "users", "extensions", "apps"):
            for index, row in enumerate(data[table]):
                if row.policy is not None and row.policy not in policies:
                    errors.add(table, index, "policy", "Is no policy's name.")
        errors.unique("prompts", "name", data["prompts"])
        prompts = {prompt.name: prompt for prompt in data["prompts"]}
        errors.prompts(data["organizations"], data["gateways"], prompts)
        errors.unique("rates", "prefix", data["rates"])
        for index, price in enumerate(data["rates"]):
            if price.currency != data["rates"][0].currency:
                errors.add("rates", index, "currency", "All rates take one currency.")
        if not any(price.prefix == "" for price in data["rates"]):
            for table in ("organizations", "users", "apps"):
                for index, each in enumerate(data[table]):
                    if each.cost_per_day is not None:
                        text = 'Needs a rate for every number: [[rates]] with prefix = "".'
                        errors.add(table, index, "cost_per_day", text)
        routed = {gateway_of(extension.dial_string or "") for extension in data["extensions"]}
        routed.update(name for route in data["routes"] for name in route.gateways)
        for index, gateway in enumerate(data["gateways"]):
            if gateway.name not in routed:
                errors.add("gateways", index, "name", "Is used by no route and no dial string.")
        organizations = {o.number: o for o in data["organizations"]}
        for index, prompt in enumerate(data["prompts"]):
            if prompt.organization is not None and prompt.organization not in organizations:
                errors.add("prompts", index, "organization", "Is no organization's number.")
        users = {u.id: u for u in data["users"]}
        for index, user in enumerate(data["users"]):
            if user.organization not in organizations:
                errors.add("users", index, "organization", "Is no organization's number.")
            errors.supervise("users", index, user.supervise, user.organization)
        for index, extension in enumerate(data["extensions"]):
            owner = users.get(extension.owner)
            if owner is None:
                errors.add("extensions", index, "owner", "Is no user's id.")
            elif owner.organization != extension.organization:
                errors.add("extensions", index, "owner", "Is of another organization.")
            # A user of no organization is told of above.
            elif owner.organization in organizations:
                digits = organizations[owner.organization].extension_digits
                if len(extension.number.partition("*")[2]) != digits:
                    errors.add("extensions", index, "number", f"Takes {digits} digits after *.")
        by_number = {e.number: e for e in data["extensions"]}
        named = set()
        for index, conference in enumerate(data["conferences"]):
            owner = by_number.get(conference.extension)
            if owner is None or owner.type is not ExtensionType.CONFERENCE:
                errors.add("conferences", index, "extension", "Is no conference extension.")
            if (room := (conference.extension, conference.number)) in named:
                errors.add("conferences", index, "number", "Is taken by an earlier one.")
            named.add(room)
        demo = {token_sha256(token) for token in DEMO_TOKENS}
        for index, app in enumerate(data["apps"]):
            if app.user is not None and app.user not in users:
                errors.add("apps", index, "user", "Is no user's id.")
            if app.organization is not None and app.organization not in organizations:
                errors.add("apps", index, "organization", "Is no organization's number.")
            user = users.get(app.user or "")
            own = user.organization if user is not None else app.organization
            errors.supervise("apps", index, app.supervise, own or "")
            for name in ("token", "client_secret"):
                known = {each.sha256 for each in getattr(app, f"all_{name}s")}
                if known & demo and not self._demo:
                    errors.add("apps", index, name, _OF_DEMO)
            if app.webhook_secret == DEMO_WEBHOOK_SECRET and not self._demo:
                errors.add("apps", index, "webhook_secret", _OF_DEMO)
        if errors.found:
            raise ValidationError(errors.found)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Accounts:
        data.pop("version", None)
        return Accounts.of(**data)


def row_schemas() -> dict[str, Any]:
    """The schemas of rows, by kind."""
    tables: dict[str, Any] = AccountsSchema().fields
    return {kind: table.inner.schema for kind, table in tables.items() if kind != "version"}


def without_unknown(document: dict[str, Any]) -> dict[str, Any]:
    """The document without fields that this version does not know: a newer version may have
    written it."""
    known = {kind: schema.fields for kind, schema in row_schemas().items()}
    return {
        kind: [{name: row[name] for name in row if name in known[kind]} for row in document[kind]]
        for kind in document
        if kind in known
    }


class _Errors:
    def __init__(self) -> None:
        self.found: dict[str, dict[int, dict[str, list[str]]]] = {}

    def add(self, table: str, index: int, key: str, text: str) -> None:
        self.found.setdefault(table, {}).setdefault(index, {}).setdefault(key, []).append(text)

    def unique(self, table: str, key: str, rows: list[Any]) -> None:
        seen = set()
        for index, row in enumerate(rows):
            if (value := getattr(row, key)) is not None and value in seen:
                self.add(table, index, key, "Is taken by an earlier one.")
            seen.add(value)

    def tokens(self, apps: list[App]) -> None:
        """Check that no token is of two apps, or twice of one."""
        seen: set[str] = set()
        for index, app in enumerate(apps):
            for token in app.all_tokens:
                if token.sha256 in seen:
                    self.add("apps", index, "token", "Is taken by an earlier one.")
                seen.add(token.sha256)

    def prompts(
        self,
        organizations: list[Organization],
        gateways: list[Gateway],
        prompts: Mapping[str, Prompt],
    ) -> None:
        """Check that organizations and gateways name prompts that their calls may have."""
        rows: list[tuple[str, int, Organization | Gateway, str | None]] = [
            *(("organizations", at, each, each.number) for at, each in enumerate(organizations)),
            *(("gateways", at, each, None) for at, each in enumerate(gateways)),
        ]
        for table, index, row, number in rows:
            own = of_organization(prompts, number)
            try:
                ringback.check(row.ringback or ringback.AUTO, own)
            except ValueError as error:
                self.add(table, index, "ringback", str(error))
            for name in ("accept", "announce"):
                if missing(own, getattr(row, name, None)) is not None:
                    self.add(table, index, name, "Names no prompt of [[prompts]].")

    def supervise(self, table: str, index: int, named: Iterable[str], organization: str) -> None:
        """Check that patterns name extensions of the row's own organization."""
        for pattern in named:
            if organization_of(pattern) != organization:
                text = f"{pattern} is not of its own organization, {organization}."
                self.add(table, index, "supervise", text)
