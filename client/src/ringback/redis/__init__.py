"""Calls as they stand in Redis: read them, wait for a state, follow all changes.

It needs redis-py alone, the extra ``ringback[redis]``. docs/redis.md describes what it reads.
"""

from ringback.redis.async_calls import AsyncCalls
from ringback.redis.calls import Calls
from ringback.redis.values import Call, Change, Leg

__all__ = ["AsyncCalls", "Call", "Calls", "Change", "Leg"]
