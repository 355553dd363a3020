"""Server-sent events, from the changes in Redis to the text."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.calls import transitions
from app.calls.model import Call
from app.calls.quota import Check, Count
from app.calls.transitions import LegReport
from app.settings import Settings
from app.store import quotas, scripts
from app.store.calls import CallStore
from app.store.writes import Note
from app.stream import connections, feed, services
from app.stream.services import CallStream
from app.web import turns
from ringback_cli.embedded_redis import EmbeddedRedis
from ringback_cli.up import free_port
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, USER, Ask
from tests.app.test_phone_calls import SIMPLE, is_error
from tests.conftest import await_ready, eventually

PATH = "/uapi/phoneCalls/@me/events"
LOCAL = {"extension": "024", "phoneCallView": [{"source": ["210"], "destination": ["211"]}]}
# Two organizations, and an app for each.
TWO = """
[[organizations]]
id = "1"
number = "0001"
name = "One"

[[organizations]]
id = "2"
number = "0002"
name = "Two"

[[users]]
id = "u1"
organization = "0001"

[[users]]
id = "u2"
organization = "0002"

[[extensions]]
number = "0001*210"
type = "phone_terminal"
owner = "u1"
dial_string = "user/1"

[[extensions]]
number = "0002*210"
type = "phone_terminal"
owner = "u2"
dial_string = "user/2"

[[apps]]
id = "one"
level = "organization"
organization = "0001"
token = "the-token-of-the-first"

[[apps]]
id = "two"
level = "organization"
organization = "0002"
token = "the-token-of-the-second"

