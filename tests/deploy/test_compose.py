"""compose.yml holds together, and with Ringback."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.accounts.store import read_accounts
from tests.deploy.files import DEPLOY, ROOT, check_command, check_environment, read_env, read_yaml
from tests.deploy.redis_users import USERS
from workers.processes import GRACE

TEXT = (ROOT / "compose.yml").read_text()
COMPOSE = read_yaml(ROOT / "compose.yml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "RINGBACK_IMAGE" in service["image"]}
# The longest that RINGBACK_ACTION_TIMEOUT may be, and what gunicorn adds.
LONGEST_ANSWER = 60 + 2


def test_it_is_a_compose_file() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*command, ROOT / "compose.yml"], check=True, stdout=subprocess.DEVNULL)


def test_every_process_is_there_and_the_listener_twice() -> None:
    commands = sorted(service["command"][0] for service in OURS.values() if "command" in service)
    assert commands == ["api", "listener", "listener", "webhooks", "worker"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours(name: str) -> None:
    service = OURS[name]
    if "command" in service:
        check_command(service["command"])
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > (LONGEST_ANSWER if name == "api" else GRACE)
    check_environment(set(service["environment"]))
    assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_nothing_is_published_to_everybody() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports and all(
        port.startswith(("127.0.0.1:", "${SIP_ADDRESS:-127.0.0.1}:")) for port in ports
    )
    assert "redis" not in OURS and "ports" not in SERVICES["redis"]
    assert COMPOSE["networks"]["redis"]["internal"]


def test_redis_keeps_what_it_is_told() -> None:
    words = SERVICES["redis"]["command"]
    options = dict(zip(words[0::2], words[1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "${REDIS_APPENDFSYNC:-always}"
    assert options["--maxmemory-policy"] == "noeviction"


def test_each_process_has_its_own_user_of_redis(tmp_path: Path) -> None:
    """start.sh has Redis know the users whose passwords it is given."""
    logins = {}
    for name, service in OURS.items():
        user, variable = re.fullmatch(
            r"redis://([a-z-]*):\$\{(\w+):\?\}@redis:6379/0",
            service["environment"]["RINGBACK_REDIS_URL"],
        ).groups()  # type: ignore[union-attr]
        assert USERS[variable] == (user or "default")
        logins[name] = user
    assert logins["cli"] == "" and logins["listener-a"] == logins["listener-b"]
    assert all(logins[name] == f"ringback-{name}" for name in ("api", "worker", "webhooks"))
    given = SERVICES["redis"]["environment"]
    assert set(USERS) == set(given) - {"REDISCLI_AUTH"}

    entry = tmp_path / "docker-entrypoint.sh"
    entry.write_text('#!/bin/sh\necho "$@"; grep -c "^user .* on #" "$3"\n')
    entry.chmod(0o755)
    start = [*SERVICES["redis"]["entrypoint"][:1], DEPLOY / "redis/start.sh", "--save", ""]
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **dict.fromkeys(USERS, "secret")}
    env["TMPDIR"] = str(tmp_path)
    done = subprocess.run(start, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        *("redis-server", "--aclfile", str(tmp_path / "users.acl"), "--save", f"{len(USERS)}")
    ]


def test_what_it_mounts_is_there() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    sources = [re.sub(r"^\$\{\w+:-(.+?)\}", r"\1", mount).split(":")[0] for mount in mounts]
    for source in sources:
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_its_variables_are_those_of_the_example() -> None:
    # $$ is for the shell in the container.
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    # What is told of an image is for whoever builds his own.
    images = {"RINGBACK_IMAGE", "FREESWITCH_IMAGE"}
    assert used - images == set(read_env(DEPLOY / "env.example")) - {"COMPOSE_PROFILES"}


def test_the_accounts_to_begin_with_can_be_used() -> None:
    accounts = read_accounts(DEPLOY / "accounts/accounts.toml")
    assert accounts.extensions and not accounts.apps


def test_the_switch_has_what_its_files_ask_for(tmp_path: Path) -> None:
    """start.sh puts the passwords and the network where FreeSWITCH reads them."""
    (tmp_path / "freeswitch").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "freeswitch").chmod(0o755)
    made = tmp_path / "made"
    settings = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "FREESWITCH_PASSWORD": "socket1",
        "RINGBACK_ESL_PASSWORD": "user2",
        "RINGBACK_NETWORK": "172.30.80.0/24",
        "RINGBACK_CONF": str(ROOT / "freeswitch/conf"),
        "RINGBACK_CONF_MADE": str(made),
    }
    start = ["/bin/sh", DEPLOY / "freeswitch/start.sh", "-conf", "/there"]
    done = subprocess.run(start, env=settings, capture_output=True, text=True, check=True)
    assert done.stdout == "-nonat -nf -nc -conf /there\n"
    socket = (made / "event_socket.conf.xml").read_text()
    assert 'value="socket1"' in socket and 'name="listen-ip" value="0.0.0.0"' in socket
    assert '"esl-password" value="user2"' in (made / "user.xml").read_text()
    assert (
        '<node type="allow" cidr="172.30.80.0/24"/></list>' in (made / "acl.conf.xml").read_text()
    )
    refused = {**settings, "RINGBACK_ESL_PASSWORD": "a/b"}
    assert subprocess.run(start, env=refused, capture_output=True).returncode == 2


def test_the_switch_is_given_what_it_reads() -> None:
    text = (DEPLOY / "freeswitch/freeswitch.xml").read_text()
    given = set(SERVICES["freeswitch"]["environment"])
    assert set(re.findall(r'cmd="env-set" data="\w+=\$(\w+)"', text)) <= given
    # Ports of media that are opened are those that it uses.
    first, last = (re.search(rf'"rtp-{end}-port" value="(\d+)"', text) for end in ("start", "end"))
    assert first is not None and last is not None
    assert f":{first[1]}-{last[1]}:{first[1]}-{last[1]}/udp" in TEXT
