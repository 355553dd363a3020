"""The words of the api command `simulator` that order faults."""

import asyncio
import json
import math
import time
from dataclasses import asdict

from . import causes, recovery
from .channel import Channel
from .events import EVENT_NAMES
from .faults import QUEUE_LIMIT, Faults
from .hostile import KINDS
from .switch import Listener, SwitchCore

USAGE = (
    "-USAGE: originates|faults|heal|delay <seconds>|double <fraction>"
    "|drop <fraction> [<event name> ...]|queue <length>|cut|mute [in|out]|refuse <cause>|refuse off"
    "|reject on|reject off|swallow on|swallow off|fail <cause>|fail off"
    "|cost <seconds> [<growth>]|idle <percent>|hang <seconds>|send <kind> [<times>]"
    "|crash|register <phone> [<seconds>]|unregister <phone>\n"
)


def order(switch: SwitchCore[Channel], words: list[str], asker: Listener | None) -> str:
    """Run one command. `cut`, `mute` and `send` spare `asker`, the connection that sent it."""
    faults = switch.faults
    others = [each for each in switch.listeners if each is not asker]
    try:
        match words:
            case ["delay", seconds]:
                faults.delay = _number(seconds)
                _hand_on(switch)
            case ["double", fraction]:
                faults.double = _number(fraction, 1.0)
            case ["drop", fraction, *names]:
                faults.drop, faults.drop_names = _number(fraction, 1.0), _event_names(names)
            case ["queue", length]:
                faults.queue = int(_number(length)) or QUEUE_LIMIT
            case ["cut"]:
                for each in others:
                    each.cut()
                return f"+OK {len(others)} connections\n"
            case ["mute", *way] if way in ([], ["in"], ["out"]):
                for each in others:
                    each.mute(way or ["in", "out"])
                return f"+OK {len(others)} connections\n"
            case ["send", kind, *times] if len(times) < 2:
                if kind not in KINDS:
                    raise ValueError(f"no kind of frames is named {kind}, but {', '.join(KINDS)}")
                frames = KINDS[kind]() * int(_number("".join(times) or "1", 1_000_000))
                for each in others:
                    each.send(frames)
                return f"+OK {len(others)} connections\n"
            case ["refuse", cause]:
                faults.refuse = None if cause == "off" else _cause(cause)
            case ["cost", seconds, *growth] if len(growth) < 2:
                faults.cost, faults.growth = _number(seconds), _number("".join(growth) or "0")
            case ["idle", percent]:
                switch.idle_cpu = _number(percent, 100.0)
            case ["fail", cause]:
                faults.fail = None if cause == "off" else _cause(cause)
            case ["reject" | "swallow" as how, "on" | "off" as state]:
                setattr(faults, how, state == "on")
            case ["hang", seconds]:
                # The loop stands still only after the asker has its reply.
                asyncio.get_running_loop().call_soon(time.sleep, _number(seconds))
            case ["crash"]:
                recovery.crash(switch)
                for each in others:
                    each.cut()
                return f"+OK {len(others)} connections\n"
            case ["register", phone, *seconds] if len(seconds) < 2:
                recovery.register(switch, phone, _number("".join(seconds) or "3600"))
            case ["unregister", phone]:
                recovery.unregister(switch, phone)
            case ["faults"]:
                return json.dumps(_in_force(switch)) + "\n"
            case ["heal"]:
                switch.faults = Faults()
                _hand_on(switch)
            case _:
                return USAGE
    except ValueError as error:
        return f"-ERR {error}\n"
    return "+OK\n"


def _in_force(switch: SwitchCore[Channel]) -> dict[str, object]:
    muted = sum(bool(each.muted) for each in switch.listeners)
    counted = {"muted": muted, "dropped": switch.dropped, "lost": switch.lost}
    counted["connections"] = len(switch.listeners)
    return asdict(switch.faults) | counted


def _hand_on(switch: SwitchCore[Channel]) -> None:
    """Send the events that need not wait any longer."""
    for each in switch.listeners:
        each.flush_soon()


def _number(text: str, highest: float = math.inf) -> float:
    number = float(text)
    if not (0 <= number <= highest and math.isfinite(number)):
        raise ValueError(f"{text} is not a number from 0 to {highest:g}")
    return number


def _event_names(words: list[str]) -> tuple[str, ...]:
    names = tuple(word.upper() for word in words)
    if unknown := set(names) - EVENT_NAMES:
        raise ValueError(f"no event is named {' or '.join(sorted(unknown))}")
    return names


def _cause(text: str) -> str:
    cause = causes.named(text)
    if cause != text.upper():
        raise ValueError(f"no cause is named {text}")
    return cause
