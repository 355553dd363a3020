"""The first step of the `ringback` command: it sets where Python looks for packages.

The working folder may have an `app.py` or a `workers/` of the user's, and PYTHONPATH may name that
folder. This module therefore imports only what Python itself has loaded before it, or has built in.
"""

import gc
import os
import sys


def main() -> None:
    """Run `ringback` with the arguments of this process."""
    put_installed_first()
    from ringback_cli import output
    from ringback_cli.main import main as command

    try:
        output.run(lambda: command(prog_name="ringback"))
    finally:
        # At its end Python looks for garbage among all that is loaded. That takes longer than most
        # commands. What is frozen is left out.
        gc.freeze()


def put_installed_first() -> None:
    """Move the working folder and PYTHONPATH behind all that is installed.

    Python looks in these two before its standard library. It looks last of all in what
    `pip install -e` has linked: the folder that holds this package then comes first.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    library = os.path.dirname(os.__file__)
    begin = sys.path.index(library) if library in sys.path else 0
    given, installed = sys.path[:begin], sys.path[begin:]
    if home not in installed:
        installed.insert(0, home)
    sys.path[:] = [*installed, *given]


if __name__ == "__main__":
    main()
