"""The index of calls by metadata: a sorted set for each organization, key and value.

It holds the calls that have metadata and no others, so a search reads what it finds, not all calls
of the organization. A call stays in it while Redis keeps the call, also once it has ended.
"""

import json
from collections.abc import Iterator
from hashlib import sha256

from app.calls.model import Call
from app.store.keys import Keys

# The most seconds from a call's acceptance to its end, with all its waiting.
LONGEST = 259_200


def key(keys: Keys, organization: str, name: str, value: str) -> str:
    """The key of the calls that show to an organization (``0003``) and have this metadata."""
    # A value may be as long as the metadata.
    digest = sha256(f"{name}:{value}".encode()).hexdigest()[:32]
    return keys.metadata_calls(organization, digest)


def commands(keys: Keys, old: Call | None, new: Call) -> Iterator[tuple[str, ...]]:
    """The commands that add a new call to the index, and a call that an action brings another
    organization into."""
    if new.metadata is None or (old is not None and old.legs is new.legs):
        return
    known = old.organizations if old is not None else ()
    kept = LONGEST + new.retention
    for organization in new.organizations:
        if organization in known:
            continue
        for name, value in json.loads(new.metadata).items():
            index = key(keys, organization, name, value)
            yield "ZADD", index, str(new.accepted), new.id
            # A call that is no longer kept leaves with the next one, or all do with the last one.
            yield "ZREMRANGEBYSCORE", index, "-inf", str(new.accepted - kept)
            yield "EXPIRE", index, str(kept)
