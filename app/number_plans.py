"""Numbering plans: one form for each public number, what a gateway could take it for, and which
kind of number it is.

The numbering plans are those of libphonenumber (the package ``phonenumbers``). A number's length is
checked, not its allocation: plans change faster than packages.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
import regex
from phonenumbers import (
    NumberParseException,
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberFormat,
    PhoneNumberType,
    ValidationResult,
    shortnumberinfo,
)

from app.numbers import Kind, NumberFormat, is_digits

# The longest number that emergency services have.
_EMERGENCY_LENGTH = 6
_NUMBER_CACHE = 4096
# So many first digits of a number that fits no plan say nothing of its kind.
_TELLING = 2

COUNTRIES = frozenset(phonenumbers.SUPPORTED_REGIONS)


# Country codes of the ITU that belong to no country (E.164, annex to Operational Bulletin 1114):
# Inmarsat, personal numbers, mobile satellite systems, international networks (two codes),
# disaster relief, premium rate. The code alone decides, whatever follows it.
_CODES = {
    "870": Kind.SATELLITE,
    "878": Kind.INTERNATIONAL,
    "881": Kind.SATELLITE,
    "882": Kind.INTERNATIONAL,
    "883": Kind.INTERNATIONAL,
    "888": Kind.INTERNATIONAL,
    "979": Kind.INTERNATIONAL,
}
_COSTLY = {
    PhoneNumberType.PREMIUM_RATE: Kind.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST: Kind.SHARED_COST,
}
_REASONS = {
    ValidationResult.TOO_SHORT: "The number is too short.",
    ValidationResult.TOO_LONG: "The number is too long.",
    ValidationResult.INVALID_LENGTH: "No number of that country has this length.",
    ValidationResult.INVALID_COUNTRY_CODE: "The country code is unknown.",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "The area code is missing.",
}
_PARSE_REASONS = {
    NumberParseException.INVALID_COUNTRY_CODE: "The country code is unknown.",
    NumberParseException.TOO_SHORT_AFTER_IDD: "The number is too short.",
    NumberParseException.TOO_SHORT_NSN: "The number is too short.",
    NumberParseException.TOO_LONG: "The number is too long.",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that a gateway could take the dialled digits for.

    ``number`` has E.164 form, or is the short number of an emergency service. ``country`` is an ISO
    3166 code, None if no country has the number.
    """

    number: str
    kind: Kind | None = None
    country: str | None = None


@lru_cache(_NUMBER_CACHE)
def canonical(number: str, country: str | None) -> str:
    """The one form of a public number, which is compared, stored, shown and dialled.

    ``number`` has no punctuation. With a country (ISO 3166) the form is E.164, or the digits of an
    emergency number of that country. Without one the number stays as it is.
    Raises ValueError with a sentence that says why the text is no phone number.
    """
    if country is None or is_emergency(number, country):
        return number
    if re.fullmatch(r"\+?[0-9]+", number, re.ASCII) is None:
        raise ValueError("A public number takes digits after an optional +.")
    try:
        parsed = phonenumbers.parse(number, country)
    except NumberParseException as error:
        reason = _PARSE_REASONS.get(error.error_type, "The number cannot be read.")
        raise ValueError(reason) from error
    found = phonenumbers.is_possible_number_with_reason(parsed)
    if found != ValidationResult.IS_POSSIBLE:
        raise ValueError(_REASONS.get(found, "The number cannot be read."))
    return str(phonenumbers.format_number(parsed, PhoneNumberFormat.E164))


def load() -> None:
    """Load the plans that every number needs, so that the first call does not wait for them."""
    is_emergency("000000", None)
    _reading("+12015550123", whole=False)


def dialled(number: str, sent: str, form: NumberFormat, country: str | None) -> str:
    """The digits that a gateway gets for a public number, which the client wrote as ``sent``."""
    if form is NumberFormat.AS_SENT:
        return sent
    if form is NumberFormat.DIGITS:
        return number.removeprefix("+")
    if form is NumberFormat.NATIONAL and country is not None and number.startswith("+"):
        parsed = phonenumbers.parse(number)
        if parsed.country_code == phonenumbers.country_code_for_region(country):
            text = phonenumbers.format_number(parsed, PhoneNumberFormat.NATIONAL)
        else:
            text = phonenumbers.format_out_of_country_calling_number(parsed, country)
        digits = str(phonenumbers.normalize_digits_only(text))
        # Some countries have no one prefix of international numbers. The digits alone would be
        # another number there.
        return digits if _means(digits, number, country) else number
    return number


def _means(digits: str, number: str, country: str) -> bool:
    try:
        return canonical(digits, country) == number
    except ValueError:
        return False


