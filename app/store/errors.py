"""The errors of a change of a call, apart from those of Redis itself."""


class OutcomeUnknown(Exception):
    """The process lost Redis after it sent a new call: Redis may hold the call, or not."""


class NotReplicated(Exception):
    """Redis holds the change, but too few replicas confirmed it in time."""
