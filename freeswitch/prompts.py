"""Prompts: what a leg hears between its answer and the call, and the key that accepts the call.

The switch plays them and waits for the key by itself (``group_confirm_key`` in
switch_ivr_originate.c). All values come from the accounts or from a whitelist, and are checked
here again: they stand in a dial string.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Seconds that an announcement to a destination may take: the switch ends the leg of a longer one.
MAX_ANNOUNCEMENT = 60
# The most seconds of a key: ten attempts of a minute, and an announcement.
MAX_SECONDS = 600 + MAX_ANNOUNCEMENT
# The switch collects at most nine digits of a key.
KEY = re.compile(r"[0-9*#]{1,9}", re.ASCII)
_PART = r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*"
# A file, silence of so many milliseconds, or a phrase macro. No part of a path begins with a dot.
FILE = re.compile(
    rf"/?{_PART}(/{_PART})*|silence_stream://[0-9]{{1,6}}|phrase:[A-Za-z0-9_-]{{1,64}}", re.ASCII
)
# Letters of any script, digits, blanks and these marks: nothing that a dial string reads.
TEXT = re.compile(r"[^\W_][\w .?-]{0,499}")
VOICE = re.compile(r"[A-Za-z0-9_-]{1,32}\|[A-Za-z0-9_.-]{1,64}", re.ASCII)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})?", re.ASCII)
# What separates sounds that are played one after the other.
_DELIMITER = "!"


def one_word(text: str) -> str:
    """A text as one word of a command. Where the switch splits it, ``\\s`` becomes a blank."""
    return text.replace(" ", r"\s")


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound that the switch plays: ``file``, or ``text`` spoken by ``voice``
    (``engine|voice``). ``language`` is that of phrases."""

    file: str | None = None
    text: str | None = None
    voice: str | None = None
    language: str | None = None

    def path(self) -> str:
        """The sound as the switch's playback takes it, without blanks. Raises ValueError."""
        if self.text is None:
            return _checked(FILE, self.file or "", "file")
        return "say:" + one_word(_checked(TEXT, self.text, "text"))

    def variables(self) -> dict[str, str]:
        """The variables of a channel that plays the sound. Raises ValueError."""
        found = {}
        if self.text is not None:
            engine, _, voice = _checked(VOICE, self.voice or "", "voice").partition("|")
            found = {"tts_engine": engine, "tts_voice": voice}
        if self.language is not None:
            found["language"] = _checked(LANGUAGE, self.language, "language")
        return found


@dataclass(frozen=True, slots=True)
class Gate:
    """What keeps an answered leg out of the call: an announcement, a key that it must press, or
    both.

    The switch plays ``announcement`` and ``prompt``, again and again where there is a ``key``,
    and ends the leg ``seconds`` after its answer if the key was not pressed.
    """

    announcement: Sound | None = None
    key: str | None = None
    prompt: Sound | None = None
    seconds: int = MAX_ANNOUNCEMENT

    @property
    def sounds(self) -> list[Sound]:
        return [each for each in (self.announcement, self.prompt) if each is not None]

    def variables(self) -> dict[str, str]:
        """The variables of the leg itself. Raises ValueError."""
        if not self.sounds:
            raise ValueError("a gate needs a sound")
        if not 1 <= self.seconds <= MAX_SECONDS:
            raise ValueError(f"a gate takes 1 to {MAX_SECONDS} seconds, not {self.seconds}")
        played = _DELIMITER.join(sound.path() for sound in self.sounds)
        if self.key is None:
            # The application counts as the key: the leg has accepted when it has ended.
            return {
                "group_confirm_key": "exec",
                "group_confirm_file": one_word(f"playback {played}"),
            }
        key = _checked(KEY, self.key, "key")
        return {"group_confirm_key": key, "group_confirm_file": played}


def longest(gates: Iterable[Gate | None]) -> int:
    """The most seconds that one of these gates takes; 0 if there is none."""
    return max((gate.seconds for gate in gates if gate is not None), default=0)


def shared_variables(gates: Iterable[Gate | None]) -> dict[str, str]:
    """The variables for all legs of a side with these gates; none without a gate.

    A destination gets ``group_confirm_timeout`` and ``language`` of its source, and they win over
    its own in ``[]`` unless they stand in ``{}`` (seen on 1.10.12). Raises ValueError.
    """
    there = [gate for gate in gates if gate is not None]
    if not there:
        return {}
    found = {n: v for gate in there for sound in gate.sounds for n, v in sound.variables().items()}
    if any(len(gate.sounds) > 1 for gate in there):
        found["playback_delimiter"] = _DELIMITER
    return {**found, "group_confirm_timeout": str(int(longest(there)))}


def _checked(pattern: re.Pattern[str], text: str, what: str) -> str:
    if pattern.fullmatch(text) is None or ":_:" in text:
        raise ValueError(f"{what} {text!r} of a prompt must match {pattern.pattern}")
    return text
