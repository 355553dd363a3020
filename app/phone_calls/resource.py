"""The PhoneCall as the UAPI shows it (uapi/spec 2), from a call."""

from datetime import UTC, datetime
from typing import Any

from app.calls.model import Call, Leg, NumberKind, Role, State
from app.calls.pace import Place

# flow of a view
LOCAL, OUTGOING, INCOMING = 2, 4, 8
# status of a view
TRYING, RINGING, OTHER_RINGING, ON_CALL = 2, 3, 4, 5

FIELDS = frozenset(
    """
        id extension ownerId ownerName published answered nonce phoneCallView link links state ended
        endedBy hangupCause switchUnreachable queuePosition expectedWait
    """.split()
)


def phone_call(
    call: Call, link: str, unreachable: float | None = None, place: Place | None = None
) -> dict[str, Any]:
    """The resource; a field without a value is left out.

    ``state``, ``ended``, ``endedBy``, ``hangupCause``, ``switchUnreachable`` (since when the
    call's switch is out of reach), ``queuePosition`` and ``expectedWait`` (calls and seconds
    before it is dialled, while it waits for its turn) are ours.
    """
    source, destination = _kept(call, Role.SOURCE), _kept(call, Role.DESTINATION)
    shared = {
        "source": _numbers(source),
        "destination": _numbers(destination),
        "flow": _flow(call),
    }
    return without_none(
        {
            "id": call.id,
            "extension": call.extension,
            "ownerId": call.organization,
            "ownerName": call.organization_name,
            "published": date(call.accepted),
            "answered": date(call.answered),
            "nonce": call.nonce,
            "phoneCallView": [
                _view(call, Role.SOURCE, source, shared),
                _view(call, Role.DESTINATION, destination, shared),
            ],
            "state": call.state.value,
            "ended": date(call.ended),
            "endedBy": call.ended_by,
            "hangupCause": call.hangup_cause,
            "switchUnreachable": date(unreachable),
            "queuePosition": place and place.ahead,
            "expectedWait": place and round(place.seconds, 1),
            **links(link),
        }
    )


def links(link: str) -> dict[str, dict[str, str]]:
    """Both spellings: the create pages say ``link``, 4PSA's clients read ``links``."""
    return {"link": {"self": link}, "links": {"self": link}}


def date(at: float | None) -> str | None:
    """An XML Schema dateTime in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def without_none(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def _view(call: Call, role: Role, legs: tuple[Leg, ...], shared: dict[str, Any]) -> dict[str, Any]:
    source = role is Role.SOURCE
    own = next((leg.number for leg in legs if leg.kind is NumberKind.EXTENSION), call.extension)
    return without_none(
        {
            "id": "00" if source else "01",
            "extension": own,
            **shared,
            "status": status(call, role),
            "ringing": date(_first(legs, "ringing")),
            "answered": date(_first(legs, "answered")),
            "callerId": call.caller_id if source else call.caller_id_destination,
            "disposition": call.disposition,
        }
    )


def _kept(call: Call, role: Role) -> tuple[Leg, ...]:
    """All of a side's legs, or the one that answered once one has."""
    legs = call.sources if role is Role.SOURCE else call.destinations
    won = tuple(leg for leg in legs if leg.answered and leg.cause != "LOSE_RACE")
    return won or legs


def _numbers(legs: tuple[Leg, ...]) -> list[str]:
    shown = ("Sandbox" if leg.kind is NumberKind.SANDBOX else leg.number for leg in legs)
    return list(dict.fromkeys(shown))


def _first(legs: tuple[Leg, ...], name: str) -> float | None:
    times = [at for leg in legs if (at := getattr(leg, name)) is not None]
    return min(times, default=None)


def _flow(call: Call) -> int:
    if any(leg.kind is NumberKind.PUBLIC for leg in call.destinations):
        return OUTGOING
    return INCOMING if any(leg.kind is NumberKind.PUBLIC for leg in call.sources) else LOCAL


def status(call: Call, role: Role) -> int | None:
    """The status of a side's view; None once the call has ended (design, State)."""
    source = role is Role.SOURCE
    if call.state is State.ENDED:
        return None
    if call.state is State.BRIDGED:
        return ON_CALL
    if call.state is State.RINGING:
        return RINGING if source else OTHER_RINGING
    if call.state is State.ANSWERED:
        if any(leg.live and (leg.ringing or leg.early_media) for leg in call.destinations):
            return OTHER_RINGING if source else RINGING
        return ON_CALL if source else TRYING
    return TRYING
