"""Accounts as plain values, with their look-ups."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.accounts import scopes
from app.accounts.credentials import Credential, is_between
from app.accounts.credentials import token_sha256 as token_sha256
from app.accounts.policy import Policy
from app.accounts.prompts import AcceptRule, AnnounceRule, Prompt, of_organization
from app.accounts.scopes import AppScope
from app.calls.homes import Wish
from app.calls.sight import organization_of
from app.numbers import NumberFormat, is_digits, longest_prefix

# The progress_timeout of a gateway that has none, in seconds.
PROGRESS_TIMEOUT = 5


class ExtensionType(StrEnum):
    PHONE_TERMINAL = "phone_terminal"
    CALLBACK = "callback"
    CONFERENCE = "conference"
    QUEUE = "queue"
    IVR = "ivr"

    @property
    def rings(self) -> bool:
        """Whether the extension can be called; a callback extension only pays for calls."""
        return self is not ExtensionType.CALLBACK


class Level(StrEnum):
    """The account that an app is registered to."""

    USER = "user"
    ORGANIZATION = "organization"
    ADMINISTRATOR = "administrator"


class Compatibility(StrEnum):
    DEFAULT = "default"
    VOIPNOW = "voipnow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capped:
    """What an organization, a user and an app may take; None for no limit. Calls beyond
    ``max_calls`` wait, the others refuse."""

    max_calls: int | None = None
    # Legs at a time, those of waiting calls included.
    max_legs: int | None = None
    calls_per_minute: int | None = None
    # Of a day in UTC.
    calls_per_day: int | None = None
    minutes_per_day: int | None = None
    # A decimal number, in the currency of the rates.
    cost_per_day: str | None = None
    # Calls that wait at a time.
    max_waiting: int | None = None


# Without slots of its own, so that it may stand beside another base that has some.
@dataclass(frozen=True, kw_only=True)
class Homed:
    """Where calls of an organization, to an extension or through a gateway are dialled."""

    # The name of a switch.
    switch: str | None = None
    # Or what the switch must have.
    tags: tuple[str, ...] = ()
    # Whether another switch takes the calls that these cannot take.
    elsewhere: bool = False

    @property
    def wish(self) -> Wish:
        return Wish((self.switch,) if self.switch else (), self.tags, self.elsewhere)


@dataclass(frozen=True, slots=True)
class Organization(Capped, Homed):
    id: str
    # The part of an extended extension number before its ``*``.
    number: str
    name: str
    extension_digits: int = 3
    # The limit of its calls; None for no limit.
    legs_per_second: float | None = None
    max_waiting: int | None = field(default=10_000, kw_only=True)
    # Calls that Redis keeps, live or ended.
    max_kept: int | None = field(default=100_000, kw_only=True)
    # ISO 3166. With it public numbers have E.164 form; without it they stay as they are.
    country: str | None = None
    # What a source hears while the destination is dialled (app.accounts.ringback).
    ringback: str | None = None
    # The name of its dial policy.
    policy: str | None = None
    # The numbers that it may show as caller id, also as +1555012* and *; None for those of its
    # extensions.
    caller_ids: tuple[str, ...] | None = None
    # Which parties of its calls accept by a key and hear an announcement, unless a call says it.
    accept: AcceptRule | None = None
    announce: AnnounceRule | None = None


@dataclass(frozen=True, slots=True)
class User(Capped):
    id: str
    # The number of the user's organization.
    organization: str
    name: str = ""
    policy: str | None = None
    caller_ids: tuple[str, ...] | None = None
    # Patterns of the charged extensions whose calls all apps of the user supervise
    # (app.accounts.rights): ``0003*2*``.
    supervise: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extension(Homed):
    # The extended number: ``0003*210``.
    number: str
    type: ExtensionType
    # The id of the user that owns it.
    owner: str
    # The dial string by which the switch reaches the extension: ``user/210@example.com``.
    dial_string: str | None = None
    # ``Name <number>``, shown if a request brings no caller id. None shows the number.
    caller_id: str | None = None
    # Whether a request may bring its own caller id.
    may_set_caller_id: bool = True
    # Whether StartRecording is allowed.
    may_record: bool = True
    # The mailbox for TransferToVoicemail: ``box@domain``.
    voicemail: str | None = None
    policy: str | None = None
    caller_ids: tuple[str, ...] | None = None

    @property
    def organization(self) -> str:
        return organization_of(self.number)

    @property
    def default_caller_id(self) -> str:
        """The caller id that is shown if a request brings none."""
        return self.caller_id or f"<{self.number}>"


@dataclass(frozen=True, slots=True)
class Conference:
    """A scheduled conference of a conference extension."""

    extension: str
    number: str
    pin: str | None = None


@dataclass(frozen=True, slots=True)
class App(Capped):
    id: str
    level: Level
    # SHA-256 of its permanent bearer token, in hex. None for an app that requests tokens instead.
    token_sha256: str | None = None
    user: str | None = None
    organization: str | None = None
    compatibility: Compatibility = Compatibility.DEFAULT
    # The credentials with which the app requests tokens, the secret as SHA-256 in hex.
    client_id: str = ""
    client_secret_sha256: str | None = None
    # The key that signs the messages of its call events, in the form of Standard Webhooks: whsec_
    # and base64.
    webhook_secret: str | None = field(default=None, repr=False)
    policy: str | None = None
    caller_ids: tuple[str, ...] | None = None
    # As a user's, for this app alone.
    supervise: tuple[str, ...] = ()
    # None for those of its level.
    scopes: tuple[AppScope, ...] | None = None
    # More tokens and client secrets, each with its dates.
    tokens: tuple[Credential, ...] = ()
    client_secrets: tuple[Credential, ...] = ()
    # When the app ends, in epoch seconds.
    expires: float | None = None
    # Whether a request may have a token in its query. None for the default of the compatibility.
    token_in_query: bool | None = None

    @property
    def account(self) -> str:
        """The level, and the user or organization that the app acts for: ``user 12``."""
        return " ".join(filter(None, (self.level, self.user or self.organization)))

    @property
    def all_tokens(self) -> tuple[Credential, ...]:
        return (*_credential(self.token_sha256), *self.tokens)

    @property
    def all_client_secrets(self) -> tuple[Credential, ...]:
        return (*_credential(self.client_secret_sha256), *self.client_secrets)

    @property
    def granted(self) -> tuple[AppScope, ...]:
        if self.scopes is not None:
            return self.scopes
        return scopes.ALL if self.level is Level.ADMINISTRATOR else scopes.DEFAULT

    @property
    def takes_token_in_query(self) -> bool:
        if self.token_in_query is not None:
            return self.token_in_query
        return self.compatibility is Compatibility.VOIPNOW

    def counts(self, now: Callable[[], float] = time.time) -> bool:
        """Whether the app has not ended yet."""
        return is_between(None, self.expires, now)


def _credential(sha256: str | None) -> tuple[Credential, ...]:
    return () if sha256 is None else (Credential(sha256),)


@dataclass(frozen=True, slots=True)
class Route:
    """A route: public numbers that begin with the digits of ``prefix`` go through these gateways,
    tried in order."""

    prefix: str
    gateways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gateway(Homed):
    """A gateway of the switches, with its limits."""

    name: str
    legs_per_second: float | None = None
    max_legs: int | None = None
    # The form in which it takes public numbers; None for E.164 where the organization has a
    # country, and for the number as sent where it has none.
    number_format: NumberFormat | None = None
    ringback: str | None = None
    # Seconds without any 18x after which the next gateway is tried; 0 for all the time there is.
    progress_timeout: int = PROGRESS_TIMEOUT
    # Seconds without RTP after which its legs are dead, 0 for never; None for the setting's.
    media_timeout: int | None = None


@dataclass(frozen=True, slots=True)
class PriceOf:
    """The price of public numbers that begin with the digits of ``prefix``. The amounts are
    decimal numbers."""

    prefix: str
    per_minute: str
    per_call: str = "0"
    # The seconds that the answered time is rounded up to.
    increment: int = 1
    currency: str = ""

    @property
    def rate(self) -> str:
        """The rate as a leg keeps it."""
        return f"{self.per_minute} {self.per_call} {self.increment} {self.currency}"


@dataclass(frozen=True, slots=True)
class Suspension:
    """The suspension of an organization or an app: by whom, when (epoch seconds), and why."""

    by: str
    at: float
    why: str = ""


@dataclass(frozen=True)
class Accounts:
    organizations: Mapping[str, Organization] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    apps: Mapping[str, App] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    rates: dict[str, PriceOf] = field(default_factory=dict)
    # The apps by the hash of their tokens, and the apps that may request tokens, by client id.
    tokens: Mapping[str, App] = field(default_factory=dict)
    clients: Mapping[str, App] = field(default_factory=dict)
    # The conferences by extension and number.
    conferences: dict[tuple[str, str], Conference] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    prompts: dict[str, Prompt] = field(default_factory=dict)
    # The suspended organizations and the disabled apps: ``organization:0003``, ``app:back-end``.
    suspended: dict[str, Suspension] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        organizations: Iterable[Organization],
        users: Iterable[User],
        extensions: Iterable[Extension],
        apps: Collection[App],
        routes: Iterable[Route],
        gateways: Iterable[Gateway] = (),
        conferences: Iterable[Conference] = (),
        policies: Iterable[Policy] = (),
        rates: Iterable[PriceOf] = (),
        prompts: Iterable[Prompt] = (),
    ) -> "Accounts":
        return cls(
            {o.number: o for o in organizations},
            {u.id: u for u in users},
            {e.number: e for e in extensions},
            {a.id: a for a in apps},
            # The longest prefix comes first.
            tuple(sorted(routes, key=lambda route: len(route.prefix), reverse=True)),
            tuple(gateways),
            {r.prefix: r for r in rates},
            {token.sha256: a for a in apps for token in a.all_tokens},
            {a.client_id: a for a in apps if a.all_client_secrets},
            {(c.extension, c.number): c for c in conferences},
            {p.name: p for p in policies},
            {p.name: p for p in prompts},
        )

    def is_disabled(self, app: str) -> bool:
        return f"app:{app}" in self.suspended

    def is_suspended(self, organization: str) -> bool:
        """Whether the organization with this number is suspended."""
        return f"organization:{organization}" in self.suspended

    def barred(self, extension: str, app: str) -> str | None:
        """The reason why the app may do nothing that an extension pays for; None if it may."""
        if self.is_disabled(app):
            return f"The app {app} is disabled."
        number = organization_of(extension)
        return f"The organization {number} is suspended." if self.is_suspended(number) else None

    def app_of_token(self, token: str, now: Callable[[], float] = time.time) -> App | None:
        """The app of a permanent token, if both count now."""
        return self.app_of_sha256(token_sha256(token), now)

    def app_of_sha256(self, digest: str, now: Callable[[], float] = time.time) -> App | None:
        """The app of a permanent token with this hash, if both count now."""
        app = self.tokens.get(digest)
        if app is None or not app.counts(now):
            return None
        found = next(each for each in app.all_tokens if each.sha256 == digest)
        return app if found.counts(now) else None

    def organization_of(self, app: App) -> Organization | None:
        """The organization whose short numbers the app may use; None for an administrator's."""
        if app.level is Level.USER:
            return self.organizations[self.users[app.user or ""].organization]
        return self.organizations[app.organization or ""] if app.organization else None

    def extensions_in(self, organization: str | None) -> Iterator[Extension]:
        """The extensions of the organization with this number; all for None."""
        # Of 100,000 extensions only the organization's are read.
        own = "" if organization is None else f"{organization}*"
        for number in [n for n in self.extensions if n.startswith(own)]:
            if (extension := self.extensions.get(number)) is not None:
                yield extension

    def gateways_to(self, number: str) -> tuple[str, ...]:
        """The gateways of the longest prefix that matches without ``+``; empty if none does."""
        digits = number.lstrip("+")
        for route in self.routes:
            if digits.startswith(route.prefix):
                return route.gateways
        return ()

    def prompts_of(self, organization: str) -> dict[str, Prompt]:
        """The prompts that calls of the organization with this number may have, by name."""
        return of_organization(self.prompts, organization)

    def gateway(self, name: str) -> Gateway:
        """The gateway of that name, with the defaults if the accounts have no row of it."""
        return next((each for each in self.gateways if each.name == name), Gateway(name))

    def number_format(self, gateway: str, country: str | None) -> NumberFormat:
        """The form in which a gateway takes the public numbers of an organization's country."""
        found = self.gateway(gateway).number_format
        return found or (NumberFormat.E164 if country else NumberFormat.AS_SENT)

    def rate_to(self, number: str) -> str | None:
        """The rate of the longest prefix of a public number, as a leg keeps it; None if no rate
        has one."""
        prefix = longest_prefix(number.lstrip("+"), self.rates)
        return None if prefix is None else self.rates[prefix].rate

    def is_sandbox(self, number: str) -> bool:
        """Whether the extended number is one of an organization's ten sandbox numbers: one digit
        shorter than its extensions, zeros before the last
        (docs/internals/uapi.md#sandbox-numbers)."""
        prefix, _, short = number.partition("*")
        organization = self.organizations.get(prefix)
        if organization is None or organization.extension_digits < 2:
            return False
        zeros = "0" * (organization.extension_digits - 2)
        return len(short) == len(zeros) + 1 and short.startswith(zeros) and is_digits(short)
