"""Random names that a process knows as Ringback's own without asking Redis.

A guess is refused by arithmetic. So nobody makes the API ask Redis for each of many guesses, and a
good token needs no share of what is left for guesses from its address.
"""

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from time import monotonic
from typing import Any

from redis import Redis

# The bytes of a name: random ones, and a tag that takes the key to make.
_RANDOM, _TAG = 24, 8
_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
# Seconds after which a process reads the key again: Redis may have come back empty.
_KEY_AGE = 60.0


class Mint:
    """The maker of names. Its key is in Redis, for all processes."""

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis = redis
        self._name = key
        self._key = b""
        self._read_at = 0.0

    def make(self) -> str:
        """A new name. May raise a RedisError."""
        body = secrets.token_bytes(_RANDOM)
        return urlsafe_b64encode(body + self._tag(body)).rstrip(b"=").decode()

    def made(self, name: str) -> bool:
        """Whether the name was made with the present key. May raise a RedisError."""
        if _FORM.fullmatch(name) is None:
            return False
        found = urlsafe_b64decode(name + "=")
        body, tag = found[:_RANDOM], found[_RANDOM:]
        return hmac.compare_digest(tag, self._tag(body))

    def _tag(self, body: bytes) -> bytes:
        if not self._key or monotonic() - self._read_at > _KEY_AGE:
            key: Any = self._redis.get(self._name)
            if key is None:
                # Not before: a Redis that is full takes no write.
                new = secrets.token_hex(32).encode()
                self._redis.set(self._name, new, nx=True)
                key = self._redis.get(self._name) or new
            self._key, self._read_at = key, monotonic()
        return hmac.digest(self._key, body, hashlib.sha256)[:_TAG]
