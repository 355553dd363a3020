"""The accounts of `ringback up` with a real switch: those of the demo, under secrets of their own.

Everybody knows the demo's tokens, and calls on a real switch cost money.
"""

import json
import re
import secrets
import tomllib
from base64 import b64encode
from importlib.resources import files
from pathlib import Path

from app.accounts.credential_schemas import DEMO_TOKENS, DEMO_WEBHOOK_SECRET

# What of an app is told to whoever starts Ringback.
_TOLD = ("token", "client_secret", "webhook_secret")


def make_accounts(folder: str) -> tuple[Path, list[str]]:
    """Write an accounts file that only this user may read. Returns its path, and a line for each
    app with its secrets: they are told nowhere else."""
    text = files("app.accounts").joinpath("demo.toml").read_text()
    for known in DEMO_TOKENS:
        text = text.replace(f'"{known}"', f'"{secrets.token_urlsafe(32)}"')
    made = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    text = text.replace(DEMO_WEBHOOK_SECRET, made)
    text = re.sub(r'(?m)^pin = "\d+"', f'pin = "{secrets.randbelow(10**8):08}"', text)
    path = Path(folder) / "accounts.toml"
    path.touch(mode=0o600)
    path.write_text(text)
    document = tomllib.loads(text)
    apps = [
        f"App        {json.dumps({'id': app['id']} | {k: app[k] for k in _TOLD if k in app})}"
        for app in document["apps"]
    ]
    pins = [f"Conference {json.dumps(each)}" for each in document["conferences"]]
    return path, apps + pins
