"""The greenlet that reports what a process has seen of its switches (app.store.ejection)."""

import gevent
from gevent.event import Event as Flag

from app.store.ejection import Outcomes

# Seconds for which what worked is gathered, and at least between two reports.
GATHER, _SPACING = 0.5, 0.05


def keep_reporting(outcomes: Outcomes) -> None:
    """Report what was seen, for ever: a failure at once."""
    at_once = Flag()
    outcomes.on_fault = at_once.set
    while True:
        at_once.wait(GATHER)
        at_once.clear()
        outcomes.report()
        gevent.sleep(_SPACING)
