"""The quiet client: `python -m bench.abuse.quiet HOST PORT SECONDS`.

It sends one request after the other, each on a new connection from an address of its own, and
prints the kind and the seconds of each.
"""

import http.client
import json
import math
import sys
import time

from bench.abuse.harness import CALL, CREATE, KINDS, QUIET_ADDRESS, TOKENS

# Seconds between two requests, and after which one has failed.
_PAUSE = 0.02
_TIMEOUT = 30.0
_REQUESTS = {
    # The call ends by itself after a second.
    "POST": ("POST", f"{CREATE}?callDuration=1", json.dumps(CALL), 202),
    "GET": ("GET", "/uapi/phoneCalls/@me/@self?count=1", None, 200),
    "readyz": ("GET", "/readyz", None, 200),
}


def main(host: str, port: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for kind in KINDS:
            print(kind, _seconds(host, port, kind), flush=True)
            time.sleep(_PAUSE)


def _seconds(host: str, port: int, kind: str) -> float:
    method, path, body, wanted = _REQUESTS[kind]
    headers = {"Authorization": f"Bearer {TOKENS['quiet']}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    begun = time.monotonic()
    connection = http.client.HTTPConnection(
        host, port, timeout=_TIMEOUT, source_address=(QUIET_ADDRESS, 0)
    )
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        print(f"{kind}: {error!r}", file=sys.stderr)
        return math.inf
    finally:
        connection.close()
    if response.status != wanted:
        print(f"{kind}: HTTP {response.status}", file=sys.stderr)
        return math.inf
    return time.monotonic() - begun


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
