"""The client of a request that a proxy forwards: its address, and the scheme and host it asked for.

RINGBACK_PROXIES lists the networks of the proxies. Nobody else's word counts: with it any client
could choose its address, and so get around each limit and right that depends on one.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from flask import Flask
from redis import Redis
from redis.exceptions import RedisError

from app.store.keys import Keys
from app.web.services import EXTENSION

log = logging.getLogger(__name__)

Networks = Sequence[IPv4Network | IPv6Network]

# The variables of WSGI for the headers that say where a request comes from.
_FOR, _FORWARDED = "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"
_PROTO, _HOST = "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST"
# Set for a request from a proxy: no HTTP header can set it.
_BY_PROXY = "ringback.by_proxy"
# Seconds between two notes of an address that is no proxy, and for which `ringback doctor` knows.
_NOTED_EVERY = 60.0
_KNOWN = 3_600


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of the client; None for a scheme or host that no proxy tells."""

    address: str
    scheme: str | None = None
    host: str | None = None


def parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address as a connection or a header names it: perhaps with a port, in brackets, or as an
    IPv4 address in IPv6. None for any other text."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(4096)
def is_proxy(address: str, proxies: Networks) -> bool:
    """Whether an address is in the networks of the proxies."""
    found = parsed(address)
    return found is not None and any(
        found.version == network.version and found in network for network in proxies
    )


def client(peer: str, told: Mapping[str, str], proxies: Networks) -> Client:
    """The client of a request from ``peer`` with these variables of WSGI.

    Each proxy adds the address that it was connected from. The client is the last address that is
    no proxy's: all before it are the client's own words. X-Forwarded-For counts before Forwarded
    (RFC 7239), since most proxies set the first alone and pass on a client's Forwarded.
    """
    if not is_proxy(peer, proxies):
        return Client(peer)
    if _FOR in told:
        chain = [{"for": each} for each in _list(told[_FOR])]
    else:
        chain = [_pairs(each) for each in _list(told.get(_FORWARDED, ""))]
    found, hops = peer, 0
    for each in reversed(chain):
        address = parsed(each.get("for", ""))
        if address is None:
            # Not an address: the nearest proxy is the last that is known.
            break
        found, hops = str(address), hops + 1
        if not is_proxy(found, proxies):
            break
    # The words of the outermost proxy, which the client spoke to.
    outer = chain[-hops] if hops else {}
    scheme = _told_by(told.get(_PROTO), hops) or outer.get("proto", "")
    host = _told_by(told.get(_HOST), hops) or outer.get("host", "")
    scheme = scheme.lower()
    return Client(found, scheme if scheme in ("http", "https") else None, host or None)


def told_in(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The variables of WSGI for these headers that :func:`client` reads. Each proxy of a chain may
    send a header of its own."""
    found: dict[str, str] = {}
    for name, value in headers:
        variable = f"HTTP_{name.upper().replace('-', '_')}"
        if variable in (_FOR, _FORWARDED):
            found[variable] = f"{found[variable]},{value}" if variable in found else value
    return found


def _list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _pairs(element: str) -> dict[str, str]:
    """The pairs of an element of Forwarded."""
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _told_by(text: str | None, hops: int) -> str:
    """The word of the outermost of so many proxies: each may have added one, or replaced all."""
    words = _list(text or "")
    return words[-min(len(words), max(hops, 1))] if words else ""


class UnknownProxies:
    """The note of an address that sends X-Forwarded-For and is no proxy: it may be one that
    RINGBACK_PROXIES lacks."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.unknown_proxy
        self._noted = -_NOTED_EVERY

    def note(self, address: str) -> None:
        now = time.monotonic()
        if now - self._noted < _NOTED_EVERY:
            return
        self._noted = now
        log.warning(
            "%s sends X-Forwarded-For, and is not in RINGBACK_PROXIES. If it is a proxy of yours, "
            "add it: until then all its clients count as one address",
            address,
        )
        with suppress(RedisError):
            self._redis.set(self._key, address, ex=_KNOWN)

    def known(self) -> str | None:
        """The address that was noted last, in the last hour. Raises RedisError."""
        found: Any = self._redis.get(self._key)
        return found.decode(errors="replace") if found is not None else None


def believe_proxies(app: Flask, proxies: Networks) -> None:
    """Have each request of ``app`` tell of the client where a proxy forwards it: its address
    (``request.remote_addr``), its scheme and its host."""
    serve = app.wsgi_app

    def _serve(environ: dict[str, Any], start_response: Any) -> Any:
        peer = environ.get("REMOTE_ADDR") or ""
        if proxies and is_proxy(peer, proxies):
            found = client(peer, environ, proxies)
            environ[_BY_PROXY] = True
            environ["REMOTE_ADDR"] = found.address
            environ["wsgi.url_scheme"] = found.scheme or environ["wsgi.url_scheme"]
            if found.host is not None:
                environ["HTTP_HOST"] = found.host
        else:
            if peer.startswith("::ffff:"):
                # As the audit and the networks of accounts have it.
                environ["REMOTE_ADDR"] = peer = str(parsed(peer) or peer)
            if _FOR in environ:
                app.extensions[EXTENSION][UnknownProxies].note(peer)
        return serve(environ, start_response)

    app.wsgi_app = _serve  # type: ignore[method-assign]


def is_by_proxy(environ: Mapping[str, Any]) -> bool:
    """Whether a proxy forwards the request of this WSGI environment."""
    return _BY_PROXY in environ
