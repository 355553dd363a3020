"""What the API lets be dialled and shown, over HTTP. Nothing that it refuses is written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.accounts.guard import Guard
from app.accounts.model import Accounts, Extension, ExtensionType, Organization
from app.calls.model import State
from app.settings import Settings
from app.store.calls import CallStore
from app.telemetry import counting, registry
from tests.app.test_phone_calls import CALLBACK, LIST, OTHER, SIMPLE, is_error, written

Client = Callable[..., FlaskClient]
CONFERENCE = "/uapi/phoneCalls/@me/conferenceInvite"
PREMIUM, LONDON = "+19005551234", "+442079460958"


@pytest.fixture
def serve(settings: Settings, accounts_file: Path) -> Callable[[str], FlaskClient]:
    """The API with the accounts of a text."""

    def _serve(text: str) -> FlaskClient:
        # What another test has imported before would count as an older file.
        accounts_file.write_text(f"{text}\n# {uuid4()}\n")
        return create_app(replace(settings, accounts=accounts_file)).test_client()

    return _serve


def accounts(*, more: str = "", **lines: str) -> str:
    """The accounts with further lines at the organization, its user, the extension 0003*210 or the
    app of the user."""
    text = OTHER.replace('caller_ids = ["*"]', "")
    for place, begins in (
        ("organization", 'name = "Default Organization"'),
        ("user", 'name = "Demo User"'),
        ("extension", 'caller_id = "Demo Desk <0003210>"'),
        ("app", 'token = "another-of-user-token"'),
        ("voipnow", 'token = "another-of-voipnow-token"'),
    ):
        assert begins in text
        text = text.replace(begins, f"{begins}\n{lines.get(place, '')}", 1)
    return text + more


US = 'country = "US"'


def post(
    client: FlaskClient, path: str = SIMPLE, *, token: str = "another-of-user-token", **view: Any
) -> Any:
    view = {"source": "210", "destination": LONDON, **view}
    extension = {CALLBACK: "212", CONFERENCE: "003"}.get(path, "210")
    nonce = {"nonce": view.pop("nonce")} if "nonce" in view else {}
    request = {"extension": extension, "phoneCallView": [view], **nonce}
    return client.post(path, json=request, headers={"Authorization": f"Bearer {token}"})


def legs(store: CallStore, answer: Any) -> list[tuple[str, str | None]]:
    assert answer.status_code == 202, answer.json
    call = store.get(answer.json[0]["id"])
    assert call is not None
    return [(leg.number, leg.dialled) for leg in call.legs if leg.gateway]


def barred(answer: Any, rule: str, side: str = "destination", policy: str = "built-in") -> None:
    is_error(answer, 403, f"pc_{side}_barred")
    error = answer.json["error"]
    assert (error["policy"], error["rule"]) == (policy, rule)
    assert error["field"].startswith(f"/phoneCallView/0/{side}")
    assert error["reason"]


# Numbers


def test_public_numbers_have_one_form(serve: Any, store: CallStore) -> None:
    client = serve(accounts(organization=US))
    written_so = ["+44 20 7946 0958", "tel:+442079460958", "011 44 (0)20 7946 0958"]
    for number in written_so:
        assert legs(store, post(client, destination=number)) == [(LONDON, None)]
    # One phone, written in several ways, is one leg.
    assert legs(store, post(client, destination=[*written_so, "011442079460958"])) == [
        (LONDON, None)
    ]
    assert legs(store, post(client, destination="(530) 204-0000")) == [("+15302040000", None)]


def test_without_a_country_numbers_stay_but_for_punctuation(serve: Any, store: CallStore) -> None:
    client = serve(accounts())
    assert legs(store, post(client, destination="530-2040")) == [("5302040", None)]
    both = post(client, destination=["+4915550108", "4915550108", "+49 1555 0108"])
    assert legs(store, both) == [("+4915550108", None)]


@pytest.mark.parametrize(
    ("form", "dialled"),
    [
        ("e164", None),
        ("digits", "442079460958"),
        ("national", "011442079460958"),
        ("as_sent", "011442079460958"),
    ],
)
def test_a_gateway_has_a_number_format(
    serve: Any, store: CallStore, form: str, dialled: str | None
) -> None:
    gateway = f'\n[[gateways]]\nname = "pstn"\nnumber_format = "{form}"\n'
    client = serve(accounts(organization=US, more=gateway))
    assert legs(store, post(client, destination="011 44 20 7946 0958")) == [(LONDON, dialled)]


@pytest.mark.parametrize("form", ["digits", "national", "as_sent"])
def test_a_policy_judges_the_number_and_not_its_form(
    serve: Any, store: CallStore, form: str
) -> None:
    # 2015550123 would be a number of Egypt, 442079460958 one of no country that is allowed.
    gateway = f'\n[[gateways]]\nname = "pstn"\nnumber_format = "{form}"\n'
    client = serve(accounts(organization=f"{US}\n{NAMED}", more=OFFICE + gateway))
    assert legs(store, post(client, destination="(201) 555-0123"))[0][0] == "+12015550123"
    barred(post(client, destination="011 20 155 501 23"), "countries", policy="office")


def test_what_is_no_number_says_why(serve: Any, redis: Redis) -> None:
    client = serve(accounts(organization=US))
    for side, number, reason in (
        ("destination", "5302040", "The area code is missing."),
        ("destination", "0003*999", "There is no such extension."),
        ("destination", "212", "A callback extension pays for calls and has no phone."),
        ("source", "+999 30 123456", "The country code is unknown."),
        ("source", "53O2040", "A number takes at most 32"),
    ):
        answer = post(client, **{side: ["210", number]})
        is_error(answer, 400, f"pc_{side}_invalid")
        error = answer.json["error"]
        assert error["field"] == f"/phoneCallView/0/{side}/1"
        assert error["value"].replace(" ", "") == number.replace(" ", "")
        assert error["reason"].startswith(reason)
    assert written(redis) == set()


@pytest.mark.parametrize(
    ("number", "shown"), [(10**30, str(10**30)), ("\ud8005302040000", "?5302040000")]
)
def test_a_refusal_repeats_any_value(serve: Any, number: Any, shown: str) -> None:
    # Neither an integer of more than 64 bits nor half a surrogate pair may stand in an answer.
    answer = post(serve(accounts(organization=US)), destination=number)
    is_error(answer, 400, "pc_destination_invalid")
    assert answer.json["error"]["value"] == shown


def test_a_call_is_found_by_each_form_of_its_number(serve: Any, store: CallStore) -> None:
    client = serve(accounts(organization=US))
    headers = {"Authorization": "Bearer another-of-user-token"}
    for number in ("011442079460958", "442079460958", "+44 20 7946 0958", LONDON):
        call = post(client).json[0]["id"]
        answer = client.delete(LIST, query_string={"phoneNumber": number}, headers=headers)
        assert [each["id"] for each in answer.json] == [call], number
        found = store.get(call)
        assert found is not None and found.state is State.ENDED


def test_a_blank_in_place_of_plus_finds_the_call(serve: Any) -> None:
    # B11: a client that does not encode the + sends a blank.
    client = serve(accounts())
    headers = {"Authorization": "Bearer another-of-user-token"}
    for dialled in ("+4915550108", "4915550108"):
        for number in (" 4915550108", "4915550108", "+4915550108"):
            call = post(client, destination=dialled).json[0]["id"]
            answer = client.delete(LIST, query_string={"phoneNumber": number}, headers=headers)
            assert [each["id"] for each in answer.json] == [call]


def test_a_nonce_sees_the_same_request_in_another_form(serve: Any) -> None:
    # W13.
    client = serve(accounts(organization=US))
    first = post(client, nonce="n", destination=LONDON)
    for view in (
        {"destination": "011 44 20 7946 0958"},
        {"destination": ["+442079460958"]},
        {"source": ["210", "0003*210"]},
        {"source": "0003*210"},
        {"callerId": "Demo Desk <0003210>"},
    ):
        again = post(client, nonce="n", **view)
        assert (again.status_code, again.json) == (202, first.json), view
    for view in ({"accept": False}, {"announce": False}, {"ringback": "auto"}, {"headers": {}}):
        again = post(client, nonce="n", **view)
        assert (again.status_code, again.json) == (202, first.json), view
    again = post(client, f"{SIMPLE}?callDuration=7200&waitForPickup=25&video=0", nonce="n")
    assert (again.status_code, again.json) == (202, first.json)
    for view in ({"destination": "+442079460959"}, {"callerId": "<211>"}, {"source": "211"}):
        is_error(post(client, nonce="n", **view), 400, "pc_nonce_invalid")
    is_error(post(client, f"{SIMPLE}?callDuration=60", nonce="n"), 400, "pc_nonce_invalid")
    is_error(post(client, nonce="n", ringback="music"), 400, "pc_nonce_invalid")


def test_the_form_of_each_value_of_a_view_is_one(serve: Any) -> None:
    client = serve(
        accounts(organization=US, extension='may_set_caller_id = true\ncaller_ids = ["*"]')
    )
    view = {
        "source": ["210", "211"],
        "callerId": "Shop <+1 323-574-2879>",
        "callerIdDestination": "13235742879",
        "headers": {"source": {"X-Order": "1"}},
        "ringback": "DE",
    }
    first = post(client, nonce="form", **view)
    assert first.status_code == 202, first.json
    for other in (
        {"source": ["0003*211", "0003*210", "210"]},
        {"callerId": " Shop  <tel:+13235742879>"},
        {"callerIdDestination": "<(323) 574-2879>"},
        {"headers": {"source": {"X-ORDER": "1"}, "destination": {}}},
        {"ringback": "de"},
    ):
        again = post(client, nonce="form", **{**view, **other})
        assert (again.status_code, again.json) == (202, first.json), (other, again.json)
    for other in ({"source": ["210"]}, {"callerId": "Shop <+13235742870>"}, {"ringback": "FR"}):
        is_error(post(client, nonce="form", **{**view, **other}), 400, "pc_nonce_invalid")


# Policies


@pytest.mark.parametrize("country", [US, ""])
@pytest.mark.parametrize(
    ("number", "rule"),
    [
        ("911", "emergency"),
        ("112", "emergency"),
        (PREMIUM, "premium_rate"),
        ("+491805123456", "shared_cost"),
        ("+870773111632", "satellite"),
        ("+8821612345678", "international"),
        ("+447012345678", "revenue_share"),
    ],
)
def test_what_is_barred_without_any_setting(
    serve: Any, redis: Redis, country: str, number: str, rule: str
) -> None:
    client = serve(accounts(organization=country))
    barred(post(client, destination=number), rule)
    barred(post(client, source=["210", number]), rule, "source")
    barred(post(client, CALLBACK, destination=number), rule)
    barred(post(client, CONFERENCE, destination=number), rule)
    for token in ("organization", "administrator"):
        answer = post(
            client,
            SIMPLE.replace("@me", "12"),
            token=f"another-of-{token}-token",
            destination=number,
        )
        # An administrator names extensions in full.
        if token == "organization":
            barred(answer, rule)
    # Its clients take 403 for a token that has expired.
    answer = post(client, token="another-of-voipnow-token", destination=number)
    is_error(answer, 400, "pc_destination_invalid")
    assert answer.json["error"]["rule"] == rule
    assert written(redis) == set()


def test_an_extension_may_have_the_number_of_emergency_services(
    serve: Any, store: CallStore
) -> None:
    desk = """
