"""The id of a request, by which an answer and the log lines of its request find each other."""

import re
import secrets

HEADER = "X-Request-Id"
# The name of the header in a WSGI environment, and among the headers that gunicorn has read.
ENVIRON, UPPER = "HTTP_X_REQUEST_ID", "X-REQUEST-ID"

# The characters that ids of other programs consist of. None of them ends a line or a quoted text.
_TAKEN = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")


def request_id(sent: str | None) -> str:
    """The id that the client or a proxy sent if it can be taken over, else a new one."""
    if sent is not None and _TAKEN.fullmatch(sent):
        return sent
    return secrets.token_hex(12)
