"""The services that the composition root (app/services.py) gives to the views."""

from typing import TypeVar, cast

from flask import current_app

# The key in ``app.extensions``: each service by its class.
EXTENSION = "ringback"

_T = TypeVar("_T")


def service(kind: type[_T]) -> _T:
    """The service of the class ``kind`` for the current request."""
    return cast(_T, current_app.extensions[EXTENSION][kind])
