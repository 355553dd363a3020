"""Rate limits: the requests and calls of an app, and the refused tokens of an address."""

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv6Address, ip_address, ip_network

from flask import Flask, Response, g, request
from redis import Redis

from app.errors import ApiError, api_error
from app.settings import Settings
from app.store.accepting import Accepted
from app.store.buckets import Policy, Shared, whole_seconds
from app.store.keys import Keys
from app.telemetry import counting
from app.web.services import service

# The key in the WSGI environment for a request that was counted: a stream looks again, every
# second, who its caller is.
_COUNTED = "ringback.counted"
# For how many apps, and for how many addresses, a process keeps buckets.
_MOST = 10_000
# The kinds of buckets, as headers and metrics name them: two of an app, one of an address.
REQUESTS, CALLS, ADDRESS = "requests", "calls", "address"
# As how many requests a token, and one with a refresh token or a session of the console, count:
# Redis keeps each for hours.
TOKEN, SESSION = 20, 100
# The bits of an IPv6 address that one customer of a provider has for itself.
_IPV6_PREFIX = 64


class RateLimits:
    """The service that knows how much each app may still send, and how many refused tokens each
    address."""

    def __init__(self, buckets: Mapping[str, Shared]) -> None:
        """``buckets`` are those of each kind. No limit holds for a kind that is missing."""
        self.buckets = buckets
        self._of_apps = {kind: buckets[kind] for kind in (REQUESTS, CALLS) if kind in buckets}
        # The header RateLimit-Policy, '' if no limit holds for apps.
        self.policy = ", ".join(
            f'"{kind}";q={each.policy.size};w={whole_seconds(each.policy.size / each.policy.rate)}'
            for kind, each in self._of_apps.items()
        )

    @classmethod
    def of(cls, settings: Settings, redis: Redis, keys: Keys) -> "RateLimits":
        """The limits that the settings ask for."""
        policies = {
            REQUESTS: Policy(settings.app_requests, settings.app_requests_burst),
            CALLS: Policy(settings.app_calls, settings.app_calls_burst),
            ADDRESS: Policy(settings.refused_tokens / 60, settings.refused_tokens),
        }
        return cls(
            {
                kind: Shared(redis, partial(keys.bucket, kind), policy, _MOST)
                for kind, policy in policies.items()
                if policy.rate
            }
        )

    def take(self, kind: str, of: str, tokens: int = 1, *, reserve: bool = False) -> None:
        """Take tokens of a kind. With ``reserve`` the bucket may owe as much as it holds. Raises
        ApiError 429, and takes none then."""
        if (buckets := self.buckets.get(kind)) is not None:
            wait = buckets.take(of, tokens, below=buckets.policy.size if reserve else 0)
            if wait:
                raise _refusal(kind, wait)

    def put(self, kind: str, of: str, tokens: int) -> None:
        if (buckets := self.buckets.get(kind)) is not None:
            buckets.put(of, tokens)

    def check(self, kind: str, of: str) -> None:
        """Raise ApiError 429 if the bucket has not even one token."""
        buckets = self.buckets.get(kind)
        if buckets is not None and (level := buckets.level(of)) < 1:
            raise _refusal(kind, (1 - level) / buckets.policy.rate)

    def header(self, app: str) -> str:
        """The header RateLimit: what the app may still send."""
        items = []
        for kind, buckets in self._of_apps.items():
            level = buckets.level(app)
            wait = whole_seconds((1 - level) / buckets.policy.rate)
            items.append(f'"{kind}";r={max(0, int(level))};t={wait}')
        return ", ".join(items)

    def refuse_token(self, address: str) -> None:
        """Count a request without a good token. Raises ApiError 429 if there were too many from
        this address."""
        self.take(ADDRESS, network(address))

    def check_address(self, address: str) -> None:
        """Raise ApiError 429 if too many requests without a good token came from the address."""
        self.check(ADDRESS, network(address))


def network(address: str) -> str:
    """What counts as one address: an IPv6 network of 64 bits, because a single client may use all
    of its addresses."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ip_network((int(known), _IPV6_PREFIX), strict=False))
    return address


def _refusal(kind: str, wait: float) -> ApiError:
    counting.request_refused(kind)
    return api_error("rate_limit_exceeded", retry_after=whole_seconds(wait), cause=kind)


def count_request(app: str, requests: int = 1) -> None:
    """Count the present request of an app once, as so many requests. Raises ApiError 429. A hang-up
    ends what costs money, so it has a reserve: it is refused only once the bucket owes as much as
    it holds."""
    if _COUNTED in request.environ:
        return
    request.environ[_COUNTED] = True
    limits = service(RateLimits)
    if limits.policy:
        g.limited = app
        limits.take(REQUESTS, app, requests, reserve=request.method == "DELETE")


def check_calls(app: str) -> None:
    """Raise ApiError 429 if the app may place no call now: before its request is read."""
    service(RateLimits).check(CALLS, app)


def place_calls(app: str, calls: int, place: Callable[[], Accepted]) -> Accepted:
    """Place so many calls by ``place``. Each takes a token, which comes back if none is placed: the
    request is refused, or an earlier one with the same nonce placed them. Raises ApiError 429
    before anything is placed."""
    limits, new = service(RateLimits), False
    limits.take(CALLS, app, calls)
    try:
        accepted = place()
        new = accepted.new
        return accepted
    finally:
        if not new:
            limits.put(CALLS, app, calls)


def tell_limits(app: Flask) -> None:
    """Tell each app in the answers of ``app`` what it may still send, by the headers of
    draft-ietf-httpapi-ratelimit-headers."""

    @app.after_request
    def _tell(response: Response) -> Response:
        if (name := g.get("limited")) is not None:
            limits = service(RateLimits)
            response.headers["RateLimit-Policy"] = limits.policy
            response.headers["RateLimit"] = limits.header(name)
        return response
