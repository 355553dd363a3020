"""The accounts of the demo as somebody's own: its secrets count only without an accounts file."""

import re
from pathlib import Path

_DEMO = Path(__file__).parents[1] / "app/accounts/demo.toml"


def own_accounts(prefix: str, *, ids: bool = False) -> str:
    """The text of an accounts file with tokens and secrets like ``PREFIX-user-token``, and with
    ``ids`` apps like ``PREFIX-user``. No app has a secret that signs call events."""
    text = re.sub(r"^webhook_secret = .*\n", "", _DEMO.read_text(), flags=re.MULTILINE)
    return re.sub(rf'"demo-(\w+{"" if ids else "-(?:token|secret)"})', rf'"{prefix}-\1', text)
