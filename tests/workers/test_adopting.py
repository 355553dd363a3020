"""What becomes of channels that Redis does not know."""

import pytest

from app.accounts.store import read_accounts
from app.calls.model import Role, State, leg_uuid
from app.settings import Settings
from freeswitch.events import Event
from workers.adopting import Refused, _adopted
from workers.channels import call_of

ID, OTHER = "a" * 20, "b" * 20
FOREIGN, CHILD = "0f9f4f3e-9d7e-4c37-8a3a-7c1c3c1c3c1c", "1f9f4f3e-9d7e-4c37-8a3a-7c1c3c1c3c1c"
SOURCE, DESTINATION = (leg_uuid(ID, role, 1, 1) for role in (Role.SOURCE, Role.DESTINATION))
ACCOUNTS = read_accounts(None)


def channel(uuid: str, **headers: str) -> Event:
    """A channel as uuid_dump tells of it. Times are in microseconds."""
    times = {"Caller-Channel-Created-Time": "1000000000", "Caller-Destination-Number": "15500"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Event("CHANNEL_DATA", {"Unique-ID": uuid, **times, **named})


@pytest.mark.parametrize(
    ("event", "call"),
    [
        (channel(SOURCE), ID),
        (Event("", {"Unique-ID": FOREIGN, "variable_ringback_call": OTHER}), OTHER),
        # The variable counts before the uuid: the channel was adopted once more.
        (Event("", {"Unique-ID": SOURCE, "variable_ringback_call": OTHER}), OTHER),
        (channel(FOREIGN, Other_Leg_Unique_ID=SOURCE), ID),
        (Event("", {"Unique-ID": FOREIGN, "variable_originator": DESTINATION}), ID),
        (channel(FOREIGN, Other_Leg_Unique_ID=CHILD), None),
        (Event("", {"Unique-ID": FOREIGN, "variable_ringback_call": "not one of ours"}), None),
        (Event("", {"Unique-ID": FOREIGN, "variable_ringback_call": [ID]}), None),
    ],
)
def test_a_channel_says_of_which_call_it_is(event: Event, call: str | None) -> None:
    assert call_of(event) == call


def adopted(settings: Settings, *events: Event, extension: str = "") -> list[tuple[str, str, str]]:
    """The legs of the call that is made: id, uuid and number."""
    found = {str(event.headers["Unique-ID"]): event for event in events}
    call = _adopted(ACCOUNTS, settings, ID, found, extension, 4600.0)
    assert call.state is State.DIALING and call.accepted == 1000.0
    # However long it has lasted, it may go on for as long as any other.
    assert call.call_duration == 3600 + settings.call_duration
    assert call.extension == "0003*210" and call.user == "12"
    return [(leg.id, leg.uuid, leg.number) for leg in call.legs]


def test_legs_are_what_their_uuids_name(settings: Settings) -> None:
    shown = {"variable_origination_caller_id_number": "0003*210"}
    source, second = channel(SOURCE), channel(leg_uuid(ID, Role.DESTINATION, 2, 1))
    source.headers.update(shown)
    legs = adopted(settings, second, source, channel(FOREIGN))
    assert legs == [
        ("b2", second.headers["Unique-ID"], "15500"),
        ("a1", SOURCE, "15500"),
        ("b1", FOREIGN, "15500"),
    ]


def test_a_destination_that_is_left_alone_is_the_source(settings: Settings) -> None:
    legs = adopted(settings, channel(DESTINATION), extension="0003*210")
    assert legs == [("a1", DESTINATION, "15500")]


def test_somebody_must_pay(settings: Settings) -> None:
    with pytest.raises(Refused, match="name no extension that pays"):
        adopted(settings, channel(SOURCE))
    with pytest.raises(Refused, match=r"There is no extension 0003\*999"):
        adopted(settings, channel(SOURCE), extension="0003*999")


def test_an_extension_is_known_by_what_was_dialled(settings: Settings) -> None:
    event = channel(SOURCE, Caller_Destination_Number="0003210")
    event.headers["variable_sip_gateway_name"] = "pstn"
    assert adopted(settings, event) == [("a1", SOURCE, "0003*210")]


def test_the_extension_that_was_shown_pays(settings: Settings) -> None:
    adopted(settings, channel(SOURCE, Caller_Caller_ID_Number="0003210"))
