"""What the last event of a leg says of its end, in the headers of a real FreeSWITCH 1.10.12."""

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from app.calls import endings
from freeswitch.events import Event
from workers.leg_endings import leg_ending

ANSWERED, BRIDGED, ENDED = "1796053008129386", "1796053008149384", "1796053011149386"
CALL_ID = "b2296a9b-6776-1240-1291-eae96ce0a72c"
# A destination that answered, talked for three seconds and said BYE with a Reason.
SAID_BYE = {
    "Caller-Channel-Answered-Time": ANSWERED,
    "Caller-Channel-Bridged-Time": BRIDGED,
    "Caller-Channel-Hangup-Time": ENDED,
    "variable_hangup_cause_q850": "31",
    "variable_sip_call_id": CALL_ID,
    "variable_sip_hangup_disposition": "recv_bye",
    "variable_sip_reason": 'Q.850;cause=31;text="Normal, unspecified"',
    "variable_sip_term_status": "200",
    "variable_rtp_audio_in_packet_count": "149",
    "variable_rtp_audio_out_packet_count": "148",
    "variable_rtp_audio_in_mos": "4.50",
    "variable_rtp_audio_in_flaw_total": "1",
    "variable_rtp_audio_in_jitter_max_variance": "7.34",
}
# A source whose destination was busy: FreeSWITCH copies the destination's refusal to it.
DESTINATION_BUSY = {
    "Caller-Channel-Answered-Time": ANSWERED,
    "Caller-Channel-Hangup-Time": ENDED,
    "variable_hangup_cause_q850": "17",
    "variable_sip_call_id": CALL_ID,
    "variable_sip_hangup_disposition": "send_bye",
    "variable_sip_hangup_phrase": "Busy Here",
    "variable_sip_invite_failure_phrase": "Busy Here",
    "variable_sip_invite_failure_status": "486",
    "variable_sip_reason": "Q.850;cause=17",
    "variable_last_bridge_proto_specific_hangup_cause": "sip:486",
    "variable_rtp_audio_in_packet_count": "1",
    "variable_rtp_audio_out_packet_count": "0",
}
BUSY = {
    "variable_hangup_cause_q850": "17",
    "variable_sip_call_id": CALL_ID,
    "variable_sip_hangup_disposition": "recv_refuse",
    "variable_sip_invite_failure_phrase": "Busy Here",
    "variable_sip_invite_failure_status": "486",
    "variable_sip_term_cause": "17",
    "variable_sip_term_status": "486",
}
CANCELLED = {
    "variable_hangup_cause_q850": "16",
    "variable_sip_call_id": CALL_ID,
    "variable_sip_hangup_disposition": "send_cancel",
    "variable_sip_invite_failure_phrase": "CANCEL",
    "variable_sip_invite_failure_status": "487",
    "variable_last_bridge_hangup_cause": "NORMAL_CLEARING",
}


def ending(headers: dict[str, object], **changed: str) -> dict[str, object]:
    event = Event("CHANNEL_HANGUP_COMPLETE", {**headers, **changed})  # type: ignore[dict-item]
    found = leg_ending(event)
    if "quality" in found:
        found["quality"] = json.loads(found["quality"])
    return found


def test_a_leg_that_said_bye_has_its_reason_and_its_audio() -> None:
    assert ending(SAID_BYE) == {
        "sip_status": 200,
        "q850_cause": 31,
        "reason": 'Q.850;cause=31;text="Normal, unspecified"',
        "sip_call_id": CALL_ID,
        "quality": {
            "mos": 4.5,
            "loss_percent": 0.67,
            "jitter_ms": 2.71,
            "packets_in": 149,
            "packets_out": 148,
        },
    }


def test_a_refused_leg_has_status_and_phrase() -> None:
    found = {"sip_status": 486, "sip_phrase": "Busy Here"}
    assert ending(BUSY) == {**found, "q850_cause": 17, "sip_call_id": CALL_ID}


def test_a_source_does_not_get_the_words_of_its_destination() -> None:
    assert ending(DESTINATION_BUSY) == {
        "sip_status": 200,
        "q850_cause": 17,
        "sip_call_id": CALL_ID,
    }


def test_a_phrase_that_goes_with_another_status_is_the_partners() -> None:
    found = ending(BUSY, variable_sip_invite_failure_status="503")
    assert found["sip_status"] == 486 and "sip_phrase" not in found


