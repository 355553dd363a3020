"""The files of a deployment, and what Ringback knows that they may name."""

import re
from pathlib import Path
from typing import Any

import yaml

from app.settings import SECRETS, setting_names
from ringback_cli.main import main

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# What is not ours in an environment, but read by what we are made of.
OTHERS = {"PROMETHEUS_MULTIPROC_DIR", "WEB_CONCURRENCY"}


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def read_all_yaml(text: str) -> list[Any]:
    return [document for document in yaml.safe_load_all(text) if document]


def read_env(path: Path) -> dict[str, str]:
    """The lines of an environment file, also those that are put out of use by a #."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", path.read_text(), re.MULTILINE))


def check_environment(names: set[str]) -> None:
    files = {f"{name}_FILE" for name in SECRETS}
    assert not names - OTHERS - files - set(setting_names())


def check_command(words: list[str]) -> None:
    """They are what follows ``ringback``."""
    assert words and words[0] in main.list_commands(None)  # type: ignore[arg-type]
