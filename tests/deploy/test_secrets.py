"""No process of a deployment has a password among its arguments, or in what its files say of it."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, ROOT, read_all_yaml, read_yaml
from tests.deploy.redis_users import USERS

PASSWORD = "PASSword4242"
# What the scripts run besides the shell's own commands.
PROGRAMS = "awk cat chmod dirname expr grep mkdir od rm sed sha256sum tr".split()
SH = shutil.which("sh") or "/bin/sh"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file with the arguments of each program that is run by the PATH `tmp_path/bin`."""
    path = tmp_path / "log"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        program = programs / name
        program.write_text(
            f'#!{SH}\nprintf "%s\\n" "{name} $*" >> {path}\nexec {shutil.which(name)} "$@"\n'
        )
    for name in ("docker-entrypoint.sh", "freeswitch", "redis-cli"):
        (programs / name).write_text(f'#!{SH}\nprintf "%s\\n" "{name} $*" >> {path}\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    (programs / "sh").symlink_to(SH)
    return path


def run(log: Path, script: str, *arguments: str | Path, **variables: str) -> None:
    environment = {"PATH": str(log.parent / "bin"), "TMPDIR": str(log.parent), **variables}
    command = [SH, DEPLOY / script, *arguments]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def test_scripts_hand_no_password_to_a_program(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    run(log, "redis/start.sh", **{f"{name}_FILE": str(file) for name in USERS})
    run(log, "redis/users.sh", **dict.fromkeys(USERS, PASSWORD))
    run(log, "redis/cli.sh", "ping", REDIS_PASSWORD_FILE=str(file))
    run(
        *(log, "freeswitch/start.sh"),
        FREESWITCH_PASSWORD_FILE=str(file),
        RINGBACK_ESL_PASSWORD_FILE=str(file),
        RINGBACK_NETWORK="10.0.0.0/8",
        RINGBACK_CONF=str(ROOT / "freeswitch/conf"),
        RINGBACK_CONF_MADE=str(tmp_path / "made"),
    )
    run(log, "secrets.sh", tmp_path / "secrets")
    said = log.read_text()
    for name in ("docker-entrypoint.sh redis-server", "redis-cli ping", "freeswitch -nonat", "sed"):
        assert re.search(f"^{name}", said, re.MULTILINE)
    passwords = {path.read_text() for path in (tmp_path / "secrets").glob("*_password")} - {""}
    for password in (PASSWORD, *passwords):
        assert password not in said
    # A digest tells a weak password.
    users = (tmp_path / "users.acl").read_text()
    digests = set(re.findall(r"#([0-9a-f]{64})", users))
    assert len(digests) == 1 and not any(digest in said for digest in digests)


def texts(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for each in value.values():
                yield from texts(each)
        case list():
            for each in value:
                yield from texts(each)
        case str():
            yield value


WORDS = re.compile(r"password|secret|token|://[^/\s]*:[^/\s]*@", re.IGNORECASE)


def test_compose_names_passwords_by_file_alone() -> None:
    for name, service in read_yaml(ROOT / "compose.yml")["services"].items():
        run_by = {key: service.get(key) for key in ("command", "entrypoint", "healthcheck")}
        assert not any(map(WORDS.search, texts(run_by))), name
        for variable, value in service.get("environment", {}).items():
            if WORDS.search(f"{variable}={value}"):
                assert variable.endswith("_FILE") and value.startswith("/run/secrets/"), variable


def test_kubernetes_and_systemd_run_nothing_with_a_password() -> None:
    for path in (DEPLOY / "kubernetes/base").glob("*.yaml"):
        for resource in read_all_yaml(path.read_text()):
            if resource.get("kind") != "Deployment":
                continue
            for container in resource["spec"]["template"]["spec"]["containers"]:
                keys = ("args", "command", "lifecycle", "startupProbe", "livenessProbe")
                assert not any(map(WORDS.search, texts([container.get(key) for key in keys])))
                for each in container.get("env", ()):
                    assert not WORDS.search(each.get("value", "")) or each["name"].endswith("_FILE")
    for path in (DEPLOY / "systemd").glob("*.service"):
        for line in path.read_text().splitlines():
            assert not (line.startswith(("Exec", "Environment=")) and WORDS.search(line)), line


def test_no_document_has_a_password_on_a_command_line() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *DEPLOY.rglob("*.sh")]:
        text = path.read_text()
        for wrong in (
            r"redis-cli[^\n`]* -a ",
            r"--from-literal=[^\n]*\$",
            r"sed [^\n]*openssl rand",
        ):
            assert not re.search(wrong, text), path
