"""Conferences and their members."""

import itertools
import uuid
from dataclasses import dataclass, field

from .channel import Channel
from .clock import TICK
from .events import SwitchEvent, Value
from .execution import pause, wait
from .switch import SwitchCore

MAINTENANCE = "conference::maintenance"


@dataclass(slots=True)
class Member:
    """A channel in a conference."""

    id: str
    channel: Channel
    talking: bool = False
    kicked: bool = False


@dataclass(slots=True)
class Room:
    """A room, which exists while it has a member."""

    name: str
    profile: str
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    members: list[Member] = field(default_factory=list)
    floor: Member | None = None

    def tell(self, switch: SwitchCore[Channel], action: str, member: Member | None = None) -> None:
        """Send an event of the conference, or of one of its members."""
        headers = switch.event_headers(MAINTENANCE)
        if headers is None:
            return
        headers |= {
            "Conference-Name": self.name,
            "Conference-Size": str(len(self.members)),
            "Conference-Profile-Name": self.profile,
            "Conference-Unique-ID": self.uuid,
        }
        if member:
            headers |= self._of_member(member)
        switch.fire(SwitchEvent(MAINTENANCE, headers | {"Action": action}))

    def _of_member(self, member: Member) -> dict[str, Value]:
        headers: dict[str, Value] = {"Floor": str(member is self.floor).lower()}
        member.channel.add_headers(headers)
        # These events have the headers of the channel, but not its other leg or its variables.
        headers = {
            name: value
            for name, value in headers.items()
            if not name.startswith(("variable_", "Other-"))
        }
        return headers | {
            "Hear": "true",
            "Speak": "true",
            "Talking": str(member.talking).lower(),
            "Member-ID": member.id,
            "Member-Type": "member",
        }


class Conferences:
    """The conferences of a switch: the application and the api command `conference`."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}
        self._member_ids = itertools.count(1)

    async def join(self, channel: Channel, argument: str) -> None:
        """Join `<name>[@<profile>][+<pin>]` until the channel is hung up, moved or kicked.

        The switch does not ask a channel that it dialled for the pin.
        """
        switch = channel.switch
        room, _, _ = argument.lstrip(" ").partition("+")
        name, at, profile = room.rpartition("@")
        if not at:
            name, profile = room, "default"
        found = self._rooms.get(name)
        if found is None:
            found = self._rooms[name] = Room(name, profile)
            found.tell(switch, "conference-create")
        member = Member(str(next(self._member_ids)), channel)
        found.members.append(member)
        found.tell(switch, "add-member", member)
        await _talk(found, member)
        await wait(lambda: member.kicked or not channel.ready, channel)
        await switch.clock.sleep(TICK)
        found.members.remove(member)
        if found.floor is member:
            found.floor = None
            found.tell(switch, "floor-change")
        found.tell(switch, "del-member", member)
        heir = next((each for each in found.members if each.channel.ready), None)
        if heir and found.floor is None:
            found.floor = heir
            found.tell(switch, "floor-change", heir)
        if not found.members:
            del self._rooms[name]
            found.tell(switch, "conference-destroy")

    def command(self, switch: SwitchCore[Channel], argument: str) -> str:
        """The api command `conference`: `[<name>] list`, `<name> kick|hup all|last|<member>`."""
        words = argument.split()
        if not words:
            return "-ERR Missing conference name and command\n"
        if words[0] == "list":
            return "".join(map(_described, self._rooms.values())) or (
                "+OK No active conferences.\n"
            )
        room = self._rooms.get(words[0])
        if room is None:
            return f"-ERR Conference {words[0]} not found\n"
        match words[1:]:
            case ["list", *_]:
                return _listed(room)
            case ["kick" | "hup", who, *_]:
                return _kick(switch, room, who)
        return f"-ERR Conference command '{words[1] if words[1:] else ''}' not found.\n"


async def _talk(room: Room, member: Member) -> None:
    """Let a member talk: every telephone here sends a tone, which takes a free floor."""
    switch = member.channel.switch
    if not await pause(member.channel, TICK):
        return
    if room.floor is None:
        room.floor = member
        room.tell(switch, "floor-change", member)
    if await pause(member.channel, TICK):
        member.talking = True
        room.tell(switch, "start-talking", member)


def _described(room: Room) -> str:
    count = len(room.members)
    members = f"{count} member{'' if count == 1 else 's'}"
    return f"+OK Conference {room.name} ({members} rate: 8000 flags: running)\n{_listed(room)}"


def _listed(room: Room) -> str:
    lines = []
    for member in reversed(room.members):
        channel = member.channel
        flags = "hear|speak" + "|talking" * member.talking + "|floor" * (member is room.floor)
        profile = channel.profile
        shown = f"{profile.caller_id_name};{profile.caller_id_number}"
        lines.append(f"{member.id};{channel.name};{channel.uuid};{shown};{flags};0;0;0\n")
    return "".join(lines)


def _kick(switch: SwitchCore[Channel], room: Room, who: str) -> str:
    members = room.members[-1:] if who == "last" else room.members
    chosen = [each for each in members if who in ("all", "last", each.id)]
    if not chosen:
        return f"-ERR Non-Existant ID {who}\n"
    for member in chosen:
        room.tell(switch, "kick-member", member)
        member.kicked = True
        member.channel.changed()
    return "".join(f"+OK kicked {member.id}\n" for member in chosen)
