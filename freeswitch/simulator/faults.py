"""The faults of a simulated switch."""

from dataclasses import dataclass

QUEUE_LIMIT = 100_000
"""The length of a listener's queue of events, as in mod_event_socket."""


@dataclass(slots=True)
class Faults:
    """The faults in force."""

    delay: float = 0.0
    """Seconds that every event waits in a listener's queue, whatever the switch's speed."""
    double: float = 0.0
    """The probability that a listener gets an event twice in a row."""
    drop: float = 0.0
    """The probability that a listener never gets an event."""
    drop_names: tuple[str, ...] = ()
    """The names of the events that may be dropped. Empty means all."""
    queue: int = QUEUE_LIMIT
    """The most events that wait for a listener. Any more are lost."""
    refuse: str | None = None
    """The cause with which every originate fails before there is a channel."""
    cost: float = 0.0
    """Seconds of the switch's one CPU before a call's first channel, and again before each phone
    rings."""
    growth: float = 0.0
    """The part by which that is more for each other piece of work that waits for the CPU."""
    reject: bool = False
    """Whether every `bgapi` is answered `-ERR`, and not carried out."""
    swallow: bool = False
    """Whether no `bgapi` is answered, nor carried out."""
    fail: str | None = None
    """The cause with which every SIP channel ends at once."""
