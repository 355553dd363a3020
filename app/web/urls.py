"""The URLs that clients give Ringback to call: their form, and the target that they lead to."""

import re
from urllib.parse import SplitResult, urlsplit

URL_LENGTH = 2048
# The characters that RFC 3986 allows in a URI.
_URI = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


def is_callable(url: str) -> bool:
    """Whether a text is an http or https URL of at most URL_LENGTH characters, without a user or a
    fragment. The process that connects checks the address (workers.webhooks.target)."""
    try:
        # urlsplit raises ValueError for a bad host in brackets, `port` for a bad port.
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return (
        whole
        and len(url) <= URL_LENGTH
        and _URI.fullmatch(url) is not None
        and parts.scheme in ("http", "https")
        and "@" not in parts.netloc
        and "#" not in url
    )


def target(url: str, app: str) -> str:
    """The target of an app's URL: ``APP https://host:port``. The messages of one app to one target
    go in order, and only so many at a time. No app waits for another's receiver."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{app} {parts.scheme}://{f'[{host}]' if ':' in host else host}:{port(parts)}"


def app_of(target: str) -> str:
    """The app of a target."""
    return target.rpartition(" ")[0]


def port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)
