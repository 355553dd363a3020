"""The operator's maxima of a request (docs/settings.md): how long calls may ring and last, how many
calls and parties one request may bring."""

from typing import Any

from app.errors import api_error
from app.phone_calls.schemas import DEFAULT_WAIT
from app.settings import Settings


def check(settings: Settings, query: dict[str, Any], views: list[dict[str, Any]]) -> None:
    """Check a request that places calls. Raises ApiError."""
    check_wait(settings, query)
    if (asked := query.get("callDuration")) is not None and asked > settings.max_call_duration:
        raise api_error(
            "pc_duration_invalid",
            f"Takes 1 to {settings.max_call_duration} seconds, not {asked}.",
            cause="maximum",
            field="callDuration",
            value=asked,
        )
    if len(views) > settings.max_views:
        raise api_error(
            "pc_source_invalid",
            f"A request takes at most {settings.max_views} views, not {len(views)}.",
            cause="views_too_many",
            field="/phoneCallView",
        )
    parties = [len(view.get("source", ())) + len(view["destination"]) for view in views]
    if max(parties) > settings.max_parties:
        raise api_error(
            "pc_destination_invalid",
            f"A call takes at most {settings.max_parties} parties, not {max(parties)}.",
            cause="parties",
            field=f"/phoneCallView/{parties.index(max(parties))}",
        )
    if sum(parties) > settings.max_request_parties:
        raise api_error(
            "pc_destination_invalid",
            f"The calls of a request take at most {settings.max_request_parties} parties together, "
            f"not {sum(parties)}.",
            cause="parties",
            field="/phoneCallView",
        )


def check_wait(settings: Settings, asked: dict[str, Any], field: str = "waitForPickup") -> None:
    """Check ``waitForPickup``; what is not above the default is shortened. ``field`` is its place
    in the request. Raises ApiError."""
    if asked["waitForPickup"] > max(settings.max_wait_for_pickup, DEFAULT_WAIT):
        raise api_error(
            "pc_timeout_invalid",
            f"Takes 1 to {settings.max_wait_for_pickup} seconds, not {asked['waitForPickup']}.",
            cause="maximum",
            field=field,
            value=asked["waitForPickup"],
        )


def wait_of(settings: Settings, asked: int) -> int:
    """The seconds that a phone may ring."""
    return min(asked, settings.max_wait_for_pickup)


def duration_of(settings: Settings, asked: int | None) -> int:
    """The seconds that a call may last."""
    return min(asked or settings.call_duration, settings.max_call_duration)
