"""Console sessions in Redis. The browser has a session's random name in a cookie."""

import json
from collections.abc import Callable
from typing import Any

from redis import Redis

from app.accounts.credentials import Credential, matching
from app.accounts.model import Accounts, App, token_sha256
from app.store.keys import Keys
from app.store.mint import Mint

# The lifetime of a session in seconds: a working day.
LIFETIME = 43_200
# The stand-in for the secret of an unknown client, so that the answer takes as long.
_NO_SECRET = (Credential("0" * 64),)


class Sessions:
    """The store of sessions. Every method may raise a RedisError."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._prefix = f"{keys.prefix}console:session:"
        self._mint = Mint(redis, keys.mint)

    def begin(self, app: App, credential: Credential) -> str:
        """The name of a new session. Only the browser gets the name: Redis stores its hash."""
        name = self._mint.make()
        kept = json.dumps({"app": app.id, "credential": token_sha256(credential.sha256)})
        self._redis.set(self._key(name), kept, ex=LIFETIME)
        return name

    def app_of(self, name: str, accounts: Accounts, now: Callable[[], float]) -> App | None:
        """The app of a session; None if the session has ended. The session ends with the app, and
        with the token or secret that it began with."""
        kept: Any = self._redis.get(self._key(name)) if self._mint.made(name) else None
        if kept is None:
            return None
        found = json.loads(kept)
        app = accounts.apps.get(found["app"])
        if app is None or not app.counts(now):
            return None
        begun = found.get("credential")
        known = (*app.all_tokens, *app.all_client_secrets)
        still = any(token_sha256(each.sha256) == begun and each.counts(now) for each in known)
        return app if still else None

    def end(self, name: str) -> None:
        self._redis.delete(self._key(name))

    def _key(self, name: str) -> str:
        return self._prefix + token_sha256(name)


def app_of_token(
    accounts: Accounts, token: str, now: Callable[[], float]
) -> tuple[App, Credential] | None:
    """The app of a permanent token, and the token."""
    app = accounts.app_of_token(token, now)
    found = matching(app.all_tokens, token) if app is not None else None
    return (app, found) if app is not None and found is not None else None


def app_of_secret(
    accounts: Accounts, client_id: str, secret: str, now: Callable[[], float]
) -> tuple[App, Credential] | None:
    """The app with that client id and secret, and the secret."""
    app = accounts.clients.get(client_id)
    found = matching(app.all_client_secrets if app is not None else _NO_SECRET, secret)
    if app is None or found is None or not app.counts(now) or not found.counts(now):
        return None
    return app, found
