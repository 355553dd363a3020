"""The Lua scripts of this folder, with the names that Redis gives them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError


@dataclass(frozen=True, slots=True)
class Script:
    """A script for EVAL, and its SHA-1 for EVALSHA."""

    text: str
    sha: str


def run(redis: Redis, script: Script, words: Sequence[Any]) -> Any:
    """The reply of a script that Redis may not know yet. ``words`` are the number of keys, KEYS and
    ARGV. Raises an error of Redis."""
    try:
        return redis.evalsha(script.sha, *words)
    except NoScriptError:
        return redis.eval(script.text, *words)


def script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def lua(name: str) -> str:
    """The text of the file ``name``.lua in this folder."""
    return files(__package__).joinpath(f"{name}.lua").read_text()


_CHANGE = lua("lines") + lua("change")
CHANGE = script(f"{_CHANGE}return change(KEYS, ARGV)\n")
ACCEPT = script(_CHANGE + lua("commands") + lua("quota") + lua("accept"))
PACE = script(_CHANGE + lua("room") + lua("pace"))
BEGIN = script(_CHANGE + lua("room") + lua("quota") + lua("begin"))
ALERT = script(
    lua("quota")
    + "return alert(ARGV[1], tonumber(ARGV[2]), cjson.decode(ARGV[3]), ARGV[4], ARGV[5], ARGV[6])\n"
)
ONCE = script(lua("commands") + lua("once"))
QUEUED = script(lua("queued"))
LIMITS = script(lua("limits"))
EJECTION = script(lua("ejection"))
EXPORTED = script(lua("exported"))
BUCKETS = script(lua("buckets"))
