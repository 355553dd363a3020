"""What goes wrong between a program and the API."""

from typing import Any


class RingbackError(Exception):
    """What the API refused: ``status`` of HTTP (0 where no answer came), its stable ``code``, and
    a ``message`` for a developer. ``details`` are the further members of the API's error, such as
    ``field``, ``value`` and ``reason``."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(" ".join(filter(None, (f"{code}: {message}", details.get("reason")))))
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    @property
    def passes(self) -> bool:
        """Whether it may be another answer later, of the API or of what stands before it."""
        return self.status in (0, 429) or self.status >= 500