[[extensions]]
number = "0003*112"
type = "phone_terminal"
owner = "12"
dial_string = "user/112@example.com"
"""
    client = serve(accounts(organization=US, more=desk))
    assert post(client, destination="112").status_code == 202
    barred(post(client, destination="911"), "emergency")


OFFICE = """
[[policies]]
name = "office"
countries = ["US"]
allow = ["+4420"]
deny = ["+1212"]
"""
NAMED = 'policy = "office"'


@pytest.mark.parametrize("place", ["organization", "user", "extension", "app"])
def test_a_policy_holds_wherever_it_is_named(serve: Any, redis: Redis, place: str) -> None:
    lines = {"organization": US}
    lines[place] = f"{lines.get(place, '')}\n{NAMED}"
    client = serve(accounts(**lines, more=OFFICE))
    barred(post(client, destination="+4930123456"), "countries", policy="office")
    barred(post(client, destination="212 555 0123"), "deny +1212", policy="office")
    assert written(redis) == set()
    assert post(client, destination=LONDON).status_code == 202
    assert post(client, destination="530 204 0000").status_code == 202


def test_a_policy_lifts_what_is_barred_by_default(serve: Any, store: CallStore) -> None:
    more = '\n[[policies]]\nname = "office"\ntypes = ["premium_rate"]\nemergency = true\n'
    client = serve(accounts(organization=f"{US}\n{NAMED}", more=more))
    assert legs(store, post(client, destination="1 900 555 1234")) == [(PREMIUM, None)]
    assert legs(store, post(client, destination="911")) == [("911", None)]
    barred(post(client, destination="+870773111632"), "satellite")


def test_a_policy_that_is_not_enforced_lets_pass_and_reports(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(accounts(organization=f"{US}\n{NAMED}", more=OFFICE + "enforce = false\n"))
    assert post(client, destination="+4930123456").status_code == 202
    assert "would be barred: office: countries" in caplog.text
    counting.write()
    labels = {"policy": "office", "rule": "countries", "enforced": "no"}
    value = registry.REGISTRY.get_sample_value("ringback_numbers_barred_total", labels)
    assert value is not None and value >= 1
    barred(post(client, destination=PREMIUM), "premium_rate")


def quota(answer: Any, cap: str) -> None:
    is_error(answer, 429, "quota_exceeded")
    assert answer.json["error"]["cap"] == cap
    assert int(answer.headers["Retry-After"]) >= 1


def test_calls_to_one_number_are_counted(serve: Any, redis: Redis) -> None:
    more = OFFICE.replace('countries = ["US"]', "calls_to_number_per_hour = 2")
    client = serve(accounts(organization=f"{US}\n{NAMED}", more=more))
    cap = "organization:3 calls_to_number_per_hour"
    assert post(client, destination=LONDON).status_code == 202
    # In another form, as a source, and within one call twice.
    both = post(client, source="+442079460958", destination="011 44 20 7946 0958")
    assert both.status_code == 202
    quota(post(client, destination=["210", "+44 20 7946 0958"]), cap)
    assert post(client, destination="+442079460959").status_code == 202
    # Two calls of one request.
    view = {"source": "210", "destination": "+442079460957"}
    headers = {"Authorization": "Bearer another-of-user-token"}
    three = {"extension": "210", "phoneCallView": [view] * 3}
    quota(client.post(SIMPLE, json=three, headers=headers), cap)
    assert post(client, destination="+442079460957").status_code == 202


@pytest.mark.parametrize("prefix", ["", "00", "011"])
def test_without_a_country_each_form_has_one_count_and_one_price(
    serve: Any, store: CallStore, prefix: str
) -> None:
    rates = "".join(
        f'\n[[rates]]\nprefix = "{of}"\nper_minute = {price}\ncurrency = "USD"\n'
        for of, price in (("", 0), ("+44", 2))
    )
    more = OFFICE.replace('countries = ["US"]', "calls_to_number_per_hour = 1") + rates
    client = serve(accounts(organization=NAMED, more=more))
    answer = post(client, destination=prefix + LONDON[1:])
    assert answer.status_code == 202
    call = store.get(answer.json[0]["id"])
    assert call is not None and call.legs[1].rate == "2 0 1 USD"
    quota(post(client, destination=LONDON), "organization:3 calls_to_number_per_hour")


def test_new_countries_are_counted(serve: Any) -> None:
    more = OFFICE.replace('countries = ["US"]', "new_countries_per_day = 2")
    client = serve(accounts(organization=US, user=NAMED, more=more))
    for number in (LONDON, "+4930123456", "+442079460959", "+4930123457"):
        assert post(client, destination=number).status_code == 202
    quota(post(client, destination="+33142685300"), "user:12 new_countries_per_day")
    assert post(client, destination=LONDON).status_code == 202


# Caller ids


def shown(client: FlaskClient, caller_id: str, **view: Any) -> int:
    answer = post(client, callerId=caller_id, **view)
    if answer.status_code != 202:
        is_error(answer, 400, "pc_callerid_invalid")
        error = answer.json["error"]
        assert error["message"] == "You are not allowed to set the callerId field."
        assert error["field"] == "/phoneCallView/0/callerId"
        assert error["reason"]
    return int(answer.status_code)


def test_the_look_at_a_caller_id_does_not_grow_with_the_extensions() -> None:
    class Many(dict[str, Extension]):
        def __iter__(self) -> Any:
            raise AssertionError("each call would look at all extensions")

    desk = Extension(number="0003*210", type=ExtensionType.PHONE_TERMINAL, owner="12")
    known = Accounts.of([Organization("3", "0003", "Three")], [], [], [], [])
    known = replace(known, extensions=Many({desk.number: desk}))
    guard = Guard.of(known, desk.number, [], [])
    assert guard.may_show("Desk <210>")
    assert guard.may_show("<0003*210>")
    assert not guard.may_show("<211>")


def test_without_a_list_only_own_extensions_are_shown(serve: Any) -> None:
    client = serve(accounts(organization=US))
    # Its own number and caller id, and the numbers of the organization's extensions.
    for number in ("<210>", "A <0003*210>", "B <0003210>", "C <211>", "<0003*024>"):
        assert shown(client, number) == 202, number
    # The caller id of another extension, another number, one that is no number at all.
    for number in ("<0003211>", "<+14242425000>", "<911>", "<0004*210>"):
        assert shown(client, number) == 400, number


def test_a_list_of_caller_ids(serve: Any, store: CallStore) -> None:
    listed = 'caller_ids = ["+1 424"]'
    with pytest.raises(Exception, match="caller_ids"):
        serve(accounts(organization=listed))
    listed = 'caller_ids = ["+14242425000", "+1555012*"]'
    client = serve(accounts(organization=f"{US}\n{listed}"))
    for number in ("<+14242425000>", "A <(424) 242-5000>", "<+15550120001>", "<0003210>"):
        assert shown(client, number) == 202, number
    for number in ("<+14242425001>", "<+15550130001>", "<211>"):
        assert shown(client, number) == 400, number
    call = store.get(post(client, callerId="A <(424) 242-5000>").json[0]["id"])
    assert call is not None and call.caller_id == "A <+14242425000>"


def test_every_list_of_caller_ids_must_allow(serve: Any) -> None:
    client = serve(
        accounts(organization=f'{US}\ncaller_ids = ["*"]', app='caller_ids = ["+1555*"]')
    )
    assert shown(client, "<+15550120001>") == 202
    assert shown(client, "<+14242425000>") == 400


# Accounts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (accounts(organization='country = "UK"'), "ISO 3166"),
        (accounts(organization=NAMED), "Is no policy's name."),
        (accounts(more=OFFICE + OFFICE), "Is taken by an earlier one."),
        (accounts(more=OFFICE.replace("+4420", "4420")), "E.164"),
        (accounts(more=OFFICE + 'types = ["emergency"]'), "Must be one of"),
        (accounts(more=OFFICE + "calls_to_number_per_hour = 0"), "greater than or equal to 1"),
        (accounts(more='\n[[gateways]]\nname = "pstn"\nnumber_format = "x"'), "number_format"),
    ],
)
def test_bad_accounts_are_refused_at_start(serve: Any, text: str, why: str) -> None:
    with pytest.raises(Exception, match=why):
        serve(text)
