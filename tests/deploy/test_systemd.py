"""The systemd units name what there is, and systemd takes them."""

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from app.settings import parse_networks
from app.web.proxies import is_proxy
from tests.deploy.files import DEPLOY, check_command, check_environment, read_env
from tests.deploy.test_compose import LONGEST_ANSWER
from workers.processes import GRACE

SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
PROGRAM = "/opt/ringback/bin/ringback"
# What `systemd-analyze security` may find open, of 100.
EXPOSED = 15


def read_unit(path: Path) -> ConfigParser:
    # Some settings stand there more than once, and % is a word of systemd's.
    unit = ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return unit


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit(path: Path) -> None:
    unit = read_unit(path)
    program, *words = unit["Service"]["ExecStart"].split()
    assert program == PROGRAM
    check_command(words)
    check_environment(set(re.findall(r"^Environment=(\w+)=", path.read_text(), re.MULTILINE)))
    grace = int(unit["Service"]["TimeoutStopSec"])
    assert grace > (LONGEST_ANSWER if words == ["api"] else GRACE)
    assert unit["Service"]["User"] == "ringback" and unit["Service"]["Restart"] == "always"


def test_the_target_wants_each_unit() -> None:
    wanted = read_unit(SYSTEMD / "ringback.target")["Unit"]["Wants"].split()
    assert {re.sub(r"@\d", "@", name) for name in wanted} == {path.name for path in UNITS}


def test_each_has_a_port_of_its_own() -> None:
    found = [re.findall(r"RINGBACK_METRICS=\S+:(\S+)", path.read_text()) for path in UNITS]
    ports = [port for each in found for port in each]
    assert len(ports) == len(set(ports)) == len(UNITS)


def test_the_settings_are_ringback_s() -> None:
    settings = read_env(SYSTEMD / "ringback.env.example")
    check_environment(set(settings))
    # The proxy on this machine is believed, or all clients would be one address.
    proxies = parse_networks(settings["RINGBACK_PROXIES"])
    assert is_proxy(settings["RINGBACK_HTTP"].partition(":")[0], proxies)
    assert settings["RINGBACK_PUBLIC_URL"].startswith("https://")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on the PATH")
def test_systemd_takes_them(tmp_path: Path) -> None:
    for path in SYSTEMD.glob("*.*"):
        # A program that is there: that is looked at, too.
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, sys.executable))
    names = [path.name.replace("@.", "@1.") for path in [*UNITS, SYSTEMD / "ringback.target"]]
    verify = ["systemd-analyze", "verify", "--man=no", *(f"./{name}" for name in names)]
    done = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for path in UNITS:
        security = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSED}"]
        subprocess.run([*security, tmp_path / path.name], check=True, stdout=subprocess.DEVNULL)
