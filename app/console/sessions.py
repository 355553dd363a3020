"""Console sessions in Redis. The browser has a session's random name in a cookie."""

import hmac
import json
import secrets
from typing import Any

from redis import Redis

from app.accounts.model import Accounts, App, token_sha256
from app.store.keys import Keys

# The lifetime of a session in seconds: a working day.
LIFETIME = 43_200
# The stand-in for the secret of an unknown client, so that the answer takes as long.
_NO_SECRET = "0" * 64


class Sessions:
    """The store of sessions. Every method may raise a RedisError."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._prefix = f"{keys.prefix}console:session:"

    def begin(self, app: App) -> str:
        """The name of a new session. Only the browser gets the name: Redis stores its hash."""
        name = secrets.token_urlsafe(32)
        kept = json.dumps({"app": app.id, "credentials": _credentials(app)})
        self._redis.set(self._key(name), kept, ex=LIFETIME)
        return name

    def app_of(self, name: str, accounts: Accounts) -> App | None:
        """The app of a session; None if the session has ended. A change of the app's token or
        secret ends it."""
        kept: Any = self._redis.get(self._key(name)) if name else None
        if kept is None:
            return None
        found = json.loads(kept)
        app = accounts.apps.get(found["app"])
        return app if app and _credentials(app) == found["credentials"] else None

    def end(self, name: str) -> None:
        self._redis.delete(self._key(name))

    def _key(self, name: str) -> str:
        return self._prefix + token_sha256(name)


def app_of_secret(accounts: Accounts, client_id: str, secret: str) -> App | None:
    """The app with that client id and secret."""
    app = accounts.clients.get(client_id)
    kept = app.client_secret_sha256 if app is not None else None
    return app if hmac.compare_digest(token_sha256(secret), kept or _NO_SECRET) else None


def _credentials(app: App) -> str:
    """The hash of an app's credentials, made of their hashes."""
    return token_sha256(f"{app.token_sha256} {app.client_secret_sha256}")
