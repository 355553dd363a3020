"""Judging numbers by dial policies. Everything here is a pure function of a number and policies.

Some numbers are barred whatever the accounts say: emergency services, premium rate, shared cost,
satellite, international networks, and the ranges of ``revenue_share.toml``. Only ``types`` and
``emergency`` of a policy lift that.
"""

import tomllib
from collections.abc import Iterable, Sequence
from importlib.resources import files

from app.accounts.policy import REVENUE_SHARE, TYPES, Barred, Policy, Verdict
from app.number_plans import Reading, readings
from app.numbers import Kind, longest_prefix

_WORDS = {**TYPES, Kind.EMERGENCY.value: "an emergency number"}


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
    if not numbers and policy.countries and not any(r.kind is Kind.EMERGENCY for r in found):
        return Barred("countries", f"{number} is no number of any country.", policy.name)
    for reading in numbers:
        allowed, denied = (
            longest_prefix(reading.number, prefixes) or ""
            for prefixes in (policy.allowed, policy.denied)
        )
        if denied and len(denied) >= len(allowed):
            reason = f"{reading.number} begins with {denied}."
            return Barred(f"deny {denied}", reason, policy.name)
        if allowed or not policy.countries or reading.country in policy.countries:
            continue
        where = reading.country or "no country"
        return Barred("countries", f"{reading.number} is a number of {where}.", policy.name)
    return None


def _kinds(reading: Reading) -> list[str]:
    kinds = [reading.kind.value] if reading.kind is not None else []
    if reading.number.startswith(REVENUE_SHARE_RANGES):
        kinds.append(REVENUE_SHARE)
    return kinds


def _revenue_share_ranges() -> tuple[str, ...]:
    text = files("app.accounts").joinpath("revenue_share.toml").read_text(encoding="utf-8")
    lists = tomllib.loads(text)["lists"]
    return tuple(row["prefix"] for each in lists for row in each["ranges"])


REVENUE_SHARE_RANGES = _revenue_share_ranges()
