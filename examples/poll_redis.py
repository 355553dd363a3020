"""Follows a call by reading its hash in Redis: one command for each look.

    python examples/poll_redis.py CALL_ID

The hash is for reading: only Ringback writes it.
"""

import os
import sys
import time
from typing import Any

from redis import Redis


def main(call_id: str) -> int:
    redis = Redis.from_url(
        os.environ.get("RINGBACK_REDIS_URL", "redis://127.0.0.1:6379/0"), decode_responses=True
    )
    prefix = os.environ.get("RINGBACK_KEY_PREFIX", "ringback:")
    # The braces are part of the name.
    key = f"{prefix}call:{{{call_id}}}"
    version = None
    while True:
        found: Any = redis.hmget(key, "version", "state", "hangup_cause", "ended_by")
        seen, state, cause, ended_by = found
        if seen is None:
            print("no such call, or it is no longer kept", file=sys.stderr)
            return 1
        if seen != version:
            version = seen
            print(f"{version} {state}", flush=True)
        if state == "ended":
            print(f"{cause}, by {ended_by}")
            return 0
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
