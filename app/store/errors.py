"""The errors of a change of a call, apart from those of Redis itself."""

from redis.exceptions import ConnectionError as RedisConnectionError


class LimitsMissing(RedisConnectionError):
    """Redis holds no limits of calls: it came back empty, and nobody has written them yet."""


class InMaintenance(RedisConnectionError):
    """An operator has Ringback accept nothing for a while."""


class OutcomeUnknown(Exception):
    """The process lost Redis after it sent a new call: Redis may hold the call, or not."""


class NotReplicated(Exception):
    """Redis holds the change, but too few replicas confirmed it in time."""
