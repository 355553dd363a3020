"""The users of deploy/redis/users.acl, with passwords."""

import os
import re
import subprocess
from collections.abc import Mapping

from tests.deploy.files import DEPLOY

ACL = DEPLOY / "redis" / "users.acl"
# By the name of the variable with the password of each.
USERS = {name: user for user, name in re.findall(r"^user (\S+) on #(\w+)", ACL.read_text(), re.M)}


def users_acl(passwords: Mapping[str, str]) -> str:
    """What Redis reads, as deploy/redis/users.sh makes it."""
    found = subprocess.run(
        ["sh", DEPLOY / "redis" / "users.sh"],
        env={"PATH": os.environ["PATH"], **passwords},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout
