"""When the client sends a request again, and when it gives up. Nothing here sends or waits."""

import random
import time

from ringback.answers import Answer, error_of
from ringback.errors import OutcomeUnknown, RingbackError, Unavailable
from ringback.requests import Request

# The most seconds that the API may have the client wait before it asks again.
PATIENCE = 60.0
# The seconds of the first pause. Each is twice as long as the one before, up to the longest.
_FIRST, _LONGEST = 0.2, 5.0
# A later copy of the request may have another answer. 502 and 504 are those of proxies.
_PASSING = (429, 502, 503, 504)


class Limit:
    """The time that a request may take, its retries and pauses included, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


class NoAnswer(Exception):
    """No answer came. ``sent``: the API may have got the request."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Tries:
    """The attempts at one request."""

    def __init__(self, request: Request, retries: int, limit: Limit) -> None:
        self._request = request
        # A request that must be sent once is not sent again, whatever the answer.
        self._left = 0 if request.once else retries
        self._limit = limit
        self._pause = _FIRST
        self._renewed = False
        # Whether an earlier attempt may have been carried out.
        self._unknown = False

    def renews(self, answer: Answer) -> bool:
        """Whether this is the first refusal of the token. Nothing was done then."""
        first = answer.status == 401 and not self._renewed
        self._renewed = self._renewed or first
        return first

    def after(self, answer: Answer) -> float | None:
        """The seconds to wait before the next attempt; None if the answer is the last one. Raises
        RingbackError for the last one if it refuses the request."""
        if answer.status in (200, 202):
            return None
        error = error_of(self._request, answer)
        self._unknown |= isinstance(error, OutcomeUnknown)
        if answer.status not in _PASSING:
            raise error
        return self._next(error, answer.retry_after)

    def after_silence(self, failure: NoAnswer) -> float:
        """The seconds to wait before the next attempt. Raises RingbackError if there is none."""
        self._unknown |= failure.sent and self._request.changes
        return self._next(Unavailable(0, "api_unreachable", str(failure)), None)

    def _next(self, error: RingbackError, wait: float | None) -> float:
        if wait is None:
            # Not all clients of an API that was away come back in the same moment.
            wait = self._pause * random.uniform(0.5, 1.0)
            self._pause = min(self._pause * 2, _LONGEST)
        if self._left <= 0 or wait > PATIENCE or wait >= self._limit.left:
            raise self._known(error)
        self._left -= 1
        return wait

    def _known(self, error: RingbackError) -> RingbackError:
        """The error, or OutcomeUnknown if an attempt may have been carried out."""
        if not self._unknown:
            return error
        unknown = OutcomeUnknown(
            error.status, error.code, error.message, error.details, error.retry_after
        )
        unknown.nonce = self._request.nonce
        return unknown
