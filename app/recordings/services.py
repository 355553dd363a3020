"""The recordings of calls without their HTTP.

The call, or its record once Redis no longer keeps the call, says which files were recorded. So a
request can name no other file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from app.accounts.caller import Caller
from app.accounts.scopes import AppScope
from app.calls import cdr
from app.calls.model import Action, Call
from app.errors import ApiError, api_error
from app.recording_files import RecordingFiles
from app.store.calls import CallStore

_NO_RIGHT = "Recordings need the right to supervise the call."


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of a call. ``id`` is the name of its file, and ``path`` where the switch has it.
    ``size`` is None if this host has no such file."""

    id: str
    path: str
    leg: str | None
    number: str | None
    # Epoch seconds.
    begun: float | None
    is_live: bool
    size: int | None


class Recordings:
    """The service that finds, opens and deletes recordings."""

    def __init__(self, store: CallStore, files: RecordingFiles) -> None:
        self._store = store
        self._files = files

    def find(self, caller: Caller, user_name: str, extension: str, call_id: str) -> list[Recording]:
        """The recordings of a call, in the order in which they began. Raises ApiError if the app
        must not have them."""
        call = self._store.get(call_id)
        record = self._record(caller, user_name, extension, call_id, call)
        live = {leg.recording_file for leg in call.legs if leg.is_recorded} if call else set()
        found = {}
        for path, row in _paths(record):
            file = self._files.find(path)
            found[path] = Recording(
                id=path.rpartition("/")[2],
                path=path,
                leg=row.get("leg", row.get("id")),
                number=row.get("party", row.get("number")),
                begun=row.get("at"),
                is_live=path in live,
                size=None if file is None else file.size,
            )
        return list(found.values())

    def open(
        self, caller: Caller, user_name: str, extension: str, call_id: str, name: str
    ) -> BinaryIO:
        """The opened file of a recording. Raises ApiError."""
        found = self._named(caller, user_name, extension, call_id, name)
        if (file := self._files.open(found.path)) is None:
            raise self._gone(name)
        return file

    def delete(
        self, caller: Caller, user_name: str, extension: str, call_id: str, name: str
    ) -> Recording:
        """Delete the file of a recording. Raises ApiError."""
        found = self._named(caller, user_name, extension, call_id, name)
        own = caller.organization
        if own is not None:
            caller.check_suspended(own.number, "pc_phonecall_invalid")
        if found.is_live:
            raise api_error("recording_live", field="recordingId", value=name)
        if not self._files.delete(found.path):
            raise self._gone(name)
        return found

    def _named(
        self, caller: Caller, user_name: str, extension: str, call_id: str, name: str
    ) -> Recording:
        for found in self.find(caller, user_name, extension, call_id):
            if found.id == name:
                return found
        raise api_error("recording_unknown", field="recordingId", value=name)

    def _gone(self, name: str) -> ApiError:
        cause = "gone" if self._files.is_reachable() else "elsewhere"
        return api_error("recording_unknown", cause=cause, field="recordingId", value=name)

    def _record(
        self, caller: Caller, user_name: str, extension: str, call_id: str, call: Call | None
    ) -> Mapping[str, Any]:
        """The record of a call that the app supervises, of what is known now. Raises ApiError."""
        scope = caller.scope(user_name, extension)
        if call is not None:
            if not scope.includes(call):
                raise _unknown(call_id)
            if not caller.supervises(call):
                raise caller.lacks_right(call, _NO_RIGHT)
            return cdr.record(call)
        text: Any = self._store.redis.get(self._store.keys.record(call_id))
        record: dict[str, Any] = orjson.loads(text) if text is not None else {}
        supervised = record and caller.supervises_charged(record["user"], record["extension"])
        named = supervised and (
            scope.user is None or scope.user.id == record["user"],
            scope.extension is None or scope.extension.number == record["extension"],
        )
        if not named or not all(named):
            raise _unknown(call_id)
        if AppScope.CALLS_SUPERVISE not in caller.app.granted:
            raise caller.lacks_scope(AppScope.CALLS_SUPERVISE)
        return record


def _paths(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The paths of a record's recordings, each with the action or the leg that names it."""
    actions = [
        row
        for row in record.get("actions") or ()
        if row["action"] == Action.START_RECORDING and row.get("result") != "refused"
    ]
    known = {row.get("recording") for row in actions}
    legs = [leg for leg in record.get("legs", ()) if leg.get("recording") not in known]
    return [(row["recording"], row) for row in (*actions, *legs) if row.get("recording")]


def _unknown(call_id: str) -> ApiError:
    about: dict[str, Any] = {"field": "phoneCallId", "value": call_id}
    error = api_error("pc_phonecall_invalid", cause="unknown", **about)
    error.status = 404
    return error