def test_a_cancelled_leg_has_487_and_no_phrase_of_the_switch() -> None:
    found = {"sip_status": 487, "q850_cause": 16, "sip_call_id": CALL_ID}
    assert ending(CANCELLED) == found


def test_a_redirected_leg_was_not_cancelled_by_anybody() -> None:
    found = ending({**CANCELLED, "Hangup-Cause": "REQUESTED_CHAN_UNAVAIL"})
    assert "sip_status" not in found


def test_a_leg_without_sip_has_no_status() -> None:
    headers = {name: text for name, text in SAID_BYE.items() if "sip_" not in name}
    assert ending(headers).keys() == {"q850_cause", "quality"}


def test_a_603_plus_has_its_reason_on_freeswitch_1_11() -> None:
    said = 'SIP;cause=603;text="v=analytics1;url=https://a.example";location=LN'
    found = ending(BUSY, variable_sip_603plus_reason=said)
    assert found["reason"] == said


def test_a_far_end_that_sends_nothing_is_one_way() -> None:
    # MOS 4.5 says nothing of packets that never came.
    for sent in ("0", "2"):
        found = ending(SAID_BYE, variable_rtp_audio_in_packet_count=sent)
        audio = {"packets_in": int(sent), "packets_out": 148, "marks": ["one_way"]}
        assert found["quality"] == audio
    # A phone that suppresses silence sends a packet a second or more.
    found = ending(SAID_BYE, variable_rtp_audio_in_packet_count="4")
    assert "one_way" not in found["quality"].get("marks", ())  # type: ignore[attr-defined]


def test_a_leg_that_held_is_not_called_one_way_or_bad() -> None:
    held = {**SAID_BYE, "Caller-Channel-Last-Hold": "1796053009149386"}
    for lost in ("0", "140"):
        found = ending(
            held, variable_rtp_audio_in_packet_count="1", variable_rtp_audio_in_flaw_total=lost
        )
        assert found["quality"] == {"packets_in": 1, "packets_out": 148}


def test_a_short_talk_is_not_called_one_way() -> None:
    headers = {**SAID_BYE, "Caller-Channel-Hangup-Time": "1796053010149386"}
    found = ending(headers, variable_rtp_audio_in_packet_count="0")
    assert found["quality"] == {"packets_in": 0, "packets_out": 148}


def test_bad_audio_is_marked() -> None:
    lost = ending(SAID_BYE, variable_rtp_audio_in_flaw_total="20")
    low = ending(SAID_BYE, variable_rtp_audio_in_mos="3.20")
    for found in (lost, low):
        assert found["quality"]["marks"] == ["low_quality"]  # type: ignore[index]


def test_without_a_talk_or_without_packets_there_is_no_quality() -> None:
    assert "quality" not in ending(DESTINATION_BUSY)
    none = dict.fromkeys(("in", "out"), "0")
    counts = {f"variable_rtp_audio_{way}_packet_count": count for way, count in none.items()}
    assert "quality" not in ending({**SAID_BYE, **counts})


def test_a_talk_before_a_transfer_and_in_a_conference_counts() -> None:
    moved = {**SAID_BYE, "Caller-Channel-Bridged-Time": "0"}
    assert "quality" not in ending(moved)
    assert "quality" in ending(moved, variable_last_bridge_to="00000000")
    assert "quality" in ending(moved, variable_conference_name="room")


_HEADER = st.one_of(
    st.text(max_size=400),
    st.lists(st.text(max_size=10), max_size=3),
    st.sampled_from(["-1", "1e9", "nan", "٣", "9" * 5000, "486", "recv_refuse", "recv_bye", "0"]),
)


@given(st.dictionaries(st.sampled_from(sorted({*SAID_BYE, *BUSY})), _HEADER))
def test_whatever_the_network_says_the_values_are_small_and_clean(
    headers: dict[str, object],
) -> None:
    found = ending({**SAID_BYE, **headers})
    for name, most in (("sip_phrase", 100), ("reason", 300), ("sip_call_id", 200)):
        text = found.get(name, "x")
        assert isinstance(text, str) and 0 < len(text) <= most
        assert not {"Cc", "Cf", "Zl", "Zp"} & set(map(unicodedata.category, text))
    assert found.get("sip_status", 200) in range(200, 700)
    assert found.get("q850_cause", 0) in range(128)
    # A record with these is JSON that every reader takes.
    json.dumps(found, allow_nan=False)
    assert endings.in_words("NORMAL_CLEARING", leg_ending(Event("x", headers)))  # type: ignore[arg-type]
