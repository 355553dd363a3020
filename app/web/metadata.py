"""The metadata that a request looks for."""

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import fields
from marshmallow.validate import Length, Regexp

from app.web.fields import coded

# The parameter of the query; it may repeat, and a call must match all.
METADATA = "metadata"
# The most of them.
_MOST = 20


class Pairs(fields.List[str]):
    """A field for texts KEY:VALUE, loaded as pairs."""

    def __init__(self) -> None:
        pair = fields.String(
            validate=Regexp(
                re.compile(r"\A[^:]+:.*\Z", re.DOTALL),
                error="metadata takes KEY:VALUE.",
            )
        )
        super().__init__(
            pair, validate=Length(1, _MOST), load_default=[], metadata=coded("pc_metadata_invalid")
        )

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        texts: list[Any] = super()._deserialize(value, attr, data, **kwargs)
        return [tuple(text.split(":", 1)) for text in texts]


def has_pairs(metadata: Mapping[str, str] | None, pairs: list[tuple[str, str]]) -> bool:
    """Whether metadata have all of the pairs."""
    return all((metadata or {}).get(name) == value for name, value in pairs)
