"""Events, and their bytes on the event socket."""

import json
import re
import time
from collections.abc import Mapping
from functools import lru_cache

Value = str | list[str]

_CORE = "switch_core_state_machine.c"
_CHANNEL = "switch_channel.c"
_SESSION = "switch_core_session.c"
_BRIDGE = ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge")
CALLING = {
    "CHANNEL_CREATE": (_CORE, "switch_core_session_run", "626"),
    "CHANNEL_ORIGINATE": (_CORE, "switch_core_session_run", "632"),
    "CHANNEL_PROGRESS": (_CHANNEL, "switch_channel_perform_mark_ring_ready_value", "3505"),
    "CHANNEL_PROGRESS_MEDIA": (_CHANNEL, "switch_channel_perform_mark_pre_answered", "3560"),
    "CHANNEL_ANSWER": (_CHANNEL, "switch_channel_perform_mark_answered", "3846"),
    "CHANNEL_HANGUP": (_CHANNEL, "switch_channel_perform_hangup", "3445"),
    "CHANNEL_EXECUTE": (_SESSION, "switch_core_session_exec", "2944"),
    "CHANNEL_EXECUTE_COMPLETE": (_SESSION, "switch_core_session_exec", "2967"),
    "CHANNEL_PARK": ("switch_ivr.c", "switch_ivr_park", "1002"),
    "CHANNEL_UNPARK": ("switch_ivr.c", "switch_ivr_park", "1213"),
    "CHANNEL_BRIDGE": (*_BRIDGE, "1689"),
    "CHANNEL_UNBRIDGE": (*_BRIDGE, "1879"),
    "CHANNEL_HANGUP_COMPLETE": (_CORE, "switch_core_session_reporting_state", "943"),
    "CHANNEL_DESTROY": (_SESSION, "switch_core_session_perform_destroy", "1584"),
    "CHANNEL_DATA": ("mod_commands.c", "uuid_dump_function", "6468"),
    "BACKGROUND_JOB": ("mod_event_socket.c", "api_exec", "1572"),
    "CHANNEL_HOLD": ("switch_ivr.c", "switch_ivr_hold", "1551"),
    "CHANNEL_UNHOLD": ("switch_ivr.c", "switch_ivr_unhold", "1654"),
    "RECORD_START": ("switch_ivr_async.c", "record_callback", "1481"),
    "RECORD_STOP": ("switch_ivr_async.c", "send_record_stop_event", "1240"),
    "conference::maintenance": ("mod_conference.c", "conference_event_add_data", "144"),
    "valet_parking::info": ("mod_valet_parking.c", "valet_parking_function", "579"),
    "sofia::register": ("sofia_reg.c", "sofia_reg_handle_register_token", "2059"),
    "sofia::unregister": ("sofia_reg.c", "sofia_reg_handle_register_token", "2213"),
    "HEARTBEAT": ("switch_core.c", "send_heartbeat", "95"),
    "SHUTDOWN_REQUESTED": ("switch_core.c", "switch_core_session_ctl", "2822"),
}
"""The file, function and line of the switch that an event's headers name. The key of a CUSTOM event
is its subclass."""

EVENT_NAMES = frozenset(
    """
        CUSTOM CLONE CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_STATE CHANNEL_CALLSTATE CHANNEL_ANSWER
        CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_HOLD
        CHANNEL_UNHOLD CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA
        CHANNEL_OUTGOING CHANNEL_PARK CHANNEL_UNPARK CHANNEL_APPLICATION CHANNEL_ORIGINATE
        CHANNEL_UUID API LOG INBOUND_CHAN OUTBOUND_CHAN STARTUP SHUTDOWN PUBLISH UNPUBLISH TALK
        NOTALK SESSION_CRASH MODULE_LOAD MODULE_UNLOAD DTMF MESSAGE PRESENCE_IN NOTIFY_IN
        PRESENCE_OUT PRESENCE_PROBE MESSAGE_WAITING MESSAGE_QUERY ROSTER CODEC BACKGROUND_JOB
        DETECTED_SPEECH DETECTED_TONE PRIVATE_COMMAND HEARTBEAT TRAP ADD_SCHEDULE DEL_SCHEDULE
        EXE_SCHEDULE RE_SCHEDULE RELOADXML NOTIFY PHONE_FEATURE PHONE_FEATURE_SUBSCRIBE SEND_MESSAGE
        RECV_MESSAGE REQUEST_PARAMS CHANNEL_DATA GENERAL COMMAND SESSION_HEARTBEAT
        CLIENT_DISCONNECTED SERVER_DISCONNECTED SEND_INFO RECV_INFO RECV_RTCP_MESSAGE
        SEND_RTCP_MESSAGE CALL_SECURE NAT RECORD_START RECORD_STOP PLAYBACK_START PLAYBACK_STOP
        CALL_UPDATE FAILURE SOCKET_DATA MEDIA_BUG_START MEDIA_BUG_STOP CONFERENCE_DATA_QUERY
        CONFERENCE_DATA CALL_SETUP_REQ CALL_SETUP_RESULT CALL_DETAIL DEVICE_STATE TEXT
        SHUTDOWN_REQUESTED
    """.split()
)
"""The events that a listener can subscribe to, apart from ALL."""

