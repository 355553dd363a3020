"""Issued tokens. Redis stores them as hashes for all processes, for a limited time."""

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from redis import Redis

from app.accounts.model import Accounts, App, token_sha256
from app.store import once
from app.store.keys import Keys

# The lifetime of a refresh token as a multiple of the access token's.
_REFRESH_FACTOR = 24
# The form of an issued token. Redis is not asked for any other.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
# Seconds for which this process remembers a token, and the most tokens that it remembers.
_CACHE_AGE = 1.0
_CACHE_SIZE = 1024
# Wrong secrets for one client from one address within so many seconds, after which every secret
# is refused.
_ATTEMPTS = 10
_ATTEMPTS_WINDOW = 60

# Use up a refresh token and issue new tokens in one step, so that only one of two requests gets
# new tokens.
# KEYS  1 the refresh token  2 the new access token  3 the new refresh token
# ARGV  1 the holder of the tokens  2 lifetime of the access token in seconds
#       3 lifetime of the refresh token in seconds
# Returns 1, or 0 if the refresh token does not belong to the holder.
_ROTATE = """
-- The new token exists: the client of Redis sent this again because the first answer was lost.
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[3])
return 1
"""


@dataclass(frozen=True, slots=True)
class Issued:
    """An issued access token, with its refresh token if there is one."""

    access: str
    refresh: str | None
    # The lifetime of the access token in seconds.
    lifetime: int


class Tokens:
    """The service that issues tokens and finds their apps. Every method may raise a RedisError."""

    def __init__(self, redis: Redis, keys: Keys, lifetime: int) -> None:
        """``lifetime`` is the lifetime of an access token in seconds."""
        self._redis = redis
        self._keys = keys
        self._prefix = f"{keys.prefix}oauth:"
        self._lifetime = lifetime
        self._rotate = redis.register_script(_ROTATE)
        # The holder of a token by the token's hash, and the time until which the entry is valid, in
        # seconds of the monotonic clock.
        self._cache: dict[str, tuple[str, float]] = {}

    def issue(self, app: App, *, refreshable: bool) -> Issued:
        access = secrets.token_urlsafe(32)
        refresh = secrets.token_urlsafe(32) if refreshable else None
        with self._redis.pipeline() as pipe:
            pipe.set(self._access(token_sha256(access)), _holder(app), ex=self._lifetime)
            if refresh is not None:
                key = self._refresh(app, refresh)
                pipe.set(key, _holder(app), ex=self._lifetime * _REFRESH_FACTOR)
            pipe.execute()
        return Issued(access, refresh, self._lifetime)

    def refresh(self, app: App, token: str) -> Issued | None:
        """New tokens for a refresh token, which is used up; None if it is not the app's."""
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        done = self._rotate(
            keys=[
                self._refresh(app, token),
                self._access(token_sha256(access)),
                self._refresh(app, refresh),
            ],
            args=[_holder(app), self._lifetime, self._lifetime * _REFRESH_FACTOR],
        )
        return Issued(access, refresh, self._lifetime) if done else None

    def app_of(self, token: str, accounts: Accounts) -> App | None:
        """The app that an access token was issued to, if the app's secret is unchanged."""
        if _TOKEN.fullmatch(token) is None:
            return None
        digest, now = token_sha256(token), time.monotonic()
        holder, until = self._cache.get(digest, ("", 0.0))
        if until <= now:
            found: Any = self._redis.get(self._access(digest))
            if found is None:
                self._cache.pop(digest, None)
                return None
            holder = found.decode()
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[digest] = holder, now + _CACHE_AGE
        app = accounts.clients.get(holder.partition(" ")[0])
        return app if app is not None and _holder(app) == holder else None

    def is_barred(self, client_id: str, address: str) -> bool:
        """Whether too many wrong secrets came from the address, so that even the right secret is
        refused."""
        failures: Any = self._redis.get(self._failures(client_id, address))
        return int(failures or 0) >= _ATTEMPTS

    def note_failure(self, client_id: str, address: str) -> None:
        """Count a wrong secret once, also where Redis was slow to answer."""
        key = self._failures(client_id, address)
        commands = [("INCR", key), ("EXPIRE", key, _ATTEMPTS_WINDOW)]
        once.run(self._redis, self._keys, once.new_mark(), commands)

    def _access(self, digest: str) -> str:
        return f"{self._prefix}access:{digest}"

    def _refresh(self, app: App, token: str) -> str:
        return f"{self._prefix}refresh:{app.client_id}:{token_sha256(token)}"

    def _failures(self, client_id: str, address: str) -> str:
        return f"{self._prefix}failures:{client_id}:{address}"


def _holder(app: App) -> str:
    """The holder of a token: the app and its secret. A change of the secret ends all tokens that
    were issued for it."""
    return f"{app.client_id} {token_sha256(app.client_secret_sha256 or '')[:16]}"
