"""Tokens and client secrets of apps: hashes, with the time from which and until which each counts.

An app may have two of a kind at a time. So a new one counts before the old one is taken out.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# The most credentials of one kind that an app may have.
MOST = 2


def token_sha256(token: str) -> str:
    """The hash that is stored for a token or a client secret. Both are long and random, so that a
    plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Credential:
    """A token or a client secret of an app. Times are in epoch seconds."""

    sha256: str
    not_before: float | None = None
    expires: float | None = None

    def counts(self, now: Callable[[], float] = time.time) -> bool:
        """Whether it counts now. ``now`` is asked only if the credential has a time."""
        return is_between(self.not_before, self.expires, now)


def is_between(begin: float | None, end: float | None, now: Callable[[], float]) -> bool:
    """Whether it is ``begin`` or later, and not yet ``end``."""
    if begin is None and end is None:
        return True
    at = now()
    return (begin is None or at >= begin) and (end is None or at < end)


def matching(known: Iterable[Credential], text: str) -> Credential | None:
    """The credential of a text. The time that this takes tells nothing of the hashes."""
    digest, found = token_sha256(text), None
    for each in known:
        if hmac.compare_digest(digest, each.sha256):
            found = each
    return found
