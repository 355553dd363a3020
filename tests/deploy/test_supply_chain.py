"""What the image is built of: lock files that agree with setup.cfg, and pinned images."""

import re
import runpy
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deploy.files import DEPLOY, ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
_PIN = re.compile(
    r"([a-z0-9-]+)==(\S+)(?: ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)


def pins(path: Path) -> dict[str, Version]:
    """The versions of a lock file. Every line of it is a pin with its hashes, or a comment."""
    text = re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE)
    found = {name: Version(version) for name, version, _ in _PIN.findall(text)}
    # No option, such as the address of an index, and no pin without a hash.
    assert not _PIN.sub("", text).strip()
    return found


LOCK = pins(ROOT / "requirements.lock")


def within(pinned: dict[str, Version], line: str) -> bool:
    wanted = Requirement(line)
    version = pinned.get(canonicalize_name(wanted.name))
    return version is not None and wanted.specifier.contains(version)


def test_every_requirement_of_setup_cfg_is_locked_within_its_bounds() -> None:
    """After a change there, run `make lock`."""
    lines = runpy.run_path(str(DEPLOY / "lock.py"))["requirements"]()
    assert "flask>=3.1" in lines and any(line.startswith("opentelemetry-sdk") for line in lines)
    assert any(line.startswith("httpcore2") for line in lines)
    assert [line for line in lines if not within(LOCK, line)] == []


def test_what_these_require_is_locked_too() -> None:
    """As far as it is installed here, in whichever version."""
    looked = 0
    for name in LOCK:
        try:
            lines = distribution(name).requires or ()
        except PackageNotFoundError:
            continue
        looked += 1
        for line in lines:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                assert canonicalize_name(wanted.name) in LOCK, (name, line)
    assert looked > 30


def test_what_builds_ours_is_locked() -> None:
    built_by = pins(DEPLOY / "docker/build.lock")
    for path in (ROOT / "pyproject.toml", ROOT / "client/pyproject.toml"):
        for line in tomllib.loads(path.read_text())["build-system"]["requires"]:
            assert within(built_by, line), (path, line)


def test_the_image_installs_nothing_else() -> None:
    commands = re.findall(r"\bpip (?:--python \S+ )?(install|wheel) ([^&\n]+)", DOCKERFILE)
    assert len(commands) == 4
    for _, options in commands:
        assert "--require-hashes" in options or {"--no-deps", "--no-index"} <= set(options.split())
    assert {"build.lock", "requirements.lock"} <= set(
        re.findall(r"--requirement (\S+)", DOCKERFILE)
    )


@pytest.mark.parametrize("before", ["", "@sha256:" + "1" * 64])
def test_images_are_pinned_by_the_digests_of_the_registry(tmp_path: Path, before: str) -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\necho {digest}\n')
    docker.chmod(0o755)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/digests.sh").write_text((DEPLOY / "digests.sh").read_text())
    image = re.compile(
        r"^(FROM |    image: (?:\$\{FREESWITCH_IMAGE:-)?)([a-z][^ }\n@]+)(?:@[^ }\n]+)?", re.M
    )
    plain = {}
    for name in ("Dockerfile", "compose.yml"):
        plain[name] = image.sub(r"\1\2", (ROOT / name).read_text())
        (tmp_path / name).write_text(image.sub(rf"\1\2{before}", plain[name]))
    command = ["sh", tmp_path / "deploy/digests.sh"]
    path = {"PATH": f"{docker.parent}:/usr/bin:/bin"}
    subprocess.run(command, env=path, check=True, stdout=subprocess.DEVNULL)
    for name, text in plain.items():
        assert (tmp_path / name).read_text() == image.sub(rf"\1\2@{digest}", text)
    # Once for each, by its tag alone, and not for ours, which is built here.
    asked = [line.split()[-1] for line in (tmp_path / "asked").read_text().splitlines()]
    images = {found[1] for text in plain.values() for found in image.findall(text)}
    assert sorted(asked) == sorted(images) and len(images) == 5

    docker.write_text("#!/bin/sh\necho nothing\n")
    assert subprocess.run(command, env=path, capture_output=True).returncode == 1
