"""The PhoneCallEvents service without its HTTP."""

import secrets
from dataclasses import replace
from typing import Any

from app.accounts.caller import SELF, Caller
from app.accounts.model import ExtensionType
from app.errors import api_error
from app.phone_call_events.model import PhoneCallEvent
from app.phone_call_events.schemas import NO_EXTENSION
from app.phone_call_events.store import EventStore
from app.store.calls import CallStore
from app.web.addresses import Networks, refusal


class PhoneCallEvents:
    """The service that creates, finds, updates and deletes the events of an extension. Every
    method may raise an ApiError."""

    def __init__(self, calls: CallStore, allow: Networks = ()) -> None:
        """``allow`` are the networks that a URL may lead to beside public addresses."""
        self._calls = calls
        self._allow = allow
        self._store = EventStore(calls.redis, calls.keys)

    def create(
        self, caller: Caller, user: str, extension: str, body: dict[str, Any]
    ) -> PhoneCallEvent:
        number = _number(caller, user, extension)
        self._check(body["url"])
        event = PhoneCallEvent(
            id=secrets.token_hex(10), modified=self._calls.now(), app=caller.app.id, **body
        )
        if not self._store.replace(number, None, event):
            raise api_error("pce_limit_exceeded")
        return event

    def find(
        self, caller: Caller, user: str, extension: str, kind: int | None, event_id: str | None
    ) -> list[PhoneCallEvent]:
        """The events of an extension, all or of one type or id, in the order of their URLs."""
        return [
            event
            for event in self._store.of(_number(caller, user, extension))
            if kind in (None, event.type) and event_id in (None, event.id)
        ]

    def update(
        self,
        caller: Caller,
        user: str,
        extension: str,
        kind: int,
        event_id: str,
        changes: dict[str, Any],
    ) -> PhoneCallEvent:
        number = _number(caller, user, extension)
        if changes.get("type", kind) != kind:
            raise api_error("pce_type_invalid")
        if "url" in changes:
            self._check(changes["url"])
        while True:
            event = self._store.get(number, event_id)
            if event is None or event.type != kind:
                raise api_error("pce_id_invalid")
            changed = replace(event, modified=self._calls.now(), **changes)
            if (changed.url, changed.method) != (event.url, event.method):
                # The app that sets the URL or method signs the messages with its secret.
                changed = replace(changed, app=caller.app.id)
            if self._store.replace(number, event, changed):
                return changed

    def delete(
        self, caller: Caller, user: str, extension: str, kind: int | None, event_id: str | None
    ) -> list[PhoneCallEvent]:
        """Delete what :meth:`find` finds, and return it."""
        number = _number(caller, user, extension)
        found = self.find(caller, user, extension, kind, event_id)
        if event_id is not None and not found:
            raise api_error("pce_id_invalid")
        for event in found:
            current: PhoneCallEvent | None = event
            # Another process may change the event at this moment: repeat until it is deleted.
            while current is not None and not self._store.replace(number, current, None):
                current = self._store.get(number, event.id)
        return found

    def _check(self, url: str) -> None:
        if (reason := refusal(url, self._allow)) is not None:
            raise api_error("pce_url_invalid", field="/url", value=url, reason=reason)


def _number(caller: Caller, user: str, extension: str) -> str:
    """The extended number of an extension that may have events."""
    if extension == SELF:
        raise api_error("extension_invalid", NO_EXTENSION)
    found = caller.extension(extension, caller.user(user))
    if found.type is ExtensionType.CALLBACK:
        raise api_error("extension_invalid", NO_EXTENSION)
    return found.number
