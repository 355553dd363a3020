"""What goes wrong between a program and the API."""


class RingbackError(Exception):
    """What the API refused: ``status`` of HTTP (0 where no answer came), its stable ``code``, and
    a ``message`` for a developer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message

    @property
    def passes(self) -> bool:
        """Whether it may be another answer later, of the API or of what stands before it."""
        return self.status in (0, 429) or self.status >= 500