# Bytes that are not UTF-8 go through unchanged, as in the switch.
_ERRORS = "surrogateescape"
_encode_anything = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_CONTROLS = bytes(range(32))
_UNSAFE = re.compile(rb"[^ -~]|[\r\n #&+:;<=>?@\[\\\]^`{|}\"]|%(?![0-9A-F]{2})")


class SwitchEvent:
    """One event: its headers in order, and the body of a BACKGROUND_JOB.

    The name of a CUSTOM event is its subclass.
    """

    __slots__ = ("_json", "_lower", "_plain", "body", "headers", "name")

    def __init__(self, name: str, headers: Mapping[str, Value], body: str | None = None) -> None:
        self.name = name
        self.headers = headers
        self.body = body
        self._json: bytes | None = None
        self._plain: bytes | None = None
        self._lower: dict[str, Value] | None = None

    def header(self, name: str) -> Value | None:
        """The value of a header, whose name may have any case."""
        value = self.headers.get(name)
        if value is not None:
            return value
        if self._lower is None:
            self._lower = {key.lower(): value for key, value in self.headers.items()}
        return self._lower.get(name.lower())

    def json(self) -> bytes:
        """The frame for a listener that asked for JSON."""
        if self._json is None:
            headers: dict[str, Value] = dict(self.headers)
            if self.body is not None:
                headers["Content-Length"] = str(len(self.body.encode(errors=_ERRORS)))
                headers["_body"] = self.body
            self._json = _frame(b"json", _encode_json(headers))
        return self._json

    def plain(self) -> bytes:
        """The frame for a listener that asked for plain text, with URL-encoded values."""
        if self._plain is None:
            lines = [
                f"{name}: ".encode(errors=_ERRORS) + _plain_value(value) + b"\n"
                for name, value in self.headers.items()
            ]
            if self.body is None:
                lines.append(b"\n")
            else:
                body = self.body.encode(errors=_ERRORS)
                lines.append(b"Content-Length: %d\n\n" % len(body) + body)
            self._plain = _frame(b"plain", b"".join(lines))
        return self._plain


def _encode_json(headers: Mapping[str, Value]) -> bytes:
    """The headers as JSON, about three times as fast as by the encoder.

    Control characters join the headers and then become punctuation. The encoder does it if a
    header holds a control character itself.
    """
    try:
        data = "\1".join(map("\0".join, headers.items())).encode(errors=_ERRORS)  # type: ignore[arg-type]
    except TypeError:  # an array
        return _encode_anything(headers).encode(errors=_ERRORS)
    if len(data) - len(data.translate(None, _CONTROLS)) != 2 * len(headers) - 1:
        return _encode_anything(headers).encode(errors=_ERRORS)
    if b'"' in data or b"\\" in data:
        data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'{"%b"}' % data.replace(b"\0", b'":"').replace(b"\1", b'","')


def _frame(kind: bytes, content: bytes) -> bytes:
    head = b"Content-Length: %d\nContent-Type: text/event-%s\n\n"
    return head % (len(content), kind) + content


def _plain_value(value: Value) -> bytes:
    """A value as in plain events. An existing %XX stays as it is, so the format is not exact."""
    text = value if isinstance(value, str) else "ARRAY::" + "|:".join(value)
    encoded = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], text.encode(errors=_ERRORS))
    return encoded or b"_undef_"


@lru_cache(maxsize=4)
def dates(second: int) -> tuple[str, str]:
    """The Event-Date-Local and Event-Date-GMT of a time in seconds since 1970."""
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second)),
        time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)),
    )
