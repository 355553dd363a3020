"""Bytes of a hostile switch: recorded ones with damage, and events with any values."""

import pytest
from hypothesis import strategies as st

from freeswitch.simulator.hostile import KINDS
from tests.fuzz.frames import RECORDED, check_bytes, check_event, event_of_call
from tests.fuzz.searching import search

pytestmark = pytest.mark.search

_DATA = RECORDED.read_bytes()
_SMALL = [make() for name, make in KINDS.items() if name not in ("large", "nested")]
_CUTS = st.integers(0, len(_DATA))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Recorded frames with pieces lost, repeated, or replaced."""
    data = _DATA
    for _ in range(draw(st.integers(0, 4))):
        first, last = sorted((draw(_CUTS), draw(_CUTS)))
        piece = draw(
            st.sampled_from(_SMALL)
            | st.binary(max_size=8)
            | st.just(data[first:last])
            | st.sampled_from([b"\n\n", b": ", b"Content-Length: 5\n", b"\xff"])
        )
        data = data[:first] + piece + data[draw(st.sampled_from((first, last))) :]
    return data


_TEXTS = (
    st.text(max_size=12)
    | st.sampled_from(
        ["0", "-1", "1e9", "9" * 20, "9" * 5000, "٣", "a", "b", "+OK a", "-ERR x", "\ud800"]
    )
    | st.integers(0, 10**17).map(str)
)
_VALUES = st.recursive(
    _TEXTS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=5,
)
_NAMES = st.sampled_from(
    """
    Unique-ID Job-UUID Other-Leg-Unique-ID Bridge-B-Unique-ID Event-Date-Timestamp Hangup-Cause
    Caller-Channel-Created-Time Caller-Channel-Answered-Time Caller-Channel-Bridged-Time
    Caller-Channel-Hangup-Time Caller-Channel-Last-Hold Caller-Channel-Progress-Time
    Channel-Call-State Record-File-Path Event-Subclass Action Valet-Extension _body
    variable_ringback_call variable_last_bridge_to variable_originate_causes
    variable_originate_disposition variable_sip_hangup_disposition variable_sip_call_id
    variable_sip_term_status variable_sip_invite_failure_phrase variable_sip_reason
    variable_hangup_cause_q850 variable_rtp_audio_in_mos variable_rtp_audio_in_packet_count
    variable_rtp_audio_out_packet_count variable_rtp_audio_in_jitter_max_variance
    variable_current_application variable_valet_lot_extension
    """.split()
)
_EVENTS = st.sampled_from(
    "CHANNEL_CREATE CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_HOLD CHANNEL_HANGUP_COMPLETE "
    "RECORD_START RECORD_STOP BACKGROUND_JOB CHANNEL_DATA CUSTOM HEARTBEAT".split()
)


def test_damaged_frames() -> None:
    search(check_bytes, damaged(), examples=60)


def test_any_values_in_events() -> None:
    events = st.builds(
        lambda name, given: event_of_call(**{**given, "Event-Name": name}),
        _EVENTS,
        st.dictionaries(_NAMES, _VALUES, max_size=6),
    )
    search(check_event, events, examples=100)
