"""The forms that all resources share for dates, links and fields without a value."""

from datetime import UTC, datetime

from app.calls.cdr import without_none as without_none


def date(at: float | None) -> str | None:
    """An XML Schema dateTime in UTC, to the second; ``at`` is in epoch seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def links(link: str) -> dict[str, dict[str, str]]:
    """The links in both spellings: the create pages say ``link``, 4PSA's clients read ``links``."""
    return {"link": {"self": link}, "links": {"self": link}}
