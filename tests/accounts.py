"""The demo's accounts under other tokens and secrets, for tests that import a file."""

import re
from pathlib import Path

_DEMO = Path(__file__).parents[1] / "app/accounts/demo.toml"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def demo_under(name: str) -> str:
    """The text of the file, with ``name`` in place of ``demo`` in tokens and secrets."""
    text = re.sub(r'= "demo-(\w+)-(token|secret)"', rf'= "{name}-\1-\2"', _DEMO.read_text())
    return re.sub(r'"whsec_\w+"', f'"{WEBHOOK_SECRET}"', text)
