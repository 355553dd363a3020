"""Dial policy: which public numbers an account may have dialled, as plain values."""

from dataclasses import dataclass
from functools import cached_property

from app.numbers import Kind

# The types that a policy may allow, with the words for them.
REVENUE_SHARE = "revenue_share"
TYPES = {
    Kind.PREMIUM_RATE.value: "a premium-rate number",
    Kind.SHARED_COST.value: "a shared-cost number",
    Kind.SATELLITE.value: "a satellite number",
    Kind.INTERNATIONAL.value: "a number of an international network",
    REVENUE_SHARE: "a number of a range known for revenue-share fraud",
}


@dataclass(frozen=True)
class Policy:
    """The rules of ``[[policies]]`` in the accounts. Prefixes have E.164 form: ``+4420``."""

    name: str
    # ISO 3166 codes of the countries whose numbers may be dialled; none for all.
    countries: tuple[str, ...] = ()
    # Prefixes. The longest match of both decides, before the countries do.
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    # What is barred by default and allowed here.
    types: tuple[str, ...] = ()
    emergency: bool = False
    # A policy that is not enforced reports what it would bar, and lets it pass.
    enforce: bool = True
    calls_to_number_per_hour: int | None = None
    new_countries_per_day: int | None = None

    @cached_property
    def allowed(self) -> frozenset[str]:
        return frozenset(self.allow)

    @cached_property
    def denied(self) -> frozenset[str]:
        return frozenset(self.deny)


@dataclass(frozen=True, slots=True)
class Barred:
    """The rule that bars a number: a policy's name, None for a built-in rule, and its entry."""

    entry: str
    reason: str
    policy: str | None = None

    @property
    def rule(self) -> str:
        return f"{self.policy or 'built-in'}: {self.entry}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policies say of a number: the rule that bars it, and what policies that are not
    enforced would bar."""

    barred: Barred | None = None
    reported: tuple[Barred, ...] = ()
