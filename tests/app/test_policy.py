"""What policies say of a number, without accounts."""

from collections.abc import Iterator

import pytest

from app.accounts.judging import REVENUE_SHARE_RANGES, judge
from app.accounts.policy import TYPES, Policy
from app.accounts.policy import Barred as Rule

BERLIN, LONDON, PARIS = "+4930123456", "+442079460958", "+33142685300"
PREMIUM, JAMAICA = "+19005551234", "+18765551234"


def entry(number: str, *policies: Policy, country: str | None = "US") -> str | None:
    barred = judge(number, country, policies).barred
    return barred and barred.entry


def test_countries() -> None:
    office = Policy("office", countries=("US", "DE"))
    assert entry(BERLIN, office) is None
    assert entry("+12015550123", office) is None
    assert entry(LONDON, office) == "countries"
    # One country code, another country, and also where no number of the area code is known.
    assert entry(JAMAICA, office) == "countries"
    assert entry("+18761111111", office) == "countries"
    assert judge(LONDON, "US", [office]).barred == Rule(
        "countries", f"{LONDON} is a number of GB.", "office"
    )


def test_the_longest_prefix_decides() -> None:
    policy = Policy(
        "p", countries=("DE",), allow=("+4420", "+3314268"), deny=("+442079", "+33", "+4930")
    )
    assert entry("+442012345678", policy) is None
    assert entry(LONDON, policy) == "deny +442079"
    assert entry(PARIS, policy) is None
    assert entry("+33242685300", policy) == "deny +33"
    assert entry(BERLIN, policy) == "deny +4930"
    # Of two equal ones, deny.
    assert entry(BERLIN, Policy("p", allow=("+4930",), deny=("+4930",))) == "deny +4930"


def test_many_prefixes_are_read_once() -> None:
    class Prefixes(tuple[str, ...]):
        read = 0

        def __iter__(self) -> Iterator[str]:
            Prefixes.read += 1
            return super().__iter__()

    policy = Policy("p", deny=Prefixes(f"+4930{n:04}" for n in range(10_000)))
    assert entry("+493012345678", policy) == "deny +49301234"
    assert entry(LONDON, policy) is None
    assert Prefixes.read == 1


@pytest.mark.parametrize("number", ["4930123456", "004930123456", "0114930123456"])
def test_each_reading_is_judged_without_a_country(number: str) -> None:
    assert entry(number, Policy("p", deny=("+4930",)), country=None) == "deny +4930"
    assert entry(number, Policy("p", countries=("DE",)), country=None) is None
    assert entry(number, Policy("p", countries=("GB",)), country=None) == "countries"
    assert entry("0301234", Policy("p", countries=("DE",)), country=None) == "countries"


NUMBERS = {
    "premium_rate": PREMIUM,
    "shared_cost": "+491805123456",
    "satellite": "+870773111632",
    "international": "+882161234567",
    "revenue_share": "+447012345678",
}


def test_only_types_lift_what_is_barred_by_default() -> None:
    assert set(NUMBERS) == set(TYPES)
    for kind, number in NUMBERS.items():
        everywhere = Policy("p", allow=(number,), countries=("US", "DE", "GB"), emergency=True)
        others = Policy("p", types=tuple(set(TYPES) - {kind}))
        for policies in ([], [everywhere], [others]):
            barred = judge(number, "US", policies).barred
            assert barred is not None and (barred.entry, barred.policy) == (kind, None)
        assert entry(number, Policy("p", types=(kind,))) is None
        # What is lifted still has to be allowed.
        assert entry(number, Policy("p", types=(kind,), deny=(number[:4],))) is not None


def test_all_policies_must_allow() -> None:
    lifts, plain = Policy("lifts", types=("premium_rate",)), Policy("plain")
    barred = judge(PREMIUM, "US", [lifts, plain]).barred
    assert barred is not None and barred.policy == "plain"
    assert entry(BERLIN, Policy("a", countries=("DE",)), Policy("b", countries=("US",)))


def test_emergency_numbers() -> None:
    assert entry("911") == "emergency"
    assert entry("911", Policy("p", countries=("DE",))) == "emergency"
    assert entry("911", Policy("p", emergency=True, countries=("DE",))) is None
    assert entry("911", Policy("p", emergency=True), country=None) is None
    # With a +, a gateway may drop it.
    assert entry("+911", Policy("p"), country=None) == "emergency"


def test_a_policy_that_is_not_enforced_reports() -> None:
    watching = Policy("watching", countries=("DE",), types=("premium_rate",), enforce=False)
    verdict = judge(LONDON, "US", [watching])
    assert verdict.barred is None
    assert [(rule.policy, rule.entry) for rule in verdict.reported] == [("watching", "countries")]
    # It lifts nothing, and hides no rule of another.
    assert entry(PREMIUM, watching) == "premium_rate"
    assert entry(LONDON, watching, Policy("p", deny=("+44",))) == "deny +44"


def test_revenue_share_ranges_are_no_whole_countries() -> None:
    assert len(REVENUE_SHARE_RANGES) > 20
    for prefix in REVENUE_SHARE_RANGES:
        barred = judge(prefix + "1234567", None, []).barred
        assert barred is not None, prefix
    for number in (BERLIN, LONDON, PARIS, "+393471234567", "+4915112345678", "+79161234567"):
        assert entry(number) is None
