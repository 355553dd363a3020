"""The headers of requests and of answers, in the form of the description."""

from collections.abc import Mapping
from typing import Any

REQUEST_ID: dict[str, Any] = {
    "description": "The id of the request: the one that it sent, or a new one.",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "example": "01J9ZK4Q8W",
}

REQUEST_HEADERS: Mapping[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "The nonce of the calls, for programs that send it as a header.",
        "schema": {"type": "string", "maxLength": 255},
    },
    "Range": {
        "description": "The part of the file to answer with (RFC 9110): `bytes=0-65535`.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "The ETag of an earlier answer: the answer is 304 if nothing has changed.",
        "schema": {"type": "string"},
    },
}

# The headers by which answers tell the rate limits of an app.
LIMITS = ("RateLimit", "RateLimit-Policy")

ANSWER_HEADERS: Mapping[str, dict[str, Any]] = {
    "ETag": {
        "description": "The tag of this answer, for `If-None-Match`.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "`true` if an earlier request with the same nonce placed the calls.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {
        "description": "The URL of the first call.",
        "required": True,
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "What the app may still send (`r`), and in how many seconds more (`t`).",
        "schema": {"type": "string"},
        "example": '"requests";r=4999;t=1, "calls";r=999;t=1',
    },
    "RateLimit-Policy": {
        "description": "The limits: so many at once (`q`), and again in so many seconds (`w`).",
        "schema": {"type": "string"},
        "example": '"requests";q=5000;w=10, "calls";q=1000;w=10',
    },
    "Retry-After": {
        "description": "Seconds after which a retry may succeed.",
        "schema": {"type": "integer"},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate (RFC 6750; of the token endpoint RFC 7617).",
        "required": True,
        "schema": {"type": "string"},
    },
}
