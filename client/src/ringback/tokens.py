"""The token that a client sends: a fixed one, or one for a limited time that it asks for."""

import time

from ringback import requests
from ringback.answers import Answer, read, token
from ringback.requests import Request

# Seconds before a token ends at which the client asks for another one.
_EARLY = 30.0


class Tokens:
    """The token of a client. Raises ValueError unless either ``token`` or both others are given."""

    def __init__(self, fixed: str | None, client_id: str | None, client_secret: str | None) -> None:
        self.request: Request | None = None
        self._token = fixed
        # The end of the token in seconds of the monotonic clock; None for never.
        self._until: float | None = None
        if client_id is not None and client_secret is not None and fixed is None:
            requests.text("client_id", client_id)
            self.request = requests.token(client_id, requests.text("client_secret", client_secret))
        elif fixed is None or client_id is not None or client_secret is not None:
            raise ValueError("Give either token, or client_id and client_secret.")
        else:
            requests.text("token", fixed)
            if not fixed.isascii() or not fixed.isprintable():
                raise ValueError("token takes printable ASCII characters.")

    @property
    def current(self) -> str | None:
        """The token; None if it is time to ask for one."""
        if self._until is not None and time.monotonic() > self._until:
            return None
        return self._token

    def take(self, request: Request, answer: Answer) -> str:
        """Take the token of an answer. Raises RingbackError for another answer."""
        self._token, seconds = read(request, answer, token)
        self._until = time.monotonic() + seconds - _EARLY
        return self._token

    def refused(self, refused: str) -> bool:
        """Forget a token that the API refused. Returns whether there may be another one."""
        if self.request is not None and self._token == refused:
            self._token = None
        return self.request is not None
