"""compose.yml holds together, and with Ringback."""

import os
import re
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.accounts.store import read_accounts
from freeswitch.address import parse_list
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


def test_the_gateway_of_what_is_published_is_a_proxy() -> None:
    """A proxy on the host comes from there, or all its clients would be one address."""
    told = SERVICES["api"]["environment"]["RINGBACK_PROXIES"]
    (config,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    subnet, proxies = (
        ip_network(re.fullmatch(r"\$\{\w+:-(.+)\}", text)[1])  # type: ignore[index]
        for text in (config["subnet"], told)
    )
    # Docker gives a network's first address to the gateway.
    assert str(proxies.network_address) == str(next(subnet.hosts()))
    assert proxies.num_addresses == 1
    assert "front" in SERVICES["api"]["networks"]


def test_each_process_says_how_it_is_on_its_own_port() -> None:
    for name in OURS.keys() - {"cli"}:
        assert OURS[name]["environment"]["RINGBACK_METRICS"] == "0.0.0.0:9100"


def test_redis_keeps_what_it_is_told() -> None:
    words = SERVICES["redis"]["command"]
    options = dict(zip(words[0::2], words[1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "${REDIS_APPENDFSYNC:-always}"
    assert options["--maxmemory-policy"] == "noeviction"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that deploy/secrets.sh makes."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run(["sh", DEPLOY / "secrets.sh", folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def secret(path: str, made: Path) -> str:
    """The text of a secret by its path in a container."""
    return (made / path.removeprefix("/run/secrets/")).read_text().rstrip("\n")


def test_every_secret_is_made_once_and_for_its_container(made: Path) -> None:
    assert made.stat().st_mode & 0o777 == 0o700
    defined = {name: each["file"] for name, each in COMPOSE["secrets"].items()}
    assert defined == {name: f"${{RINGBACK_SECRETS:-./secrets}}/{name}" for name in defined}
    assert set(defined) == {path.name for path in made.iterdir()}
    for service in SERVICES.values():
        paths = [v for k, v in service.get("environment", {}).items() if k.endswith("_FILE")]
        given = [f"/run/secrets/{name}" for name in service.get("secrets", ())]
        assert sorted(paths) == sorted(given)
    passwords = [secret(each, made) for each in defined if each.endswith("_password")]
    random = [each for each in passwords if each]
    assert len(set(random)) == len(random) == len(passwords) - 2
    before = {path.name: path.read_text() for path in made.iterdir()}
    again = subprocess.run(["sh", DEPLOY / "secrets.sh", made], check=True, capture_output=True)
    assert again.stdout == b"" and before == {p.name: p.read_text() for p in made.iterdir()}


def test_each_process_has_its_own_user_of_redis(tmp_path: Path, made: Path) -> None:
    """start.sh has Redis know the users whose passwords it is given."""
    given = SERVICES["redis"]["environment"]
    assert {f"{name}_FILE" for name in USERS} == set(given)
    logins = {}
    for name, service in OURS.items():
        url = secret(service["environment"]["RINGBACK_REDIS_URL_FILE"], made)
        found = re.fullmatch(r"redis://([a-z-]*):(\w+)@redis:6379/0", url)
        assert found is not None
        logins[name], password = found.groups()
        (variable,) = (v for v, user in USERS.items() if user == (logins[name] or "default"))
        assert secret(given[f"{variable}_FILE"], made) == password
    assert logins["cli"] == "" and logins["listener-a"] == logins["listener-b"]
    assert all(logins[name] == f"ringback-{name}" for name in ("api", "worker", "webhooks"))

    entry = tmp_path / "docker-entrypoint.sh"
    entry.write_text('#!/bin/sh\necho "$@"; grep -c "^user .* on #" "$3"\n')
    entry.chmod(0o755)
    start = [*SERVICES["redis"]["entrypoint"][:1], DEPLOY / "redis/start.sh", "--save", ""]
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    env |= {k: v.replace("/run/secrets", str(made)) for k, v in given.items()}
    done = subprocess.run(start, env=env, capture_output=True, text=True, check=True)
    # All but the two programs beside Ringback, whose passwords are empty.
    assert done.stdout.split() == [
        *("redis-server", "--aclfile", str(tmp_path / "users.acl"), "--save", f"{len(USERS) - 2}")
    ]


def test_workers_and_listeners_log_in_to_the_switch(made: Path) -> None:
    (address,) = parse_list(secret(COMPOSE["x-switches"]["RINGBACK_SWITCHES_FILE"], made))
    assert address.user == "ringback@ringback" and address.host == "freeswitch"
    given = SERVICES["freeswitch"]["environment"]
    assert address.password == secret(given["RINGBACK_ESL_PASSWORD_FILE"], made)


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
    (tmp_path / "own").write_text("socket1\n")
    (tmp_path / "user").write_text("user2")
    settings = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "FREESWITCH_PASSWORD_FILE": str(tmp_path / "own"),
        "RINGBACK_ESL_PASSWORD_FILE": str(tmp_path / "user"),
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
    assert (made / ".fs_cli_conf").read_text() == (
        "[default]\nhost => 127.0.0.1\npassword => socket1\n"
    )
    assert (made / ".fs_cli_conf").stat().st_mode & 0o777 == 0o600
    assert not (made / "script").exists()
    (tmp_path / "user").write_text("a/b")
    assert subprocess.run(start, env=settings, capture_output=True).returncode == 2


def test_the_switch_is_given_what_it_reads() -> None:
    text = (DEPLOY / "freeswitch/freeswitch.xml").read_text()
    given = set(SERVICES["freeswitch"]["environment"])
    assert set(re.findall(r'cmd="env-set" data="\w+=\$(\w+)"', text)) <= given
    # Ports of media that are opened are those that it uses.
    first, last = (re.search(rf'"rtp-{end}-port" value="(\d+)"', text) for end in ("start", "end"))
    assert first is not None and last is not None
    assert f":{first[1]}-{last[1]}:{first[1]}-{last[1]}/udp" in TEXT


def test_records_in_a_database_are_a_file_of_their_own() -> None:
    """compose.records.yml adds a PostgreSQL, and gives its address to whoever reads it."""
    path = ROOT / "compose.records.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*command, path], check=True, stdout=subprocess.DEVNULL)
    services: dict[str, Any] = read_yaml(path)["services"]
    exporter = services["records"]
    check_command(exporter["command"])
    check_environment(set(exporter["environment"]))
    assert exporter["read_only"] and exporter["cap_drop"] == ["ALL"]
    assert int(exporter["stop_grace_period"].removesuffix("s")) > GRACE
    for name in ("api", "cli", "records"):
        service = services[name]
        assert service["environment"]["RINGBACK_RECORDS_URL_FILE"] == "/run/secrets/records_url"
        assert "records_url" in service["secrets"] and "records" in service["networks"]
        assert name == "records" or name in OURS
    assert not any("ports" in service for service in services.values())
    assert read_yaml(path)["networks"]["records"]["internal"]
