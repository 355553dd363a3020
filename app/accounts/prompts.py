"""Prompts in the accounts, and who hears them: the parties that must accept a call by a key, and
the announcements that are played before a party is connected."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.calls.model import Accept, NumberKind, Role


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sound of the switch: a ``file``, or a ``text`` that its TTS speaks by ``voice``."""

    name: str
    file: str | None = None
    text: str | None = None
    # ``engine|voice``.
    voice: str | None = None
    # The language of a phrase.
    language: str | None = None
    # The number of the organization whose calls may have it; None for all.
    organization: str | None = None


class Of(StrEnum):
    """The side of a call that accepts, or hears an announcement."""

    SOURCE = "source"
    DESTINATION = "destination"
    BOTH = "both"

    def has(self, role: Role) -> bool:
        return self is Of.BOTH or self.value == role.value


@dataclass(frozen=True, slots=True)
class AcceptRule:
    """Which parties of a call must accept it, and how. Extensions need not, unless
    ``extensions`` says so."""

    prompt: str
    key: str = "1"
    timeout: int = 8
    attempts: int = 2
    of: Of = Of.SOURCE
    extensions: bool = False

    def accept(self, role: Role, kind: NumberKind) -> str | None:
        """What it takes a leg to accept, as the leg keeps it; None if it need not."""
        asked = kind is NumberKind.PUBLIC or self.extensions
        if not asked or not self.of.has(role):
            return None
        return Accept(self.key, self.prompt, self.timeout, self.attempts).dumps()


@dataclass(frozen=True, slots=True)
class AnnounceRule:
    """Which parties of a call hear an announcement before they are connected."""

    prompt: str
    to: Of = Of.DESTINATION

    def announce(self, role: Role) -> str | None:
        """The prompt's name, for a leg that hears it; else None."""
        return self.prompt if self.to.has(role) else None


def of_organization(prompts: Mapping[str, Prompt], number: str | None) -> dict[str, Prompt]:
    """The prompts that calls of the organization with this number may have; with None those that
    calls of all may have."""
    return {n: p for n, p in prompts.items() if p.organization in (None, number)}


def missing(prompts: Mapping[str, Prompt], *rules: AcceptRule | AnnounceRule | None) -> str | None:
    """The name of a prompt of these rules that the accounts do not have; None if all are there."""
    return next((r.prompt for r in rules if r is not None and r.prompt not in prompts), None)
