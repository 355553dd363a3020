"""What two records of the same scenario must have in common.

A record is a list of items as in the traces: `{"t", "send"}`, `{"t", "reply"}`, `{"t", "event"}`.
Promised are the replies, the events of each leg with what we read in them, and that a cause comes
before its effect; not the order between legs.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

Item = dict[str, Any]
Headers = dict[str, Any]

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# The headers that are the same every time; of times whether they are there.
EXACT = """
    Event-Name Unique-ID Channel-Name Call-Direction Answer-State Hangup-Cause Channel-Call-State
    Caller-Direction Caller-Caller-ID-Name Caller-Caller-ID-Number Caller-Orig-Caller-ID-Name
    Caller-Orig-Caller-ID-Number Caller-Callee-ID-Name Caller-Callee-ID-Number Caller-ANI
    Caller-Destination-Number Caller-Context Other-Type Other-Leg-Unique-ID Other-Leg-Caller-ID-Name
    Other-Leg-Caller-ID-Number Other-Leg-Callee-ID-Name Other-Leg-Callee-ID-Number
    Other-Leg-Destination-Number Other-Leg-Channel-Name Bridge-A-Unique-ID Bridge-B-Unique-ID
    Application Application-Data Application-Response Job-UUID Job-Command _body variable_direction
    variable_uuid variable_sip_gateway_name variable_call_id variable_leg variable_origination_uuid
    variable_endpoint_disposition variable_originated_legs variable_originate_disposition
    variable_originate_failed_cause variable_DIALSTATUS variable_originate_causes
    variable_originating_leg_uuid variable_signal_bond variable_originator
    variable_group_dial_status variable_hangup_cause variable_hangup_cause_q850
    variable_sip_term_status variable_originate_endpoint variable_current_application
    variable_hangup_after_bridge variable_ignore_early_media variable_originate_timeout
    variable_leg_timeout variable_execute_on_answer variable_effective_caller_id_name
    variable_origination_caller_id_name variable_pre_transfer_caller_id_number
    variable_ent_originate_aleg_uuid Event-Subclass Action Valet-Lot-Name Valet-Extension
    Bridge-To-UUID Conference-Name Conference-Size Talking Floor Record-File-Path
    variable_park_after_bridge variable_group_confirm_key variable_group_confirm_file
    variable_group_confirm_timeout
""".split()
TIMES = [
    f"Caller-Channel-{name}-Time"
    for name in ("Created", "Answered", "Progress", "Progress-Media", "Hangup", "Bridged")
] + [
    f"variable_{name}_uepoch"
    for name in ("start", "answer", "bridge", "progress", "progress_media", "end")
]
# Set by another thread than the one that sends the event: the last event has them.
AT_THE_END = ["variable_sip_hangup_disposition", "variable_last_bridge_to", "variable_bridge_uuid"]
# Compared in the last event of a leg, and only those that occur in the expected record: older
# traces have none of them. Of a number of packets, whether there are any to speak of.
ENDINGS = [
    *(f"variable_sip_invite_failure_{name}" for name in ("status", "phrase")),
    "variable_sip_reason",
    "variable_media_timeout_audio",
]
COUNTS = [
    f"variable_rtp_audio_{name}"
    for name in ("in_packet_count", "out_packet_count", "in_flaw_total")
]
TO_SPEAK_OF = 25
KEPT = frozenset((*EXACT, *TIMES, *AT_THE_END, *ENDINGS, *COUNTS))

# CHANNEL_HANGUP comes from the thread that hangs up, while the leg's own thread may be further on:
# its place among the last events, and most of what it says, differ from run to run.
RACING = "CHANNEL_HANGUP"
IN_RACING = """
    Event-Name Unique-ID Channel-Name Call-Direction Answer-State Hangup-Cause variable_call_id
    variable_leg