[[routes]]
prefix = ""
gateways = ["pstn"]
"""


class Stream:
    """An open stream as a client reads it: fields of one block at a time."""

    def __init__(
        self, app: Flask, path: str = PATH, token: str = USER, last: str | None = None, **query: str
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        if last is not None:
            headers["Last-Event-ID"] = last
        self.answer = app.test_client().get(path, headers=headers, query_string=query)
        self.chunks = self.answer.iter_encoded() if self.answer.status_code == 200 else iter(())
        self.text = ""
        self.last = last or ""

    def blocks(self) -> Iterator[dict[str, str]]:
        for chunk in self.chunks:
            self.text += chunk.decode()
            while "\n\n" in self.text:
                block, _, self.text = self.text.partition("\n\n")
                pairs = [line.partition(": ") for line in block.split("\n")]
                fields = {name: value for name, _, value in pairs}
                self.last = fields.get("id", self.last)
                yield fields

    def begin(self) -> "Stream":
        """Read up to the first id: from there on nothing is missed."""
        next(self.blocks())
        return self

    def events(self, count: int) -> list[Any]:
        found = []
        for block in self.blocks():
            if block.get("event") == "call":
                found.append(json.loads(block["data"]))
            if len(found) == count:
                break
        assert len(found) == count
        return found

    def close(self) -> None:
        self.answer.close()


Open = Callable[..., Stream]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_HEARTBEAT", 0.2)


@pytest.fixture
def app(settings: Settings, redis: Redis) -> Flask:
    return create_app(replace(settings, action_timeout=0.05))


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def open_stream(app: Flask) -> Iterator[Open]:
    opened = []

    def _open(*args: Any, **kwargs: Any) -> Stream:
        opened.append(Stream(app, *args, **kwargs))
        return opened[-1]

    yield _open
    for stream in opened:
        stream.close()
    # Nobody is left behind, and the reader goes.
    source = app.extensions["ringback"][CallStream].feed
    assert source._subscribers == {}
    eventually(lambda: source._reader is None)


def place(ask: Ask, store: CallStore, body: Any = LOCAL, **more: Any) -> Call:
    answer = ask("POST", SIMPLE, body, **more)
    assert answer.status_code == 202, answer.json
    call = store.get(answer.json[0]["id"])
    assert call is not None
    return call


def follow(store: CallStore, call: Call) -> Call:
    """To its end: accepted, ringing, answered, ended."""
    source, at = call.legs[0].uuid, call.accepted
    for report in (
        LegReport(source, created=at + 1, ringing=at + 1),
        LegReport(source, answered=at + 2),
        LegReport(source, ended=at + 3, cause="NORMAL_CLEARING"),
    ):
        call = store.change(
            call, lambda c, r=report: transitions.report_leg(c, r), Note("event", "test")
        )
    return call


def newest(store: CallStore) -> str:
    found: Any = store.redis.xrevrange(store.keys.events, count=1)
    text: str = found[0][0].decode()
    return text


def test_a_call_is_told_from_its_acceptance_to_its_end(
    ask: Ask, store: CallStore, open_stream: Open
) -> None:
    stream = open_stream()
    assert stream.answer.mimetype == "text/event-stream"
    assert stream.answer.headers["Cache-Control"] == "no-store"
    assert stream.answer.headers["X-Accel-Buffering"] == "no"
    first = next(stream.blocks())
    assert first == {"retry": "2000", "id": "0-0"}
    call = follow(store, place(ask, store))
    events = stream.events(4)
    assert [event["state"] for event in events] == ["queued", "ringing", "answered", "ended"]
    assert [event["version"] for event in events] == [1, 2, 3, 4]
    assert {event["id"] for event in events} == {call.id}
    (shown,) = ask("GET", f"/uapi/phoneCalls/@me/@self/{call.id}").json["entry"]
    without_links = {n: v for n, v in shown.items() if n not in ("link", "links")}
    assert events[-1]["phoneCall"] == without_links
    assert call.accepted <= events[0]["at"] <= events[-1]["at"]


def test_who_comes_back_misses_nothing_and_hears_nothing_twice(
    ask: Ask, store: CallStore, open_stream: Open
) -> None:
    stream = open_stream().begin()
    call = place(ask, store)
    heard = stream.events(1)
    stream.close()
    follow(store, call)
    for given in ({"last": stream.last}, {"lastEventId": stream.last}):
        again = open_stream(**given).begin()
        events = again.events(3)
        assert [event["version"] for event in heard + events] == [1, 2, 3, 4]
        # What is told of the past shows the call as it is now.
        assert {event["phoneCall"]["state"] for event in events} == {"ended"}
        assert again.last == newest(store)
    # And it goes on.
    other = place(ask, store)
    assert again.events(1)[0]["id"] == other.id


def test_the_place_moves_on_though_nothing_is_told(
    ask: Ask, store: CallStore, open_stream: Open
) -> None:
    other = place(ask, store)
    stream = open_stream(phoneCallId=other.id).begin()
    begun = stream.last
    place(ask, store)
    assert begun != newest(store)
    blocks = stream.blocks()
    while stream.last != newest(store):
        # Signs of life, which are no events.
        assert set(next(blocks)) <= {"id", ":"}


def test_an_event_that_is_not_kept_any_more(ask: Ask, store: CallStore, open_stream: Open) -> None:
    stream = open_stream().begin()
    place(ask, store)
    stream.events(1)
    stream.close()
    follow(store, place(ask, store))
    store.redis.xtrim(store.keys.events, maxlen=2, approximate=False)
    again = open_stream(last=stream.last)
    assert next(again.blocks())["event"] == "reset"
    assert [event["version"] for event in again.events(2)] == [3, 4]


def test_one_organizations_flood_pushes_out_no_fresh_changes(
    store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.writes.EVENTS_KEPT", 300)
    key, now = store.keys.events, int(store.now() * 1000)
    old, fresh = range(now - 400_000, now - 399_400), range(now - 200_000, now - 199_400)
    with store.redis.pipeline(transaction=False) as pipe:
        for at in (*old, *fresh):
            pipe.xadd(key, {"call": "x"}, id=f"{at}-0")
        pipe.execute()
    store.trim_events()
    found: Any = store.redis.xrange(key)
    # Redis removes whole blocks.
    assert [entry for entry, _ in found[-600:]] == [f"{at}-0".encode() for at in fresh]
    assert 600 <= len(found) < 800
    # What is not too many stays, however old it is.
    store.redis.xtrim(key, maxlen=0, approximate=False)
    for at in old[:250]:
        store.redis.xadd(key, {"call": "x"}, id=f"{now + at}-0")
    monkeypatch.setattr("app.store.writes.EVENTS_FRESH", -1e9)
    store.trim_events()
    assert store.redis.xlen(key) == 250


@pytest.mark.parametrize("last", ["99999999999999-0", "9" * 20 + "-1", "yesterday", "1"])
def test_an_id_of_no_event_begins_with_what_comes(
    ask: Ask, store: CallStore, open_stream: Open, last: str
) -> None:
    place(ask, store)
    stream = open_stream(last=last)
    reset = next(stream.blocks())
    assert reset["event"] == "reset" and json.loads(reset["data"])["message"]
    assert reset["id"] == newest(store)
    call = place(ask, store)
    assert stream.events(1)[0]["id"] == call.id


def test_whose_calls_are_told(
    settings: Settings, redis: Redis, accounts_file: Any, store: CallStore
) -> None:
    accounts_file.write_text(TWO)
    app = create_app(replace(settings, accounts=accounts_file))
    one, two = (
        Stream(app, "/uapi/phoneCalls/@owner/events", token=token).begin()
        for token in ("the-token-of-the-first", "the-token-of-the-second")
    )
    ids = []
    for token, number in (("first", "0001*210"), ("second", "0002*210"), ("first", "0001*210")):
        answer = app.test_client().post(
            "/uapi/phoneCalls/@owner/simple",
            headers={"Authorization": f"Bearer the-token-of-the-{token}"},
            json={
                "extension": number,
                "phoneCallView": [{"source": [number], "destination": ["15500"]}],
            },
        )
        ids.append(answer.json[0]["id"])
    assert [event["id"] for event in one.events(2)] == [ids[0], ids[2]]
    assert [event["id"] for event in two.events(1)] == [ids[1]]
    # Of the past no more than of the present.
    two.close()
    again = Stream(
        app, "/uapi/phoneCalls/@owner/events", token="the-token-of-the-second", last="0-0"
    )
    assert [event["id"] for event in again.events(1)] == [ids[1]]
    while set(next(again.blocks())) <= {"id"}:
        pass
    for stream in (one, again):
        stream.close()


@pytest.mark.parametrize("token", [ORGANIZATION, ADMINISTRATOR])
def test_all_that_an_app_of_that_level_may_see(
    ask: Ask, store: CallStore, open_stream: Open, token: str
) -> None:
    streams = [
        open_stream(f"/unifiedapi/phoneCalls/{user}/events/", token=token).begin()
        for user in ("@owner", "12")
    ]
    call = place(ask, store)
    for stream in streams:
        assert stream.events(1)[0]["id"] == call.id


def test_one_extension_and_one_call(ask: Ask, store: CallStore, open_stream: Open) -> None:
    of_extension = open_stream(extension="211").begin()
    other = {"extension": "024", "phoneCallView": [{"source": ["024"], "destination": ["15500"]}]}
    place(ask, store, other)
    first, second = place(ask, store), place(ask, store)
    assert [e["id"] for e in of_extension.events(2)] == [first.id, second.id]
    of_call = open_stream(phoneCallId=second.id).begin()
    follow(store, first)
    follow(store, second)
    assert {e["id"] for e in of_call.events(3)} == {second.id}


def test_who_comes_into_a_call_hears_of_it(ask: Ask, store: CallStore, open_stream: Open) -> None:
    """The calls that are told are known by their parties, which actions add to."""
    stream, of_all = open_stream(extension="003").begin(), open_stream().begin()
    call = place(ask, store)
    assert of_all.events(1)[0]["version"] == 1
    leg = replace(call.legs[0], id="c1", number="0003*003", uuid="0")
    store.change(call, lambda c: replace(c, legs=(*c.legs, leg)), Note("event", "test"))
    assert stream.events(1)[0]["version"] == 2


def reads(store: CallStore) -> int:
    """How many hashes of calls were read."""
    stats: Any = store.redis.info("commandstats")
    return int(stats.get("cmdstat_hgetall", {}).get("calls", 0))


def test_no_call_of_others_is_read(
    settings: Settings, redis: Redis, accounts_file: Any, store: CallStore
) -> None:
    accounts_file.write_text(TWO)
    app = create_app(replace(settings, accounts=accounts_file))
    path = "/uapi/phoneCalls/@owner/events"
    calls = []
    for token, own in (("first", "0001*210"), ("second", "0002*210"), ("first", "0001*210")):
        body = {"extension": own, "phoneCallView": [{"source": [own], "destination": ["15500"]}]}
        headers = {"Authorization": f"Bearer the-token-of-the-{token}"}
        made = app.test_client().post("/uapi/phoneCalls/@owner/simple", headers=headers, json=body)
        call = store.get(made.json[0]["id"])
        assert call is not None
        calls.append(call)
    # An extension of the second organization comes into the last one.
    leg = replace(calls[2].legs[0], id="c1", number="0002*210", owner="u2", uuid="0")
    store.change(calls[2], lambda c: replace(c, legs=(*c.legs, leg)), Note("event", "test"))
    live = Stream(app, path, token="the-token-of-the-second").begin()
    before = reads(store)
    again = Stream(app, path, token="the-token-of-the-second", last="0-0")
    assert again.events(1)[0]["id"] == calls[1].id
    while again.last != newest(store):
        next(again.blocks())
    # Its own call, and the one that its extension came into.
    assert reads(store) - before == 2
    before = reads(store)
    follow(store, calls[0])
    # Nor by the feed, which reads for all who follow: they are told nothing.
    while live.last != newest(store):
        assert set(next(live.blocks())) <= {"id", ":"}
    assert reads(store) == before
    for stream in (live, again):
        stream.close()


def test_an_entry_of_an_older_version_is_told(
    ask: Ask, store: CallStore, open_stream: Open
) -> None:
    call = place(ask, store)
    ((_, fields),) = store.redis.xrange(store.keys.events)
    del fields[b"others"]
    store.redis.delete(store.keys.events)
    store.redis.xadd(store.keys.events, fields)
    assert open_stream(extension="211", last="0-0").events(1)[0]["id"] == call.id


@pytest.mark.parametrize("limits", [{"MOST_BACK": 4, "_PART": 2}, {"MOST_READ": 4, "_BATCH": 2}])
def test_a_client_far_behind_is_told_to_read_the_calls_again(
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    store: CallStore,
    open_stream: Open,
    limits: dict[str, int],
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(feed, name, limit)
    follow(store, place(ask, store))
    far, near = open_stream(last="0-0"), open_stream(last="0-0")
    assert len(near.events(4)) == 4
    follow(store, place(ask, store))
    blocks = far.blocks()
    while (block := next(blocks)).get("event") != "reset":
        pass
    assert block["id"] == newest(store)
    # And it goes on.
    call = place(ask, store)
    assert far.events(1)[0]["id"] == call.id


def test_streams_that_catch_up_take_turns(
    ask: Ask, store: CallStore, open_stream: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LONGEST_WAIT", 0.01)
    call = place(ask, store)
    with turns.STREAMS.of("demo-user"):
        # It ends, and its client comes back.
        assert all("data" not in block for block in open_stream(last="0-0").blocks())
        assert open_stream(last="0-0", token=ORGANIZATION, path=PATH.replace("@me", "12")).events(1)
        # What comes now needs no turn.
        live = open_stream().begin()
        other = place(ask, store)
        assert live.events(1)[0]["id"] == other.id
    assert open_stream(last="0-0").events(1)[0]["id"] == call.id


def test_a_stream_takes_the_place_of_one_whose_client_is_gone(
    monkeypatch: pytest.MonkeyPatch, app: Flask, store: CallStore
) -> None:
    monkeypatch.setattr(feed, "MOST_OF_APP", 2)
    source = app.extensions["ringback"][CallStream].feed
    subscribers, clients = [], []
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(2):
            clients.append(socket.create_connection(server.getsockname()))
            accepted, _ = server.accept()
            connections.watch(accepted)
            ways = partial(connections.cut, accepted), partial(connections.is_gone, accepted)
            subscribers.append(source.subscribe(store.keys.calls, "demo", *ways))
    with pytest.raises(feed.TooManySubscribers):
        source.subscribe(store.keys.calls, "demo")
    # A client that sends something more is there.
    clients[0].sendall(b"GET")
    clients[1].close()
    eventually(subscribers[1].is_gone)
    subscribers.append(source.subscribe(store.keys.calls, "demo"))
    assert [each.over for each in subscribers] == [False, True, False]
    with pytest.raises(feed.TooManySubscribers):
        source.subscribe(store.keys.calls, "demo")
    for subscriber in subscribers:
        source.leave(subscriber)
    clients[0].close()
    assert source._subscribers == {}


def test_what_is_refused(ask: Ask) -> None:
    is_error(ask("GET", PATH, token=None), 401, "access_denied")
    is_error(ask("GET", PATH, token=ORGANIZATION), 400, "user_invalid")
    is_error(ask("GET", PATH, extension="999"), 400, "extension_invalid")
    is_error(ask("GET", PATH, extension="*"), 400, "extension_invalid")
    is_error(ask("GET", PATH, phoneCallId="0"), 400, "pc_phonecall_invalid")
    is_error(ask("GET", PATH, phoneCallId="a-b"), 400, "pc_phonecall_invalid")
    # The path is a stream's for GET alone.
    is_error(ask("DELETE", PATH), 400, "extension_invalid")


def test_head_leaves_nobody_behind(ask: Ask, app: Flask, client: FlaskClient) -> None:
    answer = client.head(PATH, headers={"Authorization": f"Bearer {USER}"}, buffered=True)
    assert (answer.status_code, answer.data) == (200, b"")
    assert app.extensions["ringback"][CallStream].feed._subscribers == {}


def test_a_limit_for_each_app_and_for_all(
    monkeypatch: pytest.MonkeyPatch, client: FlaskClient, ask: Ask, open_stream: Open
) -> None:
    monkeypatch.setattr(feed, "MOST", 3)
    monkeypatch.setattr(feed, "MOST_OF_APP", 2)
    own = [open_stream().begin() for _ in range(2)]
    answer = ask("GET", PATH)
    is_error(answer, 429, "stream_limit_exceeded")
    assert answer.headers["Retry-After"] == "5"
    path = "/uapi/phoneCalls/12/events"
    open_stream(path, token=ORGANIZATION).begin()
    is_error(ask("GET", path, token=ADMINISTRATOR), 429, "stream_limit_exceeded")
    own[0].close()
    open_stream(path, token=ADMINISTRATOR).begin()


def test_a_token_that_counts_no_more_ends_the_stream(
    settings: Settings, redis: Redis, accounts_file: Any
) -> None:
    accounts_file.write_text(TWO)
    app = create_app(replace(settings, accounts=accounts_file))
    path, token = "/uapi/phoneCalls/@owner/events", "the-token-of-the-second"
    stream = Stream(app, path, token=token).begin()
    accounts_file.write_text(TWO.replace(token, "another-token-of-the-second"))
    create_app(replace(settings, accounts=accounts_file))
    # It ends by itself.
    assert all(set(block) <= {"id", ":"} for block in stream.blocks())
    assert Stream(app, path, token=token).answer.status_code == 401
    stream.close()


def test_who_does_not_keep_up_is_cut_off_and_comes_back_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
    app: Flask,
    ask: Ask,
    store: CallStore,
    open_stream: Open,
) -> None:
    monkeypatch.setattr(feed, "_QUEUE", 3)
    cut = []
    source = app.extensions["ringback"][CallStream].feed
    subscriber = source.subscribe(store.keys.calls, "demo", lambda: cut.append(True))
    subscriber.open = True
    stream = open_stream().begin()
    ids = [place(ask, store).id for _ in range(5)]
    eventually(lambda: subscriber.over)
    assert cut == [True]
    assert [change.call.id for change in subscriber.take(0)] == ids[:3]
    assert subscriber.take(1) == []
    source.leave(subscriber)
    heard = [json.loads(b["data"]) for b in stream.blocks() if "data" in b]
    assert [event["id"] for event in heard] == ids[:3]
    stream.close()
    again = open_stream(last=stream.last)
    assert [event["id"] for event in again.events(2)] == ids[3:]


def test_a_stop_ends_the_streams(app: Flask, open_stream: Open) -> None:
    stream = open_stream().begin()
    app.extensions["ringback"][CallStream].feed.ends_when(lambda: True)
    assert all("data" not in block for block in stream.blocks())


def test_after_a_fail_over_that_lost_entries_they_come_back(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, store: CallStore, open_stream: Open
) -> None:
    monkeypatch.setattr(feed, "_LOOK", 0.0)
    place(ask, store)
    stream = open_stream().begin()
    store.redis.delete(store.keys.events)
    assert all("data" not in block for block in stream.blocks())
    stream.close()
    again = open_stream(last=stream.last)
    assert next(again.blocks())["event"] == "reset"


def test_redis_goes_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, open_stream: Open
) -> None:
    monkeypatch.setattr(feed, "_RETRY", 0.05)
    monkeypatch.setattr(feed, "_LOOK", 0.0)
    port = free_port()
    server = EmbeddedRedis(port, password="secret")
    await_ready(server.url)
    app = create_app(replace(settings, redis_url=server.url))
    source = app.extensions["ringback"][CallStream].feed
    stream = Stream(app).begin()
    source._redis.xadd(source._key, {"call": "none", "changed": "{}"}, id="99999999999999-0")
    while stream.last == "0-0":
        next(stream.blocks())
    server.stop()
    # Signs of life go on meanwhile.
    for _ in range(3):
        assert set(next(stream.blocks())) <= {"id", ":"}
    assert Stream(app).answer.status_code == 503
    server = EmbeddedRedis(port, password="secret")
    try:
        await_ready(server.url)
        # It has forgotten all there was: who listens has to look anew.
        assert all("data" not in block for block in stream.blocks())
        stream.close()
        eventually(lambda: source._reader is None)
    finally:
        server.stop()


def test_many_are_served_by_one_connection(
    ask: Ask, store: CallStore, open_stream: Open, app: Flask
) -> None:
    streams = [open_stream().begin() for _ in range(20)]
    call = follow(store, place(ask, store))
    for stream in streams:
        assert [event["version"] for event in stream.events(4)] == [1, 2, 3, 4]
    assert call.version == 4

    def readers() -> int:
        """Connections that wait in XREAD: those of a test before may take a moment to go."""
        clients = store.redis.client_list()
        return sum(each["cmd"] == "xread" and "b" in each["flags"] for each in clients)

    eventually(lambda: readers() <= 1)


def take_four_of_five(store: CallStore, holder: str) -> None:
    """Have 80 percent of a cap used."""
    check = Check(holder, "calls_per_day", Count.DAY, 5, taken=4)
    script = scripts.script(
        scripts.lua("quota") + "return {take_quota(ARGV[1], tonumber(ARGV[2]), ARGV[3])}"
    )
    words = [0, store.keys.prefix, f"{store.now() * 1e6:.0f}", quotas.dumps([check])]
    scripts.run(store.redis, script, words)


def holders_told(stream: Stream, until: Call) -> list[str]:
    """The holders of the alerts that come before the call."""
    found = []
    for block in stream.blocks():
        if block.get("event") == "quota":
            data = json.loads(block["data"])
            assert (data["cap"], data["percent"], data["used"], data["limit"]) == (
                *("calls_per_day", 80),
                *(4, 5),
            )
            assert "id" not in block
            found.append(data["holder"])
        elif block.get("event") == "call" and json.loads(block["data"])["id"] == until.id:
            break
    return found


def test_an_app_is_told_of_the_caps_that_concern_it(
    ask: Ask, store: CallStore, open_stream: Open
) -> None:
    own, all_, extension = (
        open_stream().begin(),
        open_stream("/uapi/phoneCalls/12/events", token=ORGANIZATION).begin(),
        open_stream(extension="0003*210").begin(),
    )
    administrator = open_stream("/uapi/phoneCalls/@owner/events", token=ADMINISTRATOR).begin()
    names = ("organization:3", "user:12", "app:demo-user", "app:demo-organization", "user:99")
    for holder in names:
        take_four_of_five(store, holder)
    # The feed reads alerts and changes together, alerts first.
    call = place(ask, store)
    assert holders_told(own, call) == ["user:12", "app:demo-user"]
    assert holders_told(all_, call) == list(names[:4])
    assert holders_told(administrator, call) == list(names)
    assert holders_told(extension, call) == []
