"""`python -m freeswitch.simulator HOST:PORT`: a simulated switch until SIGTERM or SIGINT."""

import argparse
from functools import partial
from pathlib import Path
from typing import get_args

from . import GATEWAYS, Gateway, run


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def gateways(text: str) -> dict[str, Gateway]:
    states: dict[str, Gateway] = {each: each for each in get_args(Gateway)}
    try:
        return {
            name: states[state]
            for name, _, state in (pair.partition("=") for pair in text.split(","))
        }
    except KeyError as error:
        raise ValueError(f"{error} is no state of a gateway: up, dead or down") from error


def main() -> None:
    parser = argparse.ArgumentParser("python -m freeswitch.simulator", description=__doc__)
    parser.add_argument(
        "address", type=address, metavar="HOST:PORT", help="port 0 takes a free one"
    )
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="append what the switch does, as JSON"
    )
    parser.add_argument(
        "--speed", type=float, default=1.0, help="how many times faster time passes"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides what telephones do by chance")
    parser.add_argument(
        "--gateways",
        type=gateways,
        default=GATEWAYS,
        help=f"NAME={'|'.join(get_args(Gateway))},… (default: pstn=up,pstn2=dead)",
    )
    given = parser.parse_args()
    host, port = given.address
    run(
        host,
        port,
        speed=given.speed,
        seed=given.seed,
        gateways=given.gateways,
        record=given.record,
        announce=partial(print, flush=True),
    )


if __name__ == "__main__":
    main()
