"""Valet parking: lots with places, where a channel waits until another picks it up.

Read from mod_valet_parking.c.
"""

from dataclasses import dataclass

from .bridge import uuid_bridge
from .channel import Channel
from .dialstring import split
from .execution import pause, transfer, wait
from .switch import SwitchCore
from .values import is_true, whole_number

INFO = "valet_parking::info"
_SWEEP_SECONDS = 5
"""The shortest time between two sweeps. Until a sweep, a place that was left stays taken."""
_ANNOUNCEMENT_SECONDS = 3.5
"""Seconds of the announcement: a pause of 1.5 s, then the number of the place."""
_ORBIT_SECONDS = 60
"""Seconds that a channel waits if it has an orbit extension and no timeout."""


@dataclass(slots=True)
class ValetToken:
    """A channel in a place."""

    uuid: str
    start: float
    bridged: bool = False
    left: bool = False


class Lots:
    """The parking lots of a switch: the application valet_park and the api command valet_info."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, ValetToken]] = {}
        self._swept = 0.0

    async def park(self, channel: Channel, argument: str) -> None:
        """Park or pick up.

        `<lot> <place>` picks up the channel there, or waits there if the place is free.
        `<lot> auto in <first> <last>` waits in the first free place, and `auto out` picks up the
        channel that waits longest.
        """
        switch = channel.switch
        self._sweep(switch.clock.now())
        words = split(argument, " ", 6)
        if len(words) < 2:
            return
        name, place = words[:2]
        lot = self._places.setdefault(name, {})
        announced = False
        if place.lower() == "auto":
            if len(words) < 5 or words[2].lower() not in ("in", "out"):
                return
            announced = words[2].lower() == "in"
            first, last = whole_number(words[3]) or 1, whole_number(words[4])
            found = _free_place(lot, first, last) if announced else _longest(lot, first, last)
            if found is None:
                return
            place = found
        if not announced and (token := lot.get(place)) and not token.bridged:
            parked = switch.locate(token.uuid)
            if parked and parked is not channel:
                _tell(parked, name, place, "bridge", {"Bridge-To-UUID": channel.uuid})
                token.bridged = True
                uuid_bridge(parked, channel)
                return
        token = lot[place] = ValetToken(channel.uuid, switch.clock.now())
        said = channel.get("valet_announce_slot")
        if announced and (said is None or is_true(said)):
            await pause(channel, _ANNOUNCEMENT_SECONDS)
        _tell(channel, name, place, "hold")
        channel.set("valet_lot_extension", place)
        await _stay(channel)
        token.left = True
        _tell(channel, name, place, "exit")

    def info(self, switch: SwitchCore[Channel], argument: str) -> str:
        """The api command valet_info, which lists the parked channels."""
        lines = ["<lots>\n"]
        for name, lot in self._places.items():
            if argument and argument.lower() != name.lower():
                continue
            lines.append(f'  <lot name="{name}">\n')
            lines += [
                f'    <extension uuid="{token.uuid}">{place}</extension>\n'
                for place, token in lot.items()
                if not token.left
            ]
            lines.append("  </lot>\n")
        return "".join([*lines, "</lots>\n"])

    def _sweep(self, now: float) -> None:
        if now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            for lot in self._places.values():
                for place in [place for place, token in lot.items() if token.left]:
                    del lot[place]


def _free_place(lot: dict[str, ValetToken], first: int, last: int) -> str | None:
    numbers = range(first, last + 1 if last else first + len(lot) + 1)
    return next((str(each) for each in numbers if str(each) not in lot), None)


def _longest(lot: dict[str, ValetToken], first: int, last: int) -> str | None:
    waiting = [
        (token.start, place)
        for place, token in lot.items()
        if first <= whole_number(place) <= last and not token.left
    ]
    return min(waiting)[1] if waiting else None


async def _stay(channel: Channel) -> None:
    """Wait until the channel is hung up, moved or picked up, or its timeout is over."""
    exten = channel.get("valet_parking_orbit_exten")
    seconds = whole_number(channel.get("valet_parking_timeout"))
    if exten and not seconds:
        seconds = _ORBIT_SECONDS
    if not seconds:
        await wait(lambda: not channel.ready, channel)
    elif await pause(channel, seconds) and exten:
        transfer(channel, exten, channel.get("valet_parking_orbit_dialplan") or "")


def _tell(
    channel: Channel, lot: str, place: str, action: str, more: dict[str, str] | None = None
) -> None:
    headers = {"Valet-Lot-Name": lot, "Valet-Extension": place, "Action": action}
    channel.fire(INFO, before=headers | (more or {}))
