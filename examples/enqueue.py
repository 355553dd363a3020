"""Places a call by an RQ job: for a program that has RQ and nothing of Ringback.

    pip install rq
    python examples/enqueue.py 210 5302040 3235742879

The job's answer is the answer of a POST. docs/guide/enqueue.md says more.
"""

import os
import sys

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer


def main(extension: str, source: str, destination: str, nonce: str | None = None) -> int:
    redis = Redis.from_url(os.environ.get("RINGBACK_REDIS_URL", "redis://127.0.0.1:6379/0"))
    queue = Queue("ringback-requests", connection=redis, serializer=JSONSerializer)
    view = {"source": source, "destination": destination}
    job = queue.enqueue(
        "ringback.place",
        app="demo-user",
        token=os.environ.get("RINGBACK_TOKEN", "demo-user-token"),
        kind="simple",
        query={"waitForPickup": 20},
        # The same nonce again places no second call.
        body={
            "extension": extension,
            "phoneCallView": [view],
            **({"nonce": nonce} if nonce else {}),
        },
        # Seconds after which nobody takes the job any more.
        ttl=60,
    )
    if (result := job.latest_result(timeout=30)) is None:
        print("no worker has taken the job", file=sys.stderr)
        return 3
    answer = result.return_value
    if answer is None:
        print(f"the job failed: {result.exc_string}", file=sys.stderr)
        return 3
    if answer["status"] >= 300:
        error = answer["body"]["error"]
        print(f"{error['code']}: {error['message']} {error.get('reason', '')}", file=sys.stderr)
        return 1
    print(answer["body"][0]["id"])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
