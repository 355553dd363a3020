"""Accounts as plain values, and what may be looked up in them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class ExtensionType(StrEnum):
    PHONE_TERMINAL = "phone_terminal"
    CALLBACK = "callback"
    CONFERENCE = "conference"
    QUEUE = "queue"
    IVR = "ivr"

    @property
    def rings(self) -> bool:
        """Whether it can be called; a callback extension only pays for calls."""
        return self is not ExtensionType.CALLBACK


class Level(StrEnum):
    """The account that an app is registered to."""

    USER = "user"
    ORGANIZATION = "organization"
    ADMINISTRATOR = "administrator"


class Compatibility(StrEnum):
    DEFAULT = "default"
    VOIPNOW = "voipnow"


@dataclass(frozen=True, slots=True)
class Organization:
    id: str
    # The part of an extended extension number before its ``*``.
    number: str
    name: str
    extension_digits: int = 3
    # What its calls may take; None for no limit.
    legs_per_second: float | None = None
    max_calls: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    id: str
    # The number of the user's organization.
    organization: str
    name: str = ""
    max_calls: int | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    # The extended number: ``0003*210``.
    number: str
    type: ExtensionType
    # The id of the user it belongs to.
    owner: str
    # How the switch reaches it: ``user/210@example.com``.
    dial_string: str | None = None
    # ``Name <number>``, shown where a request brings no caller id; its number otherwise.
    caller_id: str | None = None
    # Whether a request may bring a caller id of its own.
    may_set_caller_id: bool = True

    @property
    def organization(self) -> str:
        return self.number.partition("*")[0]


@dataclass(frozen=True, slots=True)
class App:
    id: str
    level: Level
    # SHA-256 of the bearer token, in hex.
    token_sha256: str
    user: str | None = None
    organization: str | None = None
    compatibility: Compatibility = Compatibility.DEFAULT


@dataclass(frozen=True, slots=True)
class Route:
    """Public numbers that begin with the digits of ``prefix`` go through these gateways, tried
    in order."""

    prefix: str
    gateways: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a gateway of the switches may be given."""

    name: str
    legs_per_second: float | None = None
    max_legs: int | None = None


@dataclass(frozen=True)
class Accounts:
    organizations: dict[str, Organization] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    extensions: dict[str, Extension] = field(default_factory=dict)
    # By the hash of their tokens.
    apps: dict[str, App] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    gateways: tuple[Gateway, ...] = ()

    @classmethod
    def of(
        cls,
        organizations: Iterable[Organization],
        users: Iterable[User],
        extensions: Iterable[Extension],
        apps: Iterable[App],
        routes: Iterable[Route],
        gateways: Iterable[Gateway] = (),
    ) -> "Accounts":
        return cls(
            {o.number: o for o in organizations},
            {u.id: u for u in users},
            {e.number: e for e in extensions},
            {a.token_sha256: a for a in apps},
            # The longest prefix comes first.
            tuple(sorted(routes, key=lambda route: len(route.prefix), reverse=True)),
            tuple(gateways),
        )

    def app_of_token(self, token: str) -> App | None:
        return self.apps.get(token_sha256(token))

    def organization_of(self, app: App) -> Organization | None:
        """The organization whose short numbers the app may use; None for an administrator's."""
        if app.level is Level.USER:
            return self.organizations[self.users[app.user or ""].organization]
        return self.organizations[app.organization or ""] if app.organization else None

    def extensions_of(self, user: User) -> list[Extension]:
        return [e for e in self.extensions.values() if e.owner == user.id]

    def gateways_to(self, number: str) -> tuple[str, ...]:
        """The gateways of the longest matching prefix, ``+`` aside; none where nothing matches."""
        digits = number.lstrip("+")
        for route in self.routes:
            if digits.startswith(route.prefix):
                return route.gateways
        return ()

    def is_sandbox(self, number: str) -> bool:
        """Whether the extended number is one of an organization's ten sandbox numbers: one digit
        shorter than its extensions, zeros before the last (uapi/spec 2.6)."""
        prefix, _, short = number.partition("*")
        organization = self.organizations.get(prefix)
        if organization is None or organization.extension_digits < 2:
            return False
        zeros = "0" * (organization.extension_digits - 2)
        return len(short) == len(zeros) + 1 and short.startswith(zeros) and short.isdecimal()


def token_sha256(token: str) -> str:
    """What is kept of a token. Tokens are long and random, so that a plain hash will do."""
    return hashlib.sha256(token.encode()).hexdigest()