@lru_cache(_NUMBER_CACHE)
def readings(number: str, country: str | None) -> tuple[Reading, ...]:
    """What a gateway could take a number for.

    A gateway may read digits as E.164 without its ``+``, and ``00`` and ``011`` as prefixes of an
    international number.
    """
    digits = number.removeprefix("+")
    found = []
    if is_emergency(digits, country):
        found.append(Reading(digits, Kind.EMERGENCY))
        if country is not None:
            return tuple(found)
    ways = [digits]
    if country is None or not number.startswith("+"):
        ways += [digits.removeprefix(prefix) for prefix in ("00", "011")]
    for way in dict.fromkeys(ways):
        if way and way[0] != "0" and is_digits(way):
            found.append(_reading(f"+{way}", whole=way == number))
    return tuple(found)


def international(number: str, country: str | None) -> str:
    """The E.164 form of what a gateway takes a number for; the number itself if it has none.

    Counts and prices go by it: the same phone written with ``+``, ``00`` or ``011`` is one phone.
    """
    found = [each.number for each in readings(number, country) if each.number.startswith("+")]
    return found[-1] if found else number


def country_of(number: str, country: str | None) -> str | None:
    """The country (ISO 3166) that a public number leads to, as far as it can be told."""
    found = [each.country for each in readings(number, country) if each.country is not None]
    return found[-1] if found else None


@lru_cache(_NUMBER_CACHE)
def is_emergency(number: str, country: str | None) -> bool:
    """Whether emergency services of the country (ISO 3166), or of any if it is None, have just this
    number."""
    if not is_digits(number) or len(number) > _EMERGENCY_LENGTH:
        return False
    countries = [country] if country else phonenumbers.SUPPORTED_SHORT_REGIONS
    return any(shortnumberinfo.is_emergency_number(number, each) for each in countries)


def _reading(number: str, *, whole: bool) -> Reading:
    """The reading of a text in E.164 form, also where it is too short or too long.

    ``whole`` says that the text came as digits alone. Digits that are too short for their country
    code are a number of another form then, such as a local one.
    """
    if (of_itu := _CODES.get(number[1:4])) is not None:
        return Reading(number, of_itu)
    code, rest = _country_code(number)
    if code is None:
        return Reading(number)
    parsed = PhoneNumber(country_code=code, national_number=int(rest or 0))
    parsed.italian_leading_zero = rest.startswith("0")
    if parsed.italian_leading_zero:
        zeros = len(rest) - len(rest.lstrip("0"))
        parsed.number_of_leading_zeros = min(zeros, max(len(rest) - 1, 1))
    country = phonenumbers.region_code_for_number(parsed) or _region(code, rest)
    number_type = phonenumbers.number_type(parsed)
    kind = _COSTLY.get(number_type)
    length = phonenumbers.is_possible_number_with_reason(parsed)
    short = (ValidationResult.TOO_SHORT, ValidationResult.IS_POSSIBLE_LOCAL_ONLY)
    if number_type == PhoneNumberType.UNKNOWN and not (whole and length in short):
        kind = _costly_prefix(country, code, rest)
    return Reading(number, kind, country if country in COUNTRIES else None)


def _country_code(number: str) -> tuple[int | None, str]:
    for length in (1, 2, 3):
        code = int(number[1 : 1 + length] or 0)
        if code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            return code, number[1 + length :]
    return None, ""


def _region(code: int, rest: str) -> str:
    """The country that a number of no known allocation counts to: that of its area code, or else
    the main one of its country code."""
    main, *others = phonenumbers.region_codes_for_country_code(code)
    for region in others:
        begins = _metadata(region, code).leading_digits
        if begins and re.match(begins, rest):
            return str(region)
    return str(main)


def _metadata(region: str, code: int) -> PhoneMetadata:
    found = (
        PhoneMetadata.metadata_for_region(region)
        if region in COUNTRIES
        else PhoneMetadata.metadata_for_nongeo_region(code)
    )
    assert found is not None, "each country code has a plan"
    return found


def _costly_prefix(region: str, code: int, rest: str) -> Kind | None:
    """The kind of a number that fits no plan, by the plan that more of its first digits fit than
    that of any other kind."""
    of, found = _metadata(region, code), dict[Kind | None, int]()
    for kind, plan in (
        (Kind.PREMIUM_RATE, of.premium_rate),
        (Kind.SHARED_COST, of.shared_cost),
        *((None, plan) for plan in (of.fixed_line, of.mobile, of.toll_free, of.voip, of.uan)),
    ):
        if plan is not None and plan.national_number_pattern:
            fits = _fitting(plan.national_number_pattern, rest)
            found[kind] = max(found.get(kind, 0), fits)
    ordinary = found.pop(None, 0)
    costly = max(found, key=lambda kind: found[kind], default=None)
    return costly if costly and found[costly] > max(ordinary, _TELLING) else None


def _fitting(pattern: str, digits: str) -> int:
    """How many first digits some number of the pattern begins with."""
    plan = regex.compile(pattern)
    for length in range(len(digits), 0, -1):
        if plan.fullmatch(digits, endpos=length, partial=True):
            return length
    return 0
