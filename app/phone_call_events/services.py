"""The PhoneCallEvents service without its HTTP."""

import secrets
import time
from dataclasses import replace
from typing import Any

from app.accounts.caller import Caller
from app.errors import api_error
from app.phone_call_events.holders import holder, is_of_another, owner_of
from app.phone_call_events.model import PhoneCallEvent
from app.phone_call_events.store import EventStore
from app.store.calls import CallStore
from app.web.addresses import Networks, refusal


class PhoneCallEvents:
    """The service that creates, finds, updates, deletes and tests the events of an extension, or of
    all calls of a user, an organization or an app. Every method may raise an ApiError."""

    def __init__(self, calls: CallStore, allow: Networks = (), patience: float = 5.0) -> None:
        """``allow`` are the networks that a URL may lead to beside public addresses. ``patience``
        is the seconds to wait for the result of a test."""
        self._calls = calls
        self._allow = allow
        self._patience = patience
        self._store = EventStore(calls.redis, calls.keys)

    def create(
        self, caller: Caller, user: str, extension: str, body: dict[str, Any]
    ) -> PhoneCallEvent:
        of = holder(caller, user, extension)
        self._check(caller, body["url"])
        for event in self._store.of(of):
            if self._is_of_another(caller, of, event):
                self._remove(of, event)
        event = PhoneCallEvent(
            id=secrets.token_hex(10),
            modified=self._calls.now(),
            app=caller.app.id,
            owner=owner_of(caller.accounts, of),
            **body,
        )
        if not self._store.replace(of, None, event):
            raise api_error("pce_limit_exceeded")
        return event

    def find(
        self, caller: Caller, user: str, extension: str, kind: int | None, event_id: str | None
    ) -> list[PhoneCallEvent]:
        """The events of an extension, all or of one type or id, in the order of their URLs."""
        of = holder(caller, user, extension)
        return [
            event
            for event in self._store.of(of)
            if kind in (None, event.type)
            and event_id in (None, event.id)
            and not self._is_of_another(caller, of, event)
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
        of = holder(caller, user, extension)
        if changes.get("type", kind) != kind:
            raise api_error("pce_type_invalid", field="/type", value=changes["type"])
        if "url" in changes:
            self._check(caller, changes["url"])
        while True:
            event = self._get(caller, of, kind, event_id)
            changed = replace(event, modified=self._calls.now(), **changes)
            if (changed.url, changed.method) != (event.url, event.method):
                # The app that sets the URL or method signs the messages with its secret.
                changed = replace(changed, app=caller.app.id)
            if self._store.replace(of, event, changed):
                return changed

    def delete(
        self, caller: Caller, user: str, extension: str, kind: int | None, event_id: str | None
    ) -> list[PhoneCallEvent]:
        """Delete what :meth:`find` finds, and return it."""
        of = holder(caller, user, extension)
        found = self.find(caller, user, extension, kind, event_id)
        if event_id is not None and not found:
            raise api_error("pce_id_invalid", field="eventId", value=event_id)
        for event in found:
            self._remove(of, event)
        return found

    def test(
        self, caller: Caller, user: str, extension: str, kind: int, event_id: str
    ) -> tuple[str, str | None]:
        """Send a test of an event. Returns the message's id, and why it has failed: empty if the
        receiver took it, None if that is not known in time."""
        of = holder(caller, user, extension)
        event = self._get(caller, of, kind, event_id)
        self._check(caller, event.url, field=None)
        number = of
        if of not in caller.accounts.extensions:
            # All calls of somebody: the test is of any extension.
            number = next((e.number for e in caller.extensions(caller.user(user))), "")
        message = self._store.test(of, event, number, self._calls.now())
        end, pause = time.monotonic() + self._patience, 0.02
        while True:
            result = self._store.test_result(message)
            if result is not None or time.monotonic() >= end:
                return message, result
            time.sleep(pause)
            pause = min(2 * pause, 0.5)

    def _get(self, caller: Caller, of: str, kind: int, event_id: str) -> PhoneCallEvent:
        event = self._store.get(of, event_id)
        if event is None or event.type != kind or self._is_of_another(caller, of, event):
            raise api_error("pce_id_invalid", field="eventId", value=event_id)
        return event

    def _is_of_another(self, caller: Caller, of: str, event: PhoneCallEvent) -> bool:
        return is_of_another(event.owner, owner_of(caller.accounts, of))

    def _remove(self, of: str, event: PhoneCallEvent) -> None:
        current: PhoneCallEvent | None = event
        # Another process may change the event at this moment: repeat until it is deleted.
        while current is not None and not self._store.replace(of, current, None):
            current = self._store.get(of, event.id)

    def _check(self, caller: Caller, url: str, field: str | None = "/url") -> None:
        if (reason := refusal(url, self._allow, caller.app.id)) is not None:
            raise api_error("pce_url_invalid", reason, field=field, value=url)
