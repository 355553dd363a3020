"""Phone numbers: their one form, what a gateway could take them for, and their kinds."""

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from app.accounts.judging import judge
from app.accounts.policy import Policy
from app.number_plans import (
    COUNTRIES,
    canonical,
    dialled,
    readings,
)
from app.numbers import Kind, NumberFormat, same, without_punctuation


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("(530) 204-0000", "US", "+15302040000"),
        ("530.204.0000", "US", "+15302040000"),
        ("1 530 204 0000", "US", "+15302040000"),
        ("tel:+1-530-204-0000", "DE", "+15302040000"),
        ("TEL:+15302040000", "US", "+15302040000"),
        ("011 49 30 123456", "US", "+4930123456"),
        ("0049 30 123456", "DE", "+4930123456"),
        ("030/123456", "DE", "+4930123456"),
        ("+49 (0)30 123456", "US", "+4930123456"),
        ("02 1234 5678", "IT", "+390212345678"),
        ("+44\u00a020\u20117946\u20110958", "GB", "+442079460958"),
        ("911", "US", "911"),
        ("112", "DE", "112"),
        # Without a country only the punctuation goes.
        (" +49 15550-108 ", None, "+4915550108"),
        ("530.2040", None, "5302040"),
        ("0049(30)1", None, "0049301"),
    ],
)
def test_one_form(text: str, country: str | None, number: str) -> None:
    assert canonical(without_punctuation(text), country) == number


@pytest.mark.parametrize(
    ("number", "country", "reason"),
    [
        ("5302040", "US", "The area code is missing."),
        ("15516", "US", "The number is too short."),
        ("+1530204000000", "US", "The number is too long."),
        ("+99930123456", "US", "The country code is unknown."),
        ("030*123456", "DE", "A public number takes digits after an optional +."),
        ("+", "DE", "A public number takes digits after an optional +."),
        ("0114", "US", "The number is too short."),
        # Digits of another script.
        ("\u0665\u0663\u0660", "US", "A public number takes digits after an optional +."),
    ],
)
def test_what_is_no_number(number: str, country: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("+", r"\+")):
        canonical(number, country)


@pytest.mark.parametrize(
    ("number", "country", "form", "digits"),
    [
        ("+4930123456", "DE", NumberFormat.E164, "+4930123456"),
        ("+4930123456", "DE", NumberFormat.DIGITS, "4930123456"),
        ("+4930123456", "DE", NumberFormat.NATIONAL, "030123456"),
        ("+12015550123", "DE", NumberFormat.NATIONAL, "0012015550123"),
        ("+12015550123", "US", NumberFormat.NATIONAL, "2015550123"),
        ("+4930123456", "US", NumberFormat.NATIONAL, "0114930123456"),
        ("+4930123456", "DE", NumberFormat.AS_SENT, "030123456"),
        ("112", "DE", NumberFormat.NATIONAL, "112"),
        ("+4930123456", None, NumberFormat.DIGITS, "4930123456"),
        ("5302040", None, NumberFormat.NATIONAL, "5302040"),
    ],
)
def test_what_a_gateway_gets(
    number: str, country: str | None, form: NumberFormat, digits: str
) -> None:
    assert dialled(number, "030123456", form, country) == digits


def kinds(number: str, country: str | None = None) -> set[str]:
    return {each.kind.value for each in readings(number, country) if each.kind is not None}


@pytest.mark.parametrize("prefix", ["", "+", "00", "011", "+00"])
@pytest.mark.parametrize(
    ("digits", "kind"),
    [
        ("19005551234", "premium_rate"),
        # Fits no plan: too short, too long, an exchange that does not exist.
        ("190055512345678", "premium_rate"),
        ("19001234567", "premium_rate"),
        ("49900123456", "premium_rate"),
        ("34803123456", "premium_rate"),
        ("491805123456", "shared_cost"),
        ("80812345678", "shared_cost"),
        ("870773111632", "satellite"),
        ("8816123", "satellite"),
        ("878101234567890", "international"),
        ("88299", "international"),
        ("8835100", "international"),
        ("8881", "international"),
        ("979123456789", "international"),
    ],
)
def test_every_reading_has_its_kind(prefix: str, digits: str, kind: str) -> None:
    assert kind in kinds(prefix + digits)


@pytest.mark.parametrize("number", ["+1900555", "001900555", "+4490912", "01144909"])
def test_a_number_that_is_too_short_has_the_kind_of_its_first_digits(number: str) -> None:
    assert kinds(number) == {"premium_rate"}
    # As digits alone it is a number of another form.
    assert kinds(number.removeprefix("+").removeprefix("00").removeprefix("011")) == set()


