"""What a client may send to place calls: a refusal in the documented form that places nothing, or a
command that the switch reads as it was meant."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest
from flask.testing import FlaskClient
from hypothesis import strategies as st
from redis import Redis

from app import create_app
from app.caller_id import parse_caller_id
from app.calls.model import Call
from app.errors import CODES
from app.openapi.description import describe
from app.settings import Settings
from app.store.calls import CallStore
from app.store.keys import Keys
from freeswitch.simulator.dialstring import split
from tests.app.conftest import USER
from tests.app.test_openapi import resolved
from tests.freeswitch.test_dialstring import destination_of, read
from tests.fuzz.damage import ANY, TEXTS, damage
from tests.fuzz.searching import search
from workers.dial_command import originate_command

pytestmark = pytest.mark.search

_PATH = "/uapi/phoneCalls/@me/"
_NUMBER = st.from_regex(r"\A\+?[0-9]{1,15}\Z")
_NUMBERS = st.integers(0, 15).flatmap(
    lambda n: TEXTS if n == 0 else st.sampled_from(["210", "0003*211", "15500", "+4915550108"])
)
_NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_CALLER_IDS = _NUMBER | st.builds("{} <{}>".format, _NAME | TEXTS, _NUMBER | TEXTS)
_HEADER = st.sampled_from(["X-CRM", "X-Id-2"]) | TEXTS.map("X-{}".format)
_HEADER_VALUE = st.from_regex(r"\A[a-z:/=;?&%!@. 0-9]{1,30}\Z") | TEXTS
_HEADERS = st.dictionaries(_HEADER, _HEADER_VALUE, max_size=2)
_SOUNDS = st.sampled_from(["auto", "us", "de", "none", "music", "network"])


def _mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value of its kind, and one time in sixteen any value."""
    return st.integers(0, 15).flatmap(lambda n: ANY if n == 0 else good)


_PARTIES = _mostly(st.lists(_NUMBERS, min_size=1, max_size=3, unique=True))
_VIEW = st.fixed_dictionaries(
    {"source": _PARTIES, "destination": _PARTIES},
    optional={
        "callerId": _mostly(_CALLER_IDS),
        "callerIdDestination": _mostly(_CALLER_IDS),
        "ringback": _mostly(_SOUNDS),
        "headers": _mostly(st.dictionaries(st.sampled_from(["source", "destination"]), _HEADERS)),
        "accept": _mostly(st.just(False)),
        "announce": _mostly(st.just(False)),
    },
)
_BODY = st.fixed_dictionaries(
    {
        "extension": _mostly(st.sampled_from(["210", "0003*211"])),
        "phoneCallView": st.lists(_VIEW, min_size=1, max_size=2),
    },
    optional={
        "nonce": _mostly(TEXTS),
        "metadata": _mostly(st.dictionaries(st.text(max_size=5), TEXTS, max_size=2)),
    },
)
_QUERY = st.dictionaries(
    st.sampled_from(["waitForPickup", "callDuration", "video", "allowPublicTransfer", "number"]),
    st.sampled_from(["1", "1", "1", "true", "600"]) | TEXTS,
    max_size=1,
)
_KINDS = st.sampled_from(["simple"] * 6 + ["callback", "conferenceInvite"])
_TOLD = {"origination": "caller_id", "effective": "caller_id_destination"}


@pytest.fixture
def client(settings: Settings, redis: Redis) -> FlaskClient:
    """An API that any client may ask as often as it likes."""
    free = replace(settings, action_timeout=0, app_calls=0, app_requests=0, refused_tokens=0)
    return create_app(free).test_client()


def test_a_request_is_refused_whole_or_dialled_as_meant(client: FlaskClient, redis: Redis) -> None:
    store = CallStore(redis, Keys())
    of_user = store.keys.user_calls("12")

    def check_create(case: tuple[str, Any, dict[str, str]]) -> None:
        kind, body, query = case
        before = redis.zcard(of_user), redis.llen("rq:queue:ringback-calls")
        answer = client.post(
            _PATH + kind,
            data=json.dumps(body),
            query_string={name: text.encode(errors="replace") for name, text in query.items()},
            headers={"Authorization": f"Bearer {USER}"},
        )
        after = redis.zcard(of_user), redis.llen("rq:queue:ringback-calls")
        if answer.status_code in (200, 202):
            for placed in answer.json:
                call = store.get(placed["id"])
                assert call is not None
                check_command(call)
        else:
            assert answer.status_code < 500
            error = answer.json["error"]
            assert error["code"] in CODES and error["message"] and error["request_id"]
            assert before == after

    search(check_create, st.tuples(_KINDS, _BODY, _QUERY), examples=50)


_DOCUMENT = describe()
_OPERATIONS = [
    (method.upper(), path, resolved(_DOCUMENT, operation))
    for path, item in _DOCUMENT["paths"].items()
    for method, operation in item.items()
    # A stream does not end.
    if isinstance(operation, dict) and "responses" in operation and not path.endswith("/events")
]


@dataclass(frozen=True)
class Case:
    """A request to any operation."""

    method: str
    path: str
    query: dict[str, str]
    media: str
    body: bytes


