"""Commands that must run once, though the client may send them again."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis
from redis.client import Pipeline

from app.store import scripts
from app.store.keys import Keys

# Seconds that Redis keeps a request's mark. All copies of a request reach Redis while its client
# sends it: `connect` allows four attempts. An attempt takes 5 s to answer and 0.5 s of pause, and
# where it has to connect, up to four times 2 s to connect, 5 s to be greeted and 0.5 s of pause.
# That makes 142 s at most. A Redis that stands still runs the copies that wait one after the other
# when it goes on. The mark is younger than that, unless Redis ran the first copy, could not answer
# and then stood still for the rest of these seconds.
MARK_KEPT = 600


def new_mark() -> str:
    """A random name for one request: 16 hex digits. A retry of the same write uses the same
    mark."""
    return secrets.token_hex(8)


def arguments(keys: Keys, mark: str, commands: Iterable[Sequence[Any]]) -> list[Any]:
    """The number of keys, KEYS and ARGV of once.lua."""
    words: list[Any] = [1, keys.once(mark), MARK_KEPT]
    for command in commands:
        words += (len(command), *command)
    return words


def run(redis: Redis, keys: Keys, mark: str, commands: Iterable[Sequence[Any]]) -> None:
    """Run the commands in one step, unless the mark says that they ran before.

    Raises an error of Redis. If Redis refused one command, the others have run.
    """
    scripts.run(redis, scripts.ONCE, arguments(keys, mark, commands))


def gathered(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    """The commands of a pipeline that is never executed."""
    return [words for words, _ in pipeline.command_stack]
