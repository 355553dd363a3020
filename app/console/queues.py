"""The organizations whose calls wait for their turn."""

from typing import Any

from redis import Redis

from app.accounts.model import Accounts
from app.store.keys import Keys

# The most organizations shown.
_MOST = 200


def lines(redis: Redis, keys: Keys, accounts: Accounts) -> list[dict[str, Any]]:
    """The queue of each organization: how many calls wait for their turn, and since when."""
    names = {o.id: o.name for o in accounts.organizations.values()}
    ids = [one.decode() for one in redis.zrange(keys.turns, 0, _MOST - 1)]  # type: ignore[union-attr]
    with redis.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.zcard(keys.line(one))
            pipe.zrange(keys.line(one), 0, 0, withscores=True)
        replies = pipe.execute()
    return [
        {
            "organization": names.get(one, one),
            "waiting": count,
            "since": first[0][1] if first else None,
        }
        for one, count, first in zip(ids, replies[0::2], replies[1::2], strict=True)
        if count
    ]
