"""Places a call with the client and follows it to its end.

    python examples/script.py 210 5302040 3235742879

RINGBACK_URL and RINGBACK_TOKEN say where the API is and who asks; the demo's without them.
"""

import os
import sys

from ringback import Client, RingbackError


def main(extension: str, source: str, destination: str) -> int:
    client = Client(
        os.environ.get("RINGBACK_URL", "http://127.0.0.1:8080"),
        os.environ.get("RINGBACK_TOKEN", "demo-user-token"),
    )
    # The stream first, so that nothing of the call is missed.
    with client.events() as events:
        try:
            call = client.simple(extension, source, destination, wait_for_pickup=20)
        except RingbackError as error:
            print(f"refused: {error}", file=sys.stderr)
            return 1
        print(f"call {call.id}", flush=True)
        state = None
        for event in events:
            if event.call_id != call.id:
                continue
            if event.state != state:
                state = event.state
                print(state, flush=True)
            if state == "ended":
                ended = event.call
                print(f"{ended.hangup_cause}, by {ended.ended_by}")
                return 0 if ended.disposition == 0 else 2
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