@pytest.mark.parametrize(
    ("number", "country", "is_one"),
    [
        ("911", "US", True),
        ("112", "US", True),
        ("911", None, True),
        ("+911", None, True),
        ("999", None, True),
        ("999", "US", False),
        # Exactly these.
        ("9110", "US", False),
        ("9119", None, False),
        ("9112345", None, False),
        ("1120000", None, False),
        ("1911", None, False),
        ("00112", None, False),
        ("9911", None, False),
    ],
)
def test_emergency_numbers(number: str, country: str | None, is_one: bool) -> None:
    assert (Kind.EMERGENCY.value in kinds(number, country)) is is_one


@pytest.mark.parametrize(
    "number", ["5550109", "5354353", "5302040", "3235742879", "15500", "+4915550108", "0003210"]
)
def test_the_numbers_of_the_demo_are_ordinary(number: str) -> None:
    assert kinds(number) == set()
    assert judge(number, None, []).barred is None


_BARRED_TYPES = {PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST}
_ORDINARY_TYPES = (
    PhoneNumberType.FIXED_LINE,
    PhoneNumberType.MOBILE,
    PhoneNumberType.FIXED_LINE_OR_MOBILE,
    PhoneNumberType.TOLL_FREE,
)
_EXAMPLES = [
    (region, kind, number)
    for region in sorted(COUNTRIES)
    for kind in (*_BARRED_TYPES, *_ORDINARY_TYPES)
    if (number := phonenumbers.example_number_for_type(region, kind)) is not None
]


def test_the_example_numbers_of_all_regions_and_types() -> None:
    """Costly numbers are barred in each form that a client may send, ordinary ones in none."""
    wrong = []
    for region, kind, number in _EXAMPLES:
        international = phonenumbers.format_number(number, PhoneNumberFormat.E164)
        forms = [
            (international, region),
            *((canonical(without_punctuation(text), region), region) for text in _written(number)),
            *((prefix + international[1:], None) for prefix in ("+", "00", "011", "")),
        ]
        barred = [judge(form, country, []).barred is not None for form, country in forms]
        if set(barred) != {phonenumbers.number_type(number) in _BARRED_TYPES}:
            wrong.append((region, kind, international, barred))
    assert wrong == []


def _written(number: phonenumbers.PhoneNumber) -> list[str]:
    forms = (PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL, PhoneNumberFormat.RFC3966)
    return [phonenumbers.format_number(number, form) for form in forms]


@pytest.mark.parametrize("country", sorted(COUNTRIES))
def test_a_national_form_means_the_same_number_in_its_country(country: str) -> None:
    for region in ("DE", "US", "BR", country):
        example = phonenumbers.example_number(region)
        number = phonenumbers.format_number(example, PhoneNumberFormat.E164)
        sent = dialled(number, number, NumberFormat.NATIONAL, country)
        assert canonical(sent, country) == number


@given(st.text(st.sampled_from("+0123456789*# -()"), max_size=24), st.sampled_from(["US", None]))
def test_any_text_is_read_or_refused(text: str, country: str | None) -> None:
    try:
        number = canonical(without_punctuation(text), country)
    except ValueError as error:
        assert str(error)
        return
    assert all(reading.number for reading in readings(number, country))
    if country is not None:
        assert canonical(number, country) == number


@given(st.integers(0, 10**9), st.sampled_from(["+1900", "+870", "+88216", "+4470", "+41901"]))
def test_no_digits_after_a_barred_prefix_lift_the_bar(more: int, prefix: str) -> None:
    number = f"{prefix}{more}"
    policies = [Policy("any", countries=tuple(sorted(COUNTRIES)), allow=(prefix, number[:14]))]
    assert judge(number, None, []).barred is not None
    assert judge(number, None, policies).barred is not None


@given(
    st.lists(st.tuples(st.sampled_from("0123456789"), st.text(" -.()[]/\u00a0\u2010")), min_size=1),
    st.sampled_from(["", "+", " ", "tel:", "tel:+", "TEL:+ "]),
)
def test_two_spellings_of_a_number_are_one(parts: list[tuple[str, str]], begins: str) -> None:
    # B11: a query that does not encode the + has a blank in its place.
    digits = "".join(digit for digit, _ in parts)
    spelt = begins + "".join(digit + between for digit, between in parts)
    assert same(without_punctuation(spelt)) == digits
