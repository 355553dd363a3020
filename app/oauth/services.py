"""Issued tokens. Redis stores them as hashes for all processes, for a limited time.

Each refresh of a token makes the next pair of an access and a refresh token. The pairs that come
from one request for tokens are a family. A used refresh token is kept as a mark of where the next
pair is, so a second use finds the family and ends it: one of its two users has stolen it
(RFC 9700, section 4.14.2).
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from redis import Redis

from app.accounts.credentials import Credential
from app.accounts.model import Accounts, App, token_sha256
from app.accounts.scopes import AppScope
from app.store import once
from app.store.keys import Keys
from app.store.mint import Mint

# The lifetime of a refresh token as a multiple of the access token's.
_REFRESH_FACTOR = 24
# The form of an issued token. Redis is not asked for any other.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
# Seconds for which this process remembers a token, and the most tokens that it remembers. A revoked
# token counts nowhere after a second.
_CACHE_AGE = 0.5
_CACHE_SIZE = 1024
# Wrong secrets for one client from one address within so many seconds, after which every secret
# is refused from there. The right one is not if this is one of the last addresses that the client
# came from with it: nobody behind the same address may lock it out.
_ATTEMPTS = 10
_ATTEMPTS_WINDOW = 60
_MOST_KNOWN = 100
_KNOWN_FOR = 30 * 86_400
# The most pairs of a family that are looked for in each direction: a day of refreshing each minute.
_MOST_PAIRS = 1500

# Use up a refresh token and issue new tokens in one step, so that only one of two requests gets
# new tokens.
# KEYS  1 the refresh token  2 the new access token  3 the new refresh token
# ARGV  1 what Redis holds of the refresh token  2 the mark that takes its place
#       3 what it is to hold of the access token  4 the same of the new refresh token
#       5 lifetime of the access token in seconds  6 lifetime of the refresh token in seconds
# Returns 1, or 0 if the refresh token was used meanwhile.
_ROTATE = """
-- The new token exists: the client of Redis sent this again because the first answer was lost.
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[5])
redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[6])
return 1
"""


@dataclass(frozen=True, slots=True)
class Issued:
    """An issued access token, with its refresh token if there is one."""

    access: str
    refresh: str | None
    # The lifetime of the access token in seconds.
    lifetime: int
    scopes: tuple[AppScope, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kept:
    """What Redis holds of a token, as JSON. Of other tokens it has the hashes."""

    # The app and its secret: a change of the secret ends all tokens that were issued for it.
    holder: str
    scopes: tuple[str, ...]
    # Of a refresh token: the access token of its pair, the refresh token before it, and once it is
    # used the one after it.
    access: str | None = None
    before: str | None = None
    after: str | None = None
    # Of an access token: the refresh token of its pair.
    refresh: str | None = None

    def dumps(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if value})

    @classmethod
    def loads(cls, text: bytes | None) -> "_Kept | None":
        if text is None:
            return None
        try:
            values = json.loads(text)
        except ValueError:
            # An older Ringback wrote the holder alone.
            return cls(text.decode(), tuple(AppScope))
        return cls(**{**values, "scopes": tuple(values.get("scopes", ()))})


class Tokens:
    """The service that issues tokens and finds their apps. Every method may raise a RedisError."""

    def __init__(
        self, redis: Redis, keys: Keys, lifetime: int, now: Callable[[], float] = time.time
    ) -> None:
        """``lifetime`` is the lifetime of an access token in seconds, ``now`` epoch seconds."""
        self._redis = redis
        self._keys = keys
        self._prefix = f"{keys.prefix}oauth:"
        self._lifetime = lifetime
        self.now = now
        self._rotate = redis.register_script(_ROTATE)
        # What Redis holds of a token by the token's hash, and the time until which the entry is
        # valid, in seconds of the monotonic clock.
        self._cache: dict[str, tuple[_Kept | None, float]] = {}
        self._mint = Mint(redis, keys.mint)

    def issue(
        self,
        app: App,
        *,
        refreshable: bool,
        secret: Credential | None = None,
        scopes: Collection[AppScope] | None = None,
        address: str | None = None,
    ) -> Issued:
        """Tokens for an app that came with ``secret`` from the address, for these scopes or for all
        of the app's."""
        access = self._mint.make()
        refresh = secrets.token_urlsafe(32) if refreshable else None
        digest, after = token_sha256(access), refresh and token_sha256(refresh)
        given = tuple(app.granted if scopes is None else scopes)
        holder = _holder(app, secret or app.all_client_secrets[0])
        with self._redis.pipeline() as pipe:
            kept = _Kept(holder, given, refresh=after)
            pipe.set(self._access(digest), kept.dumps(), ex=self._lifetime)
            if after is not None:
                kept = _Kept(holder, given, access=digest)
                key = self._refresh(app, after)
                pipe.set(key, kept.dumps(), ex=self._lifetime * _REFRESH_FACTOR)
            if address is not None:
                self._remember(app, address, pipe)
            pipe.execute()
        return Issued(access, refresh, self._lifetime, given)

    def scopes_of(self, app: App, refresh: str) -> tuple[AppScope, ...]:
        """The scopes that a refresh token was issued for; none if it is not the app's."""
        kept = self._kept(self._refresh(app, token_sha256(refresh)))
        return _granted(app, kept) if kept is not None else ()

    def refresh(
        self, app: App, token: str, scopes: Collection[AppScope] | None = None
    ) -> Issued | None:
        """New tokens for a refresh token, which is used up, for fewer scopes if any are given.

        None if the token is not the app's. If it was used before, its family ends.
        """
        digest = token_sha256(token)
        key = self._refresh(app, digest)
        text: Any = self._redis.get(key)
        kept = _Kept.loads(text)
        if kept is None or not self._holds(app, kept.holder):
            return None
        if kept.after is not None:
            self._end_family(app, digest, kept)
            return None
        access, refresh = self._mint.make(), secrets.token_urlsafe(32)
        new_access, new = token_sha256(access), token_sha256(refresh)
        # The next refresh token keeps all scopes (RFC 6749, section 6).
        given = tuple(_granted(app, kept) if scopes is None else scopes)
        done = self._rotate(
            keys=[key, self._access(new_access), self._refresh(app, new)],
            args=[
                text,
                replace(kept, after=new).dumps(),
                _Kept(kept.holder, given, refresh=new).dumps(),
                _Kept(kept.holder, kept.scopes, access=new_access, before=digest).dumps(),
                self._lifetime,
                self._lifetime * _REFRESH_FACTOR,
            ],
        )
        if done:
            return Issued(access, refresh, self._lifetime, given)
        if (used := self._kept(key)) is not None:
            self._end_family(app, digest, used)
        return None

    def revoke(self, app: App, token: str) -> None:
        """End an access token, or a refresh token with its family (RFC 7009). A token that is not
        the app's stays as it is."""
        digest = token_sha256(token)
        key = self._refresh(app, digest)
        if (kept := self._kept(key)) is not None and _client(kept) == app.client_id:
            self._end_family(app, digest, kept)
            return
        key = self._access(digest)
        if (kept := self._kept(key)) is not None and _client(kept) == app.client_id:
            self._redis.delete(key)
            self._cache.pop(digest, None)

    def is_issued(self, token: str) -> bool:
        """Whether a token may have been issued, as far as can be told without a look-up."""
        return self._mint.made(token)

    def app_of(self, token: str, accounts: Accounts) -> App | None:
        """The app that an access token was issued to, with the scopes of the token, if the app and
        its secret still count."""
        if _TOKEN.fullmatch(token) is None:
            return None
        return self.app_of_sha256(token_sha256(token), accounts)

    def app_of_sha256(self, digest: str, accounts: Accounts) -> App | None:
        """The app of the access token with this hash, as :meth:`app_of` finds it."""
        now = time.monotonic()
        known, until = self._cache.get(digest, (None, 0.0))
        if until <= now:
            known = self._kept(self._access(digest))
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[digest] = known, now + _CACHE_AGE
        if known is None:
            return None
        app = accounts.clients.get(_client(known))
        if app is None or not app.counts(self.now) or not self._holds(app, known.holder):
            return None
        given = _granted(app, known)
        return app if given == app.granted else replace(app, scopes=given)

    def remember(self, app: App, address: str) -> None:
        """Remember that the app came with its right secret from the address."""
        with self._redis.pipeline() as pipe:
            self._remember(app, address, pipe)
            pipe.execute()

    def _remember(self, app: App, address: str, pipe: Redis) -> None:
        known = self._known(app.client_id)
        pipe.zadd(known, {address: self.now()})
        pipe.zremrangebyrank(known, 0, -_MOST_KNOWN - 1)
        pipe.expire(known, _KNOWN_FOR)

    def has_failed(self, client_id: str, address: str) -> bool:
        """Whether too many wrong secrets of the client came from the address."""
        failures: Any = self._redis.get(self._failures(client_id, address))
        return int(failures or 0) >= _ATTEMPTS

    def is_barred(self, client_id: str, address: str) -> bool:
        """Whether even the right secret is refused from the address after too many wrong ones."""
        if not self.has_failed(client_id, address):
            return False
        return self._redis.zscore(self._known(client_id), address) is None

    def note_failure(self, client_id: str, address: str) -> None:
        """Count a wrong secret once, also where Redis was slow to answer."""
        key = self._failures(client_id, address)
        commands = [("INCR", key), ("EXPIRE", key, _ATTEMPTS_WINDOW)]
        once.run(self._redis, self._keys, once.new_mark(), commands)

    def _kept(self, key: str) -> _Kept | None:
        text: Any = self._redis.get(key)
        return _Kept.loads(text)

    def _holds(self, app: App, holder: str) -> bool:
        """Whether the secret with which a token was asked for still counts."""
        return any(
            _holder(app, secret) == holder and secret.counts(self.now)
            for secret in app.all_client_secrets
        )

    def _end_family(self, app: App, digest: str, kept: _Kept) -> None:
        """End all pairs of a family, from the refresh token with that hash in both directions."""
        gone = [self._access(kept.access)] if kept.access else []
        for way in ("after", "before"):
            at: _Kept | None = kept
            for _ in range(_MOST_PAIRS):
                other = getattr(at, way) if at is not None else None
                if other is None:
                    break
                key = self._refresh(app, other)
                gone.append(key)
                if (at := self._kept(key)) is not None and at.access:
                    gone.append(self._access(at.access))
        self._redis.delete(self._refresh(app, digest), *gone)
        self._cache.clear()

    def _access(self, digest: str) -> str:
        return f"{self._prefix}access:{digest}"

    def _refresh(self, app: App, digest: str) -> str:
        return f"{self._prefix}refresh:{app.client_id}:{digest}"

    def _failures(self, client_id: str, address: str) -> str:
        return f"{self._prefix}failures:{client_id}:{address}"

    def _known(self, client_id: str) -> str:
        return f"{self._prefix}known:{client_id}"


def _holder(app: App, secret: Credential) -> str:
    return f"{app.client_id} {token_sha256(secret.sha256)[:16]}"


def _client(kept: _Kept) -> str:
    return kept.holder.partition(" ")[0]


def _granted(app: App, kept: _Kept) -> tuple[AppScope, ...]:
    """The scopes of a token that the app still has."""
    return tuple(scope for scope in app.granted if scope in kept.scopes)
