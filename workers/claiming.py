"""The RQ worker of new calls: when it takes jobs, it claims the calls whose turn it is."""

from typing import Any

from redis.commands.core import Script
from redis.exceptions import NoScriptError

from app.store import scripts
from workers.dispatch import Dispatcher
from workers.rq_worker import CallWorker


class ClaimingWorker(CallWorker):
    """A worker whose process claims calls in the round trip in which it takes their jobs."""

    def __init__(self, dispatcher: Dispatcher, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dispatcher = dispatcher

    def start_jobs(self, start: Script, keys: list[str], arguments: list[Any]) -> Any:
        """Take jobs, claim calls and hand these to the dispatcher.

        The two scripts are apart: an error of one costs nothing of what the other has done.
        """
        claim = self._dispatcher.ask(arguments[0])
        if claim is None:
            return super().start_jobs(start, keys, arguments)
        with self.connection.pipeline(transaction=False) as pipe:
            pipe.evalsha(start.sha, len(keys), *keys, *arguments)
            pipe.evalsha(scripts.PACE.sha, *claim)
            started, claimed = pipe.execute(raise_on_error=False)
        if isinstance(claimed, NoScriptError):
            claimed = self.connection.eval(scripts.PACE.text, *claim)
        self._dispatcher.dial(claimed)
        if isinstance(started, NoScriptError):
            return super().start_jobs(start, keys, arguments)
        if isinstance(started, Exception):
            raise started
        return started
