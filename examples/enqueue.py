"""Places a call straight through the queue, without HTTP.

    python examples/enqueue.py 0003*210 5302040 3235742879

For a back end that has Ringback's package and its Redis at hand. A call is more than an RQ job: it
is a hash, its indexes, its deadline and the job that dials it, written by one script, so that no
call is dialled without its record, or waits without its job. A job of your own making dials
nothing. What writes all of it is PhoneCalls.create, which the HTTP API calls too: numbers,
extensions, routes, limits and the nonce mean the same here.

The settings are Ringback's own (RINGBACK_REDIS_URL, RINGBACK_KEY_PREFIX, ...): give both the same.
The accounts are those that the API has put into Redis.
"""

import sys
from typing import Any

from app.accounts.caller import Caller
from app.accounts.store import AccountStore
from app.calls.model import State
from app.errors import ApiError
from app.phone_calls.schemas import CreateQuery, CreateSchema
from app.phone_calls.services import PhoneCalls
from app.settings import load_settings
from app.store.calls import CallStore
from app.store.client import connect
from app.store.errors import OutcomeUnknown
from app.store.keys import Keys
from app.store.pace import Pacer
from app.store.queue import JobQueue
from app.web.fields import load

# The app that the call is placed as: its id in the accounts.
APP = "demo-user"


def main(extension: str, source: str, destination: str, nonce: str | None = None) -> int:
    settings = load_settings()
    redis = connect(settings.require_redis())
    keys = Keys(settings.key_prefix)
    accounts = AccountStore(redis, keys).current()
    store = CallStore(redis, keys, settings.wait_replicas)
    calls = PhoneCalls(settings, store, JobQueue(redis, keys), Pacer(redis, keys))
    view: dict[str, Any] = {"source": source, "destination": destination}
    body: dict[str, Any] = {"extension": extension, "phoneCallView": [view]}
    if nonce is not None:
        # The same again places no second call.
        body["nonce"] = nonce
    try:
        (call,) = calls.create(
            Caller(accounts.apps[APP], accounts),
            "@me",
            "simple",
            load(CreateQuery(), {"waitForPickup": 20}),
            load(CreateSchema(), body),
        )
    except ApiError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    except OutcomeUnknown as error:
        # With a nonce it may be asked again.
        print(f"Redis was lost on the way: {error}", file=sys.stderr)
        return 3
    print(call.id, flush=True)
    ended = store.wait(call.id, lambda c: c.state is State.ENDED, timeout=60)
    if ended is not None:
        print(f"{ended.state}: {ended.hangup_cause}, by {ended.ended_by}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
