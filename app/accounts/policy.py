"""Dial policy: which public numbers an account may have dialled.

Some numbers are barred whatever the accounts say: emergency services, premium rate, shared cost,
satellite, international networks, and the ranges of ``revenue_share.toml``. Only ``types`` and
``emergency`` of a policy lift that. Everything here is a pure function of a number and policies.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from app.numbers import Kind, Reading, readings

# The types that a policy may allow, with the words for them.
REVENUE_SHARE = "revenue_share"
TYPES = {
    Kind.PREMIUM_RATE.value: "a premium-rate number",
    Kind.SHARED_COST.value: "a shared-cost number",
    Kind.SATELLITE.value: "a satellite number",
    Kind.INTERNATIONAL.value: "a number of an international network",
    REVENUE_SHARE: "a number of a range known for revenue-share fraud",
}
_WORDS = {**TYPES, Kind.EMERGENCY.value: "an emergency number"}


@dataclass(frozen=True, slots=True)
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


def judge(number: str, country: str | None, policies: Sequence[Policy]) -> Verdict:
    """Judge a public number by all policies that apply. ``country`` is the organization's, an ISO
    3166 code.

    The verdict bars a number if any reading of it is barred. A built-in rule is lifted if a policy
    that is enforced lifts it, and no other that is enforced does not.
    """
    found = readings(number, country)
    enforced = [policy for policy in policies if policy.enforce]
    barred = _built_in(found, enforced)
    for policy in enforced:
        barred = barred or _barred_by(policy, number, found)
    reported = tuple(
        rule
        for policy in policies
        if not policy.enforce and (rule := _barred_by(policy, number, found)) is not None
    )
    return Verdict(barred, reported)


def countries_of(number: str, country: str | None) -> frozenset[str]:
    """The countries (ISO 3166) that a number could belong to."""
    return frozenset(r.country for r in readings(number, country) if r.country is not None)


def _built_in(found: Iterable[Reading], enforced: Sequence[Policy]) -> Barred | None:
    for reading in found:
        for kind in _kinds(reading):
            lifted = [p.emergency if kind == Kind.EMERGENCY else kind in p.types for p in enforced]
            if not lifted or not all(lifted):
                # A policy is named if another lifts the rule.
                policy = enforced[lifted.index(False)].name if any(lifted) else None
                return Barred(kind, f"{reading.number} is {_WORDS[kind]}.", policy)
    return None


def _barred_by(policy: Policy, number: str, found: Iterable[Reading]) -> Barred | None:
    numbers = [each for each in found if each.number.startswith("+")]
    if not numbers and policy.countries and not any(Kind.EMERGENCY in r.kinds for r in found):
        return Barred("countries", f"{number} is no number of any country.", policy.name)
    for reading in numbers:
        allowed = max((len(p) for p in policy.allow if reading.number.startswith(p)), default=0)
        denied = max((p for p in policy.deny if reading.number.startswith(p)), key=len, default="")
        if denied and len(denied) >= allowed:
            reason = f"{reading.number} begins with {denied}."
            return Barred(f"deny {denied}", reason, policy.name)
        if allowed or not policy.countries or reading.country in policy.countries:
            continue
        where = reading.country or "no country"
        return Barred("countries", f"{reading.number} is a number of {where}.", policy.name)
    return None


def _kinds(reading: Reading) -> list[str]:
    kinds = sorted(kind.value for kind in reading.kinds)
    if any(reading.number.startswith(prefix) for prefix in REVENUE_SHARE_RANGES):
        kinds.append(REVENUE_SHARE)
    return kinds


def _revenue_share_ranges() -> tuple[str, ...]:
    text = files("app.accounts").joinpath("revenue_share.toml").read_text(encoding="utf-8")
    lists = tomllib.loads(text)["lists"]
    return tuple(row["prefix"] for each in lists for row in each["ranges"])


REVENUE_SHARE_RANGES = _revenue_share_ranges()
