"""What a source hears: the choices, and what a call keeps of them."""

import pytest

from app.accounts import ringback
from app.accounts.model import Accounts, Gateway, Organization
from app.accounts.prompts import Prompt
from app.calls.model import Leg, NumberKind, Role
from tests.app.conftest import Ask

SIMPLE = "/uapi/phoneCalls/@me/simple"


def leg(number: str, gateway: str | None = "pstn") -> Leg:
    kind = NumberKind.PUBLIC if gateway else NumberKind.EXTENSION
    return Leg("b1", Role.DESTINATION, number, kind, "uuid", gateway=gateway)


def organization(country: str | None = None, choice: str | None = None) -> Organization:
    return Organization("3", "0003", "Example", country=country, ringback=choice)


@pytest.mark.parametrize(
    ("text", "kept"), [("auto", "auto"), ("NETWORK", "network"), ("de", "DE"), ("Gb", "GB")]
)
def test_a_choice_has_one_form(text: str, kept: str) -> None:
    assert ringback.canonical(text) == kept


@pytest.mark.parametrize("text", ["", "/tmp/x.wav", "de,us", "%(1,1,1)", "a b", "x" * 65])
def test_what_is_no_choice_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ringback.canonical(text)


def test_a_name_is_that_of_a_prompt_with_a_file() -> None:
    prompts = {
        "jingle": Prompt("jingle", file="/sounds/jingle.wav"),
        "phrase": Prompt("phrase", file="phrase:hello"),
        "spoken": Prompt("spoken", text="Hello", voice="flite|slt"),
    }
    for choice in ("auto", "network", "music", "none", "DE", "jingle"):
        ringback.check(choice, prompts)
    for choice in ("phrase", "spoken", "aq", "germany"):
        with pytest.raises(ValueError, match="prompt"):
            ringback.check(choice, prompts)


@pytest.mark.parametrize(
    ("number", "country", "kept"),
    [
        ("+4930123456", "US", "DE"),
        ("+442079460958", "DE", "GB"),
        # FreeSWITCH has no tone of Austria, and no country has +882.
        ("+4312345678", "DE", "DE"),
        ("+88213000001", "FR", "FR"),
        # The tone of the US needs no field.
        ("+4312345678", "AT", None),
        ("+12015550123", "DE", None),
        # Without a country a gateway reads 0049 as +49.
        ("004930123456", None, "DE"),
    ],
)
def test_auto_is_the_tone_of_the_destination(
    number: str, country: str | None, kept: str | None
) -> None:
    assert ringback.heard(Accounts(), organization(country), None, leg(number)) == kept


def test_an_extension_has_the_tone_of_its_organization() -> None:
    assert ringback.heard(Accounts(), organization("DE"), None, leg("0003*211", None)) == "DE"


@pytest.mark.parametrize(
    ("of_view", "of_gateway", "of_organization", "kept"),
    [
        ("none", "music", "GB", "none"),
        (None, "music", "GB", "music"),
        (None, None, "GB", "GB"),
        ("auto", "music", "GB", "DE"),
        (None, "network", "none", "network DE"),
        ("US", None, "none", None),
        ("jingle", "network", "none", "file jingle"),
    ],
)
def test_the_nearest_choice_counts(
    of_view: str | None, of_gateway: str | None, of_organization: str | None, kept: str | None
) -> None:
    accounts = Accounts(gateways=(Gateway("pstn", ringback=of_gateway),))
    own = organization("FR", of_organization)
    assert ringback.heard(accounts, own, of_view, leg("+4930123456")) == kept


def test_a_view_chooses(ask: Ask) -> None:
    view = {"source": ["5354353"], "destination": ["3235742879"], "ringback": "aq"}
    answer = ask("POST", SIMPLE, {"extension": "210", "phoneCallView": [view]})
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "pc_ringback_invalid")
    assert "network" in answer.json["error"]["reason"]