@st.composite
def requests(draw: st.DrawFn) -> Case:
    """A request to any operation: its example, with any values in the path, the query and the
    body."""
    method, path, operation = draw(st.sampled_from(_OPERATIONS))
    for name in re.findall(r"{(\w+)}", path):
        odd = draw(st.integers(0, 7)) == 0
        word = quote(draw(TEXTS), safe="", errors="surrogatepass") if odd else _WORDS.get(name, "1")
        path = path.replace(f"{{{name}}}", word)
    names = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    texts = st.sampled_from(["1", "0", "true", "2026-01-01", "id", "equals", "all"]) | TEXTS
    query = draw(st.dictionaries(st.sampled_from([*names, "unknown"]), texts, max_size=3))
    if "requestBody" not in operation:
        return Case(method, path, query, "application/json", b"")
    media, content = next(iter(operation["requestBody"]["content"].items()))
    example = content.get("example") or next(iter(content["examples"].values()))["value"]
    known = st.sampled_from([*content["schema"].get("properties", {}), "unknown"])
    document = damage(draw, example, ANY | st.sampled_from(["210", 1, "1"]), known | TEXTS)
    if media == "application/json":
        return Case(method, path, query, media, json.dumps(document).encode())
    flat = {name: value for name, value in document.items() if isinstance(value, str)}
    return Case(method, path, query, media, urlencode(flat, errors="surrogatepass").encode())


_WORDS = {
    "userId": "@me",
    "extension": "210",
    "phoneCallId": "0123456789abcdef0123",
    "eventType": "2",
    "eventId": "1",
}


def test_any_operation_answers_in_the_documented_form(client: FlaskClient, redis: Redis) -> None:
    of_user = Keys().user_calls("12")

    def check_operation(case: Case) -> None:
        before = redis.zcard(of_user)
        answer = client.open(
            case.path,
            method=case.method,
            query_string=urlencode(case.query, errors="surrogatepass"),
            data=case.body,
            content_type=case.media,
            headers={"Authorization": f"Bearer {USER}"},
        )
        assert answer.status_code < 500, answer.get_data()
        if answer.status_code >= 400:
            error = answer.json["error"]
            if not case.path.startswith("/oauth"):
                assert error["code"] in CODES and error["message"]
            assert redis.zcard(of_user) == before

    search(check_operation, requests(), examples=80)


def check_command(call: Call) -> None:
    """The switch reads of the originate what the call says, and nothing else."""
    command = originate_command(call, "PCMU")
    assert command.isprintable() and "$" not in command and '"' not in command
    verb, dialled, *then = split(command, " ", 8)
    assert verb == "originate"
    variables, parties = read(dialled)
    wanted = [leg.uuid for leg in call.sources]
    assert [uuid for party in parties for uuid, _ in party] == wanted
    _check_targets(call, parties)
    headers = json.loads(call.sip_headers) if call.sip_headers else {}
    sides = {"source": variables}
    if call.conference is None:
        inner, below = read(destination_of(then))
        assert [uuid for party in below for uuid, _ in party] == [
            leg.uuid for leg in call.destinations
        ]
        _check_targets(call, below)
        sides["destination"] = inner
        for prefix, field in _TOLD.items():
            shown = getattr(call, field)
            name, _, number = (shown or call.extension).rpartition("<")
            number = number.rstrip(">")
            assert unquote(variables[f"{prefix}_caller_id_number"]) == number
            assert unquote(variables[f"{prefix}_caller_id_name"]) == (name.strip() or number)
            assert shown is None or parse_caller_id(shown) == shown
        sent = {
            side: {n: v for n, v in found.items() if n.startswith("sip_h_")}
            for side, found in sides.items()
        }
        assert {side: set(found) for side, found in sent.items()} == {
            side: {f"sip_h_{n}" for n in headers.get(side, {})} for side in sides
        }
    for found in sides.values():
        assert found["ringback_call"] == call.id
        unknown = {n for n in found if not n.startswith(("sip_h_X-", "api_on_"))} - _VARIABLES
        assert not unknown


def _check_targets(call: Call, parties: list[list[list[tuple[str, str]]]]) -> None:
    legs = {leg.uuid: leg for leg in call.legs}
    for party in parties:
        for uuid, target in party:
            leg = legs[uuid]
            number = leg.dialled or leg.number
            meant = leg.dial_string or (
                f"sofia/gateway/{leg.gateway}/{number}"
                if leg.gateway
                else f"loopback/{leg.number}/ringback-sandbox"
            )
            assert target == meant


_VARIABLES = frozenset(
    """
    ringback_call ignore_early_media originate_timeout call_timeout rtp_timer_name
    hangup_after_bridge execute_on_answer origination_caller_id_name origination_caller_id_number
    effective_caller_id_name effective_caller_id_number outbound_redirect_fatal leg_timeout
    force_transfer_context transfer_ringback instant_ringback bridge_early_media
    absolute_codec_string fail_on_single_reject no_throttle_limits sip_copy_custom_headers
    leg_progress_timeout bridge_pre_execute_bleg_app bridge_pre_execute_bleg_data
    """.split()
)
