"""What a source hears while the destination is dialled: the choices of gateways, organizations and
views, and what a call keeps of them.

The tones are those of FreeSWITCH's vanilla configuration (conf/vanilla/vars.xml), by ISO 3166 code:
``%(on,off,frequency,frequency)`` in milliseconds and Hz.
"""

import re
from collections.abc import Mapping

from app import number_plans
from app.accounts.model import Accounts, Organization
from app.accounts.prompts import Prompt
from app.calls.model import Leg, NumberKind

TONES = {
    "AU": "%(400,200,383,417);%(400,2000,383,417)",
    "BE": "%(1000,3000,425)",
    "CA": "%(2000,4000,440,480)",
    "CN": "%(1000,4000,450)",
    "CY": "%(1500,3000,425)",
    "CZ": "%(1000,4000,425)",
    "DE": "%(1000,4000,425)",
    "DK": "%(1000,4000,425)",
    "DZ": "%(1500,3500,425)",
    "EG": "%(2000,1000,475,375)",
    "ES": "%(1500,3000,425)",
    "FI": "%(1000,4000,425)",
    "FR": "%(1500,3500,440)",
    "GB": "%(400,200,400,450);%(400,2000,400,450)",
    "HK": "%(400,200,440,480);%(400,3000,440,480)",
    "HU": "%(1250,3750,425)",
    "IL": "%(1000,3000,400)",
    "IN": "%(400,200,425,375);%(400,2000,425,375)",
    "JP": "%(1000,2000,420,380)",
    "KR": "%(1000,2000,440,480)",
    "PK": "%(1000,2000,400)",
    "PL": "%(1000,4000,425)",
    "RO": "%(1850,4150,475,425)",
    "RS": "%(1000,4000,425)",
    "RU": "%(800,3200,425)",
    "SA": "%(1200,4600,425)",
    "TR": "%(2000,4000,450)",
    "US": "%(2000,4000,440,480)",
}

AUTO, NETWORK, MUSIC, NONE = WORDS = ("auto", "network", "music", "none")
# The country of the tone where no country is known.
DEFAULT = "US"
FILE = "file"
_TAKES = (
    f"Takes {', '.join(WORDS)}, the name of a prompt with the path of a file, or the tone of a "
    f"country: {', '.join(sorted(TONES)).lower()}."
)


def canonical(text: str) -> str:
    """A choice as it is compared: one of WORDS, the ISO 3166 code of a country that has a tone in
    capitals, or what may be a prompt's name. Raises ValueError."""
    if (word := text.lower()) in WORDS:
        return word
    if (country := text.upper()) in TONES:
        return country
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text, re.ASCII):
        return text
    raise ValueError(_TAKES)


def check(choice: str, prompts: Mapping[str, Prompt]) -> None:
    """Raise ValueError if a choice in its canonical form is a name, and no prompt of that name is a
    file on the switch."""
    if choice not in WORDS and choice not in TONES:
        prompt = prompts.get(choice)
        if prompt is None or prompt.file is None or not prompt.file.startswith("/"):
            raise ValueError(_TAKES)


def heard(
    accounts: Accounts, organization: Organization, chosen: str | None, destination: Leg
) -> str | None:
    """What the source of a call hears, as the call keeps it: ``DE``, ``network DE``,
    ``music``, ``none`` or ``file NAME``. None for the tone of the US.

    ``chosen`` is the choice of the view. Without one the gateway's counts, then the
    organization's.
    """
    of_gateway = accounts.gateway(destination.gateway or "").ringback
    choice = chosen or of_gateway or organization.ringback or AUTO
    if choice in (MUSIC, NONE):
        return choice
    if choice in TONES:
        return None if choice == DEFAULT else choice
    if choice not in (AUTO, NETWORK):
        return f"{FILE} {choice}"
    country = _country(organization, destination)
    if choice == NETWORK:
        return f"{NETWORK} {country}"
    return None if country == DEFAULT else country


def _country(organization: Organization, destination: Leg) -> str:
    """The country of the tone: the destination's, or where FreeSWITCH has no tone of it or it is
    not known, the organization's."""
    found = None
    if destination.kind is NumberKind.PUBLIC:
        found = number_plans.country_of(destination.number, organization.country)
    known = (each for each in (found, organization.country) if each in TONES)
    return next(known, None) or DEFAULT