""".split()
# Whether a ringing destination's number is passed on to the source is a race too, which the end of
# the call shows.
NOT_AFTER_HANGUP = ("Caller-Callee-ID-Name", "Caller-Callee-ID-Number")


def trim(item: Item) -> Item:
    """An item with only the headers compared; a time that is set is 1."""
    if "event" not in item:
        return item
    event = {k: v for k, v in item["event"].items() if k in KEPT}
    event |= {k: "1" for k in TIMES if event.get(k, "0") != "0"}
    for name in COUNTS:
        if (count := event.get(name, "")).isdecimal():
            event[name] = "many" if int(count) >= TO_SPEAK_OF else "few"
    if path := event.get("Record-File-Path"):
        # The folders in the lab's traces are placeholders.
        event["Record-File-Path"] = path.rpartition("/")[2]
    return {**item, "event": event}


def differences(expected: Iterable[Item], actual: Iterable[Item]) -> list[str]:
    """What `actual` lacks of `expected`, and the other way about; empty if they agree.

    The uuids chosen by the commands are the same in both; the others are the switch's own.
    """
    expected, actual = list(expected), list(actual)
    known = {uuid for item in expected if "send" in item for uuid in UUID.findall(item["send"])}
    found = _reply_differences(_replies(expected), _replies(actual), known)
    swept = {
        cause
        for item in expected
        for cause in re.findall(r"^api hupall (\w+)", item.get("send", ""))
    }
    endings = [
        name
        for name in (*ENDINGS, *COUNTS)
        if any(name in item.get("event", ()) for item in expected)
    ]
    theirs, ours = (_legs(items, known, swept, endings) for items in (expected, actual))
    for leg in sorted(theirs.keys() | ours.keys()):
        found += _leg_differences(leg, theirs.get(leg, []), ours.get(leg, []))
    promised = set(_causes(expected)) - _reversed(expected)
    for cause, effect in sorted(promised & _reversed(actual)):
        found.append(f"{effect} came before {cause}")
    return found


def _replies(items: list[Item]) -> list[tuple[str, str]]:
    """Commands with their replies, which come in the order of the commands."""
    sent = [item["send"] for item in items if "send" in item and not item.get("unanswered")]
    return list(zip(sent, (item["reply"] for item in items if "reply" in item), strict=True))


def _reply_differences(
    expected: list[tuple[str, str]], actual: list[tuple[str, str]], known: set[str]
) -> list[str]:
    return [
        f"reply to {command[:60]!r}: {ours!r} instead of {theirs!r}"
        for (command, reply), (_, our_reply) in zip(expected, actual, strict=True)
        if (theirs := normal_reply(command, reply, known))
        != (ours := normal_reply(command, our_reply, known))
    ]


_ROW = """
    uuid direction name state cid_name cid_num dest application application_data callstate
    callee_name callee_num callee_direction call_uuid sent_callee_name sent_callee_num
    initial_cid_num initial_dest initial_context b_uuid b_direction b_name b_state b_cid_num b_dest
    b_callstate b_callee_num
""".split()


def normal_reply(command: str, reply: str, known: set[str]) -> object:
    """A reply without host, times, counts and uuids of the switch's own."""
    if reply.startswith("{"):
        table = json.loads(reply)
        if "rows" not in table:
            return _normal_headers(table, known)
        rows = [
            {name: row.get(name) for name in _ROW} for row in table["rows"] if row["uuid"] in known
        ]
        return sorted(rows, key=lambda row: str(row["uuid"]))
    if command == "api status":
        return [
            re.sub(r"\(.*\)|[\d.]+|years?|days?|hours?|minutes?|seconds?", "", line)
            for line in reply.splitlines()[1:]
        ]
    if command.startswith("api valet_info"):
        # Lots that were used once stay.
        reply = re.sub(r' *<lot name="[^"]*">\n *</lot>\n', "", reply)
    if command.startswith("api conference"):
        # Members are numbered on and on.
        reply = re.sub(r"(?m)^\d+;|(?<=kicked )\d+", "N;", reply)
    if command.startswith("api show"):
        return re.sub(r"\d+", "N", reply)
    return _mask(reply, known)


def _mask(value: Any, known: set[str]) -> Any:
    if isinstance(value, list):
        return [_mask(each, known) for each in value]
    return UUID.sub(lambda match: match[0] if match[0] in known else "<uuid>", str(value))


def _normal_headers(headers: Headers, known: set[str]) -> Headers:
    normal = {name: _mask(headers[name], known) for name in EXACT if name in headers}
    for name in TIMES:
        if name in headers:
            normal[name] = headers[name] != "0"
    return normal


def _legs(
    items: list[Item], known: set[str], swept: set[str], endings: list[str]
) -> dict[str, list[Headers]]:
    """The events of each leg, and of each job, in order.

    `swept`: the causes of hupall. Who is bridged by another ends with that cause or with
    NORMAL_CLEARING, as the other's end or hupall reaches it first.
    """
    legs: dict[str, list[Headers]] = {}
    for item in items:
        if event := item.get("event"):
            legs.setdefault(_leg(event, known), []).append(dict(event))
    for events in legs.values():
        last = events[-1]
        if last.get("variable_last_bridge_to") and (
            last.get("variable_originator") or last.get("Other-Type") == "originator"
        ):
            for event in events:
                for name in ("Hangup-Cause", "variable_hangup_cause"):
                    if event.get(name) in swept:
                        event[name] = "NORMAL_CLEARING"
    return {
        leg: [_last_words(events, known, event, endings) for event in events]
        for leg, events in legs.items()
    }


