"""The scope that each route needs, said where the route is registered."""

from collections.abc import Callable
from typing import Any, TypeVar

from app.accounts.scopes import AppScope

_NAME = "needs_scope"
_View = TypeVar("_View", bound=Callable[..., Any])


def needs(scope: AppScope | None) -> Callable[[_View], _View]:
    """A decorator for a view: the scope that the app must have. None is for a route that any app,
    or anybody, may use."""

    def mark(view: _View) -> _View:
        setattr(view, _NAME, scope)
        return view

    return mark


def scope_of(view: Callable[..., Any]) -> AppScope | None:
    """The scope that a view needs. Raises AttributeError if its route does not say so."""
    scope: AppScope | None = getattr(view, _NAME)
    return scope
