"""Signatures of jobs: a program proves which app it is, and no secret stands in the job.

The key is the SHA-256 of a client secret in hex, which is all that Ringback keeps of the secret. A
signature counts in the queue alone, which only a program that may write to Redis reaches.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from app.accounts.credentials import Credential
from app.accounts.model import App

# Seconds by which the time of a signature may differ from Redis' clock.
AGE = 300


def canonical(function: str, job_id: str, words: Mapping[str, Any]) -> str:
    """The text that is signed: the job's function, its id, and its keyword arguments but for the
    signature as JSON in the form of RFC 8785, each on a line.

    Raises ValueError for a number with a fraction: languages write these in different ways.
    """
    signed = {name: value for name, value in words.items() if name != "signature"}
    if _has_float(signed):
        raise ValueError("A signed request takes whole numbers.")
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{function}\n{job_id}\n{text}"


def signature(secret_sha256: str, text: str) -> str:
    """The HMAC-SHA256 of a canonical text, in hex."""
    return hmac.new(secret_sha256.encode(), text.encode(), hashlib.sha256).hexdigest()


def signer(app: App, text: str, given: str, now: Callable[[], float]) -> Credential | None:
    """The client secret of the app that a signature was made with, if it counts now."""
    found = None
    for each in app.all_client_secrets:
        # bytes: a text with other characters than ASCII cannot be compared.
        if hmac.compare_digest(signature(each.sha256, text).encode(), given.encode()):
            found = each
    return found if found is not None and found.counts(now) else None


def _has_float(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_float, value.values()))
    return any(map(_has_float, value)) if isinstance(value, list) else isinstance(value, float)
