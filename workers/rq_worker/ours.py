"""The jobs that a worker of Ringback runs: functions by name, and nothing that a job brings along.

RQ imports whatever function, callback and serializer a job names. Any program that can write to
Redis could have a worker run any code of the machine.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rq.exceptions import DeserializationError
from rq.job import UNEVALUATED, Job

_RESTORED = ("success_callback_name", "failure_callback_name", "stopped_callback_name")


class ForeignJob(DeserializationError):
    """A job of a queue of Ringback that Ringback does not run; the text says why.

    RQ writes a DeserializationError also of a job whose function it cannot tell.
    """


class OurJob(Job):
    """A job whose function comes from ``functions``, by its name in the job."""

    functions: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    _refusal: str | None = None

    @property
    def func(self) -> Callable[..., Any]:
        """The function. Raises ForeignJob if the job is not one of this queue."""
        if self._refusal is not None:
            raise ForeignJob(self._refusal)
        # Other programs may write any value as a name.
        name = self.func_name
        if self.instance is not None:
            raise ForeignJob(
                "Ringback runs functions, and no methods of objects. Nothing was done."
            )
        found = self.functions.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(sorted(self.functions))
            raise ForeignJob(
                f"{self.origin} runs {known}, and no {str(name)[:200]}. Nothing was done."
            )
        return found

    def refuse(self, why: str) -> None:
        """Refuse the job with a sentence, and drop its arguments: they may hold secrets."""
        try:
            # That there was an object is told again if the job runs again.
            name, instance = self.func_name, self.instance is not None or None
        except ForeignJob:
            name = instance = None
        self._refusal = why
        # Another run would refuse it for what it is after this.
        self.retries_left = None
        # Without a name the data stay unreadable.
        self.data = (
            self.serializer.dumps((name, instance, (), {})) if isinstance(name, str) else b""
        )

    def restore(self, raw_data: Any) -> Any:
        """Read the job's hash, and keep nothing of it that RQ would import or ask for a URL."""
        super().restore(raw_data)
        if self.webhooks or any(getattr(self, f"_{name}") for name in _RESTORED):
            self.webhooks = []
            for name in _RESTORED:
                setattr(self, f"_{name}", None)
                setattr(self, f"_{name.removesuffix('_name')}", UNEVALUATED)
            # RQ would write the job without its callbacks, and run it.
            self.retries_left = None
            self._refusal = "Ringback runs no callbacks and no webhooks of jobs. Nothing was done."

    def _deserialize_data(self) -> None:
        try:
            super()._deserialize_data()  # type: ignore[no-untyped-call]
            ours = isinstance(self._args, list) and isinstance(self._kwargs, dict)
            why: BaseException | None = (
                None if ours else TypeError("no list of arguments, or no object")
            )
        except Exception as error:
            why = error.__cause__ or error
        if why is not None:
            self._func_name = self._instance = self._args = self._kwargs = UNEVALUATED
            raise ForeignJob(self._refusal or f"{_about_data(why)} Nothing was done.") from why


def _about_data(error: BaseException) -> str:
    """What is wrong with the data of a job that cannot be read."""
    if isinstance(error, RecursionError):
        return "The job's data are nested too deep."
    if isinstance(error, (UnicodeDecodeError, json.JSONDecodeError)):
        return "The job's data are not JSON: make the queue with serializer=JSONSerializer."
    return 'The job\'s data are not the JSON ["FUNCTION", null, [], {ARGUMENTS}].'


def job_class(
    functions: Mapping[str, Callable[..., Any]], kind: type[OurJob] = OurJob
) -> type[OurJob]:
    """The class of the jobs of a queue that runs these functions and no others."""
    return type(kind.__name__, (kind,), {"functions": functions})
