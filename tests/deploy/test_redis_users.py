"""deploy/redis: the file that Redis reads, and that its users have every key that they need."""

import hashlib
import re
import subprocess
from fnmatch import fnmatchcase

import pytest

from tests.deploy.files import DEPLOY
from tests.deploy.redis_users import ACL, USERS, users_acl
from tests.docs.tables import names, tables


def patterns(user: str) -> list[str]:
    """The patterns of the keys that a user may write."""
    (line,) = [
        line for line in users_acl({"REDIS_PASSWORD": "x"}).splitlines() if f" {user} " in line
    ]
    return re.findall(r" ~ringback:(\S+)", line)


def test_only_who_has_a_password_can_log_in() -> None:
    passwords = {"REDIS_PASSWORD": "it's \"s/&\\crét", "REDIS_API_PASSWORD": "other"}
    lines = users_acl(passwords).splitlines()
    assert len(lines) == len(USERS) and all(line.startswith("user ") for line in lines)
    login = {line.split()[1]: line.split(" ", 4)[2:4] for line in lines}
    for variable, user in USERS.items():
        if variable in passwords:
            sha256 = hashlib.sha256(passwords[variable].encode()).hexdigest()
            assert login[user] == ["on", f"#{sha256}"]
        else:
            assert login[user][0] == "off"


def test_the_operators_password_is_asked_for() -> None:
    done = subprocess.run(["sh", DEPLOY / "redis" / "users.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "users.sh: REDIS_PASSWORD is not set\n")
    assert done.stdout == ""


@pytest.mark.parametrize("process", ["API", "worker", "listener"])
def test_each_process_may_write_what_the_page_says_that_it_writes(process: str) -> None:
    """A key that is new on docs/redis.md belongs into the file too."""
    _, ours = [rows for rows in tables("redis.md") if rows[0][0] == "key"]
    written = [name for row in ours[1:] if process in row[3] for name in names(row[0])]
    assert len(written) > 10
    allowed = patterns(f"ringback-{process.lower()}")
    for name in written:
        key = re.sub(r"[A-Z]{2,}|(?<=:)…", "x", name).replace("…", ":x")
        assert any(fnmatchcase(key, each) for each in allowed), name


def test_the_programs_beside_it_have_no_way_around() -> None:
    text = ACL.read_text()
    for user in ("poller", "enqueuer"):
        rules = text.partition(f"user ringback-{user} ")[2].partition("\n\n")[0]
        words = set(re.findall(r"[+-]\S+", rules))
        assert {"-@all", "-@dangerous", "-client|tracking"} <= words
        assert not words & {"+eval", "+evalsha", "+scan", "+keys", "+@all", "+@write", "+@read"}