def _leg(event: Headers, known: set[str]) -> str:
    name = event.get("Unique-ID") or event.get("Job-UUID") or ""
    return str(event.get("variable_leg", "") + " " + name if name in known else "another")


def _last_words(
    events: list[Headers], known: set[str], event: Headers, endings: list[str]
) -> Headers:
    normal = _normal_headers(event, known)
    if event["Event-Name"] == RACING:
        return {name: normal[name] for name in IN_RACING if name in normal}
    if "Hangup-Cause" in event:
        for name in NOT_AFTER_HANGUP:
            normal.pop(name, None)
    if event is events[-1]:
        names = (*AT_THE_END, *endings)
        normal |= {name: _mask(event[name], known) for name in names if name in event}
    return normal


def _key(event: Headers) -> tuple[str, str]:
    return event["Event-Name"], event.get("Application") or event.get("Action", "")


def _leg_differences(leg: str, expected: list[Headers], actual: list[Headers]) -> list[str]:
    # The sort leaves the order as it is but for those that race.
    expected, actual = (
        sorted(events, key=lambda event: event["Event-Name"] == RACING)
        for events in (expected, actual)
    )
    theirs, ours = list(map(_key, expected)), list(map(_key, actual))
    if theirs != ours:
        return [f"{leg}: events {ours} instead of {theirs}"]
    found = []
    for event, other in zip(expected, actual, strict=True):
        found += [
            f"{leg}: {_key(event)}: {name} is {other.get(name)!r} instead of {event.get(name)!r}"
            for name in sorted(event.keys() | other.keys())
            if event.get(name) != other.get(name)
        ]
    return found


Moment = tuple[str, str, str, int]


def _moments(items: list[Item]) -> list[tuple[Moment, Headers]]:
    """The events, each by its name, its leg and how often this was before."""
    moments = []
    counts: dict[tuple[str, str, str], int] = {}
    for item in items:
        if event := item.get("event"):
            key = (*_key(event), event.get("Unique-ID") or event.get("Job-UUID", ""))
            counts[key] = nth = counts.get(key, 0) + 1
            moments.append(((*key, nth), event))
    return moments


def _effects(event: Headers) -> Callable[[Headers], bool] | None:
    """Which events of other legs `event` is the cause of."""
    name, uuid = event["Event-Name"], event.get("Unique-ID")
    match name:
        case "CHANNEL_EXECUTE" if event.get("Application") == "bridge":
            return lambda other: (
                other["Event-Name"] == "CHANNEL_CREATE" and other.get("Other-Leg-Unique-ID") == uuid
            )
        case "CHANNEL_ANSWER" if "Other-Leg-Unique-ID" in event:
            return lambda other: other.get("Bridge-B-Unique-ID") == uuid
        case "CHANNEL_ANSWER":
            return lambda other: (
                other.get("Hangup-Cause") == "LOSE_RACE"
                or other.get("_body", "").startswith(f"+OK {uuid}")
            )
        case "CHANNEL_HANGUP" if event.get("variable_sip_hangup_disposition") == "recv_refuse":
            return lambda other: (
                (
                    other["Event-Name"] == "CHANNEL_HANGUP"
                    and other.get("variable_originate_failed_cause") == event["Hangup-Cause"]
                )
                or other.get("_body", "").startswith("-ERR")
            )
    return None


def _causes(items: list[Item]) -> list[tuple[Moment, Moment]]:
    """Pairs of cause and effect between different legs, as the events themselves tell."""
    moments = _moments(items)
    pairs = []
    for moment, event in moments:
        is_effect = _effects(event)
        if is_effect:
            pairs += [(moment, later) for later, other in moments if is_effect(other)]
    return pairs


def _reversed(items: list[Item]) -> set[tuple[Moment, Moment]]:
    """Pairs of moments whose second came first."""
    order = {moment: index for index, (moment, _) in enumerate(_moments(items))}
    return {(cause, effect) for cause, effect in _causes(items) if order[effect] < order[cause]}
