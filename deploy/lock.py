"""Print what requirements.lock is made of: the requirements of the server, of its extras `traces`
and `records` and of the client, one a line. `make lock` hands them to uv."""

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]


def requirements() -> list[str]:
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    client = tomllib.loads((ROOT / "client/pyproject.toml").read_text())["project"]
    lines = [
        *setup["options"]["install_requires"].splitlines(),
        *setup["options.extras_require"]["traces"].splitlines(),
        *setup["options.extras_require"]["records"].splitlines(),
        *client["dependencies"],
    ]
    found = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    # The client is the folder client/ and no package of the registry.
    return sorted(line for line in found if not re.match(r"ringback\b", line))


if __name__ == "__main__":
    print("\n".join(requirements()))
