"""Call events on their way: from the change of a call to a receiver on this machine."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from marshmallow import ValidationError
from redis import Redis
from standardwebhooks.webhooks import Webhook

from app.accounts.caller import COMMAND_LINE
from app.accounts.model import App, Level, User
from app.accounts.schemas import AppSchema
from app.accounts.scopes import AppScope
from app.accounts.store import AccountStore, read_accounts
from app.calls.call_events import ANSWER_IN, ANSWER_OUT, DIAL_IN, DIAL_OUT, HANGUP, wide
from app.calls.model import Call
from app.calls.status_callback import EVENTS
from app.calls.transitions import LegReport, report_leg
from app.phone_call_events.model import DISABLED, ENABLED, GET, POST, PhoneCallEvent
from app.phone_call_events.store import EventStore
from app.settings import Settings, SettingsError, load_settings, parse_networks
from app.store import client as redis_client
from app.store import format
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.writes import Note
from app.web.addresses import is_allowed
from app.web.look_ups import LookUps
from app.web.urls import app_of, target
from ringback_cli.main import main
from ringback_cli.session import APP
from ringback_cli.up import environment
from tests.app.test_call_events import CALLED, DESK, TALK, call
from tests.conftest import eventually
from tests.receiver import LIMIT, Receiver, hanging, receiving
from tests.silence import silent
from workers.webhooks.delivery import retry_delay
from workers.webhooks.messages import Messages
from workers.webhooks.send import signature_headers
from workers.webhooks.target import TargetRefused, connect

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = "127.0.0.0/8,::1/128"
# Of localhost, signed by itself.
CERTIFICATE = Path(__file__).with_name("localhost.pem")
# A process that sends nothing yet.
FREE: dict[str, Any] = {"most_of_target": 9, "in_hand": {}, "part": 1, "of_app": {}}
# What is told of the desk when it talks with somebody.
DESKS = (DIAL_OUT, ANSWER_OUT, HANGUP)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


other_receiver = receiver


def readers(redis: Redis) -> set[str]:
    """The connections that wait for an entry of the outbox."""
    return {client["id"] for client in redis.client_list() if client["cmd"] == "xread"}


@contextmanager
def delivering(settings: Settings, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ringback webhooks`, which ends cleanly."""
    redis = redis_client.connect(settings.require_redis())
    # Before the process starts: it may read before this one looks.
    before = readers(redis)
    process = subprocess.Popen(
        [sys.executable, "-m", "ringback_cli", "webhooks"], env={**environment(settings), **env}
    )
    try:
        eventually(lambda: bool(readers(redis) - before))
        yield process
        if process.poll() is None:
            process.terminate()
            assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait()


def quick(redis_url: str, **changes: Any) -> Settings:
    for name in [name for name in os.environ if name.startswith("RINGBACK_")]:
        del os.environ[name]
    return replace(
        load_settings(),
        **{
            "redis_url": redis_url,
            "log_level": "ERROR",
            "webhook_allow": LOOPBACK,
            "webhook_timeout": 60.0,
            "webhook_retry_delay": 0.05,
            "webhook_retries": 4,
            **changes,
        },
    )


@pytest.fixture(scope="module")
def delivery(redis_url: str) -> Iterator[None]:
    with delivering(quick(redis_url)):
        yield


class Told:
    """Calls that change, and who wants to know."""

    def __init__(self, redis: Redis, prefix: str = "ringback:") -> None:
        self.redis, self.keys = redis, Keys(prefix)
        self.store, self.events = CallStore(redis, self.keys), EventStore(redis, self.keys)
        self.messages = Messages(redis, self.keys)
        self._events = 0
        # By extension and type, the last that was wanted.
        self._wanted: dict[tuple[str, int], str] = {}
        accounts = read_accounts(None)
        signing = replace(accounts.apps["demo-user"], webhook_secret=SECRET)
        accounts = replace(accounts, apps={**accounts.apps, signing.id: signing})
        self.accounts = accounts
        format.check(redis, self.keys)
        AccountStore(redis, self.keys).replace(accounts, demo=True)

    def want(
        self,
        url: str,
        kinds: Sequence[int] = DESKS,
        extension: str = DESK,
        method: int = POST,
        app: str = "demo-user",
    ) -> list[PhoneCallEvent]:
        wanted = []
        for kind in kinds:
            self._events += 1
            event = PhoneCallEvent(f"e{self._events}", kind, url, method, ENABLED, "", 1000.0, app)
            assert self.events.replace(extension, None, event)
            self._wanted[extension, kind] = event.id
            wanted.append(event)
        return wanted

    def id(self, number: int, kind: int, extension: str = DESK) -> str:
        """Of what is told of a call."""
        return f"{number:020x}-{kind}-{extension}-{self._wanted.get((extension, kind))}"

    def talk(
        self, number: int, reports: Sequence[LegReport] = TALK, new: Call | None = None
    ) -> list[str]:
        """A call between two extensions; the ids of what the desk's receiver is told of it."""
        call_id = f"{number:020x}"
        new = replace(new or call([DESK], [CALLED]), id=call_id)
        (current,) = Acceptor(self.store).accept([new], lambda *_: None).calls
        for report in reports:

            def heard(call: Call, report: LegReport = report) -> Call:
                return report_leg(call, report)

            current = self.store.change(current, heard, Note("event", "x"))
        return [self.id(number, kind) for kind in DESKS]

    def is_idle(self) -> bool:
        """Whether nothing is left to be sent."""
        left: Any = self.redis.keys(f"{self.keys.webhooks}*")
        names = {key.decode().removeprefix(self.keys.webhooks).partition(":")[0] for key in left}
        # Dead letters, and the results of tests.
        return names <= {"dead", "sizes", "ids", "result"} and not self.redis.xlen(self.keys.outbox)

    def letters(self) -> list[str]:
        return [letter.message["id"] for letter in self.messages.dead_letters()]


@pytest.fixture
def told(redis: Redis) -> Told:
    return Told(redis)


@pytest.mark.parametrize("method", [GET, POST])
def test_what_a_receiver_is_told(
    told: Told, receiver: Receiver, delivery: None, method: int
) -> None:
    url = f"{receiver.url}/crm?key=a%20b"
    told.want(url, method=method)
    told.want(url, [DIAL_IN], CALLED, method)
    ids = told.talk(1)
    ids.insert(1, told.id(1, DIAL_IN, CALLED))
    for expected in ids:
        request = receiver.next()
        assert request["id"] == expected
        assert request["method"] == ("POST" if method == POST else "GET")
        parameters, path = dict(request["parameters"]), urlsplit(request["path"])
        if method == POST:
            assert path.query == "key=a%20b"
            assert request["headers"]["Content-Type"] == "application/x-www-form-urlencoded"
        else:
            assert path.query.startswith("key=a%20b&") and parameters.pop("key") == "a b"
        assert path.path == "/crm"
        kind, extension = expected.split("-")[1:3]
        status = "CALLING" if kind in "01" else "ANSWER"
        assert parameters.pop("EventTime").startswith("1970-01-01T00:16:")
        assert parameters == {
            "EventType": kind,
            "HangupCause": "NORMAL_CLEARING" if kind == "2" else "",
            "Nonce": "",
            "CallID": f"{1:020x}",
            "CallerIDNum": "+0003210",
            "CallerIDName": "Demo Desk",
            "CalledDID": "",
            "CalledExtension": CALLED,
            "CallerExtension": DESK,
            "CallStatus": status,
            "CallFlow": "OUT" if extension == DESK else "IN",
            "CalledNumber": CALLED,
            "CallAPIID": f"{1:020x}",
        }
        Webhook(SECRET).verify(request["content"], request["headers"], json_parse=False)
    eventually(told.is_idle)
    assert told.letters() == [] and len(receiver.seen) == 4


def test_in_order_whatever_fails_and_nobody_else_waits(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    """The first call's first message fails three times; the others' go past it."""
    told.want(receiver.url)
    failures = iter((500, 302, 404))
    first = told.id(1, DIAL_OUT)
    healed = Event()

    def answer(request: dict[str, Any]) -> int:
        if request["id"] != first:
            return 200
        # Not before the other call is through.
        return next(failures, 200) if healed.is_set() else 503

    receiver.answer = answer
    ids = told.talk(1)
    others = told.talk(2)
    eventually(lambda: [r["id"] for r in receiver.seen if r["id"] in others] == others)
    healed.set()
    eventually(told.is_idle)
    mine = [r["id"] for r in receiver.seen if r["id"] in ids]
    # Some tell of the first message and then, once, of each other in order.
    assert list(dict.fromkeys(mine)) == ids and mine.count(first) > 1
    assert mine[mine.count(first) :] == ids[1:]


def test_a_receiver_that_hangs_delays_nobody_else(
    told: Told, receiver: Receiver, other_receiver: Receiver, delivery: None
) -> None:
    hangs = Event()
    receiver.answer = hanging(hangs)
    told.want(receiver.url)
    told.want(other_receiver.url, extension=CALLED, kinds=[DIAL_IN])
    calls = [told.talk(number) for number in range(1, 33)]
    # All of the other's, while the first keeps as many requests as it may have.
    expected = sorted(told.id(n, DIAL_IN, CALLED) for n in range(1, 33))
    assert sorted(other_receiver.ids(32)) == expected
    assert {request["id"] for request in receiver.seen} <= {ids[0] for ids in calls}
    hangs.set()
    eventually(told.is_idle)
    assert {r["id"] for r in receiver.seen} == {message for ids in calls for message in ids}


def test_silent_name_servers_of_one_app_delay_nobody_else(
    redis: Redis, receiver: Receiver, redis_url: str
) -> None:
    told = Told(redis, OWN)
    for number in range(20):
        told.want(f"http://n{number}.example.com/", [DIAL_OUT], app="demo-organization")
    with silent() as silence:
        # gevent's own resolver can be told the port of a name server.
        env = {"GEVENT_RESOLVER": "ares", "GEVENTARES_SERVERS": "127.0.0.1"}
        port = str(silence.server.getsockname()[1])
        env |= {"GEVENTARES_UDP_PORT": port, "GEVENTARES_TIMEOUT": "60"}
        with delivering(quick(redis_url, key_prefix=OWN, webhook_retries=0), **env):
            told.talk(1, TALK[:1])
            eventually(lambda: len(silence.asked()) == 9)
            told.want(receiver.url.replace("127.0.0.1", "localhost"), [DIAL_OUT], CALLED)
            told.talk(2, TALK[:1], call([CALLED], [DESK]))
            assert receiver.next()["id"] == told.id(2, DIAL_OUT, CALLED)
            # A quarter of what is free for one app, whether anybody still waits for it or not.
            assert len(silence.asked()) == 9
            eventually(lambda: silence.refuse() or len(told.letters()) == 20)
    reasons = {letter.reason for letter in told.messages.dead_letters("demo-organization")}
    assert all(reason.startswith("NoAddress: ") for reason in reasons)


def test_one_who_never_stops_talking_is_not_listened_to(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    receiver.body = b"x" * 50_000_000
    told.want(receiver.url)
    ids = told.talk(1)
    assert receiver.ids(3) == ids
    eventually(told.is_idle)
    assert told.letters() == [] and len(receiver.seen) == 3


def ringback(told: Told, settings: Settings, *words: str) -> Result:
    env = {"RINGBACK_REDIS_URL": settings.redis_url or "", "RINGBACK_KEY_PREFIX": told.keys.prefix}
    return CliRunner().invoke(main, ["deadletter", *words], env=env)


def test_dead_letters_are_kept_and_sent_again(
    told: Told, receiver: Receiver, delivery: None, settings: Settings
) -> None:
    told.want(receiver.url)
    receiver.answer = lambda request: 500 if request["id"].split("-")[1] == "1" else 200
    ids = told.talk(1)
    eventually(told.is_idle)
    # Five attempts in vain; what comes after is held back no longer.
    assert [request["id"] for request in receiver.seen] == [ids[0]] * 5 + ids[1:]
    assert told.letters() == [ids[0]]
    listed = ringback(told, settings, "list").output
    letter, _, message, target, reason = listed.strip().split("\t")
    assert (message, target, reason) == (ids[0], f"demo-user {receiver.url}", "HTTP 500")
    shown = json.loads(ringback(told, settings, "show", letter).output)
    assert shown["parameters"]["CallStatus"] == "CALLING" and shown["attempts"] == 5
    receiver.answer = lambda _: 200
    assert ringback(told, settings, "replay", letter).output == "1 sent again\n"
    eventually(lambda: len(receiver.seen) == 8)
    assert receiver.seen[-1]["id"] == ids[0] and told.letters() == []
    assert ringback(told, settings, "show", letter).exit_code == 1
    assert ringback(told, settings, "drop", letter).exit_code == 1
    assert ringback(told, settings, "replay").exit_code == 2
    # All of them; a 410 is given up at once.
    receiver.answer = lambda _: 410
    told.talk(2)
    eventually(lambda: len(told.letters()) == 3)
    assert len(receiver.seen) == 11
    assert ringback(told, settings, "replay", "--all").output == "3 sent again\n"
    eventually(lambda: len(receiver.seen) == 14 and len(told.letters()) == 3)
    assert ringback(told, settings, "drop", "--all").output == "3 dropped\n"
    assert told.letters() == []


def test_whoever_wants_nothing_any_more_is_told_nothing(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    dial, answer, hang_up = told.want(receiver.url)
    receiver.answer = lambda _: 500
    ids = told.talk(1)
    assert receiver.next()["id"] == ids[0]
    assert told.events.replace(DESK, answer, replace(answer, status=DISABLED))
    assert told.events.replace(DESK, hang_up, None)
    assert told.events.replace(DESK, dial, None)
    eventually(told.is_idle)
    assert {request["id"] for request in receiver.seen} == {ids[0]}
    assert told.letters() == []


def test_an_app_without_a_secret_and_one_that_is_gone(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    told.want(receiver.url, [DIAL_OUT], app="demo-voipnow")
    told.want(receiver.url, [HANGUP], app="gone")
    ids = told.talk(1)
    request = receiver.next()
    assert request["id"] == ids[0] and "webhook-signature" not in request["headers"]
    eventually(lambda: told.letters() == [ids[2]])


def test_nobody_waits_for_another_customers_receiver_behind_the_same_address(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    hangs = Event()
    hang = hanging(hangs)
    receiver.answer = lambda request: hang(request) if request["path"] == "/slow" else 200
    told.want(f"{receiver.url}/slow", [DIAL_OUT])
    told.want(f"{receiver.url}/quick", [DIAL_IN], CALLED, app="demo-voipnow")
    for number in range(1, 33):
        told.talk(number)

    def quick_ones() -> list[str]:
        return sorted(r["id"] for r in receiver.seen if r["path"] == "/quick")

    eventually(lambda: quick_ones() == sorted(told.id(n, DIAL_IN, CALLED) for n in range(1, 33)))
    # While the first message of the other still waits for its answer.
    assert told.letters() == []
    hangs.set()
    eventually(told.is_idle)


def test_two_events_of_one_type_have_ids_of_their_own(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    for path in ("/one", "/two"):
        told.want(receiver.url + path, [DIAL_OUT])
    told.talk(1)
    assert len(set(receiver.ids(2))) == 2


def test_answers_before_the_answer_are_passed_over(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    receiver.first_line = early + b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    told.want(receiver.url, [DIAL_OUT])
    told.talk(1)
    receiver.next()
    eventually(told.is_idle)
    assert told.letters() == [] and len(receiver.seen) == 1


def test_answers_that_never_come_to_an_end(told: Told, receiver: Receiver, delivery: None) -> None:
    receiver.first_line = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000
    told.want(receiver.url, [DIAL_OUT])
    told.talk(1)
    eventually(lambda: len(told.letters()) == 1)
    # One that changes the protocol is the last of its connection.
    receiver.first_line = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    told.talk(2)
    eventually(lambda: len(told.letters()) == 2)
    assert [letter.reason for letter in told.messages.dead_letters()][1] == "HTTP 101"


def test_a_receivers_words_are_plain_text(told: Told, receiver: Receiver, delivery: None) -> None:
    receiver.first_line = b"\x1b[2J\x1b]0;owned\x07 \xff\x9b\r\n\r\n"
    told.want(receiver.url, [DIAL_OUT])
    told.talk(1)
    eventually(lambda: len(told.letters()) == 1)
    (letter,) = told.messages.dead_letters()
    assert letter.reason.startswith("BadStatusLine: ?[2J?]0;owned? ")
    assert letter.reason.isprintable()


# For a process of its own, beside that of the other tests.
OWN = "own:"


def test_an_app_that_may_not_see_the_calls_any_more(
    redis: Redis, receiver: Receiver, redis_url: str
) -> None:
    told = Told(redis, OWN)
    told.want(receiver.url)
    told.want(receiver.url, [DIAL_IN], CALLED, app="demo-organization")
    accounts = told.accounts
    desk = replace(accounts.extensions[DESK], owner="13")
    another = replace(
        accounts,
        users={**accounts.users, "13": User("13", "0003")},
        extensions={**accounts.extensions, DESK: desk},
    )
    AccountStore(redis, told.keys).replace(another, demo=True)
    ids = told.talk(1)
    # An older version does not say whose call it was that it tells of.
    for owner in ("12", "13"):
        event = PhoneCallEvent(
            f"of-{owner}",
            *(ANSWER_IN, f"{receiver.url}/{owner}", POST, ENABLED, "", 1.0, "demo-organization"),
            owner,
        )
        assert told.events.replace(DESK, None, event)
    entry: Any = {"type": str(ANSWER_IN), "extension": DESK, "CallID": "a" * 20}
    redis.xadd(told.keys.outbox, entry)
    with delivering(quick(redis_url, key_prefix=OWN)):
        eventually(lambda: len(receiver.seen) == 2)
        eventually(told.is_idle)
    assert {r["path"] for r in receiver.seen} == {"/", "/13"}
    assert told.id(1, DIAL_IN, CALLED) in [request["id"] for request in receiver.seen]
    reasons = Counter(letter.reason for letter in told.messages.dead_letters())
    assert reasons == {
        f"app demo-user may no longer see {DESK}": len(ids),
        f"{DESK} has another owner now": 1,
    }


def test_call_events_stay_with_the_owner_of_the_extension(redis: Redis) -> None:
    """Of a live call too: it is that of the owner that it began with."""
    told = Told(redis, OWN)
    first, later = (
        PhoneCallEvent(
            f"of-{o}", DIAL_OUT, "http://127.0.0.1:1", POST, ENABLED, "", 1.0, "demo-user", owner=o
        )
        for o in ("12", "13")
    )
    unbound = replace(first, id="of-nobody", owner="")
    for event in (first, later, unbound):
        assert told.events.replace(DESK, None, event)
    legs = call([DESK], [CALLED]).legs
    for number, owner in enumerate(("12", "13")):
        of = tuple(replace(leg, owner=owner) for leg in legs)
        told.talk(number, TALK[:1], replace(call([DESK], [CALLED]), legs=of))
    told.messages.route()
    taken = told.messages.claim(lease=60.0, most=9, **FREE)
    found = {(int(each.call_id, 16), each.message["event"]) for each in taken}
    # An older version's event has no owner.
    firsts = {(0, "of-12"), (1, "of-13"), (0, "of-nobody"), (1, "of-nobody")}
    assert found <= firsts and len(found) == 2
    for each in taken:
        told.messages.done(each)
    taken = told.messages.claim(lease=60.0, most=9, **FREE)
    assert found | {(int(e.call_id, 16), e.message["event"]) for e in taken} == firsts


def test_holders_of_all_calls_are_told_once(told: Told, receiver: Receiver, delivery: None) -> None:
    told.want(f"{receiver.url}/user", extension=wide(user="12"))
    told.want(f"{receiver.url}/organization", extension=wide(organization="0003"), app="crm")
    told.want(f"{receiver.url}/app", [HANGUP], extension=wide(app="demo-user"))
    told.want(f"{receiver.url}/app", [HANGUP], extension=wide(app="demo-voipnow"))
    accounts = told.accounts
    crm = App("crm", Level.ORGANIZATION, "0" * 64, organization="0003", client_id="crm")
    crm = replace(crm, webhook_secret=SECRET)
    accounts = replace(accounts, apps={**accounts.apps, "crm": crm})
    AccountStore(told.redis, told.keys).replace(accounts, demo=True)
    # Without an event of any extension.
    assert told.redis.scard(told.keys.hooked) == 4
    owned = call([DESK], [CALLED])
    legs = tuple(replace(leg, owner="12") for leg in owned.legs)
    told.talk(1, new=replace(owned, app="demo-user", legs=legs))
    eventually(told.is_idle)
    assert told.letters() == []
    paths = Counter(request["path"] for request in receiver.seen)
    assert paths == {"/user": 3, "/organization": 3, "/app": 1}
    for request in receiver.seen:
        assert "for" not in request["parameters"] and "Test" not in request["parameters"]
        Webhook(SECRET).verify(request["content"], request["headers"], json_parse=False)


@pytest.mark.parametrize(
    ("holder", "app"),
    [
        ({"user": "12"}, "stranger"),
        ({"organization": "0003"}, "demo-user"),
        ({"app": "demo-user"}, "stranger"),
    ],
)
def test_an_app_that_may_not_follow_a_holder_any_more(
    redis: Redis, receiver: Receiver, redis_url: str, holder: dict[str, str], app: str
) -> None:
    told = Told(redis, OWN)
    accounts = told.accounts
    stranger = App("stranger", Level.USER, "0" * 64, user="13", client_id="stranger")
    another = replace(
        accounts,
        apps={**accounts.apps, "stranger": stranger},
        users={**accounts.users, "13": User("13", "0003")},
    )
    AccountStore(redis, told.keys).replace(another, demo=True)
    told.want(receiver.url, [DIAL_OUT], extension=wide(**holder), app=app)
    told.talk(1, TALK[:1], replace(call([DESK], [CALLED]), app="demo-user"))
    with delivering(quick(redis_url, key_prefix=OWN)):
        eventually(lambda: len(told.letters()) == 1)
    (letter,) = told.messages.dead_letters()
    assert receiver.seen == [] and "may no longer see" in letter.reason


def test_a_test_goes_its_way_once(told: Told, receiver: Receiver, delivery: None) -> None:
    (event,) = told.want(receiver.url, [HANGUP], extension=wide(user="12"))
    assert told.events.replace(wide(user="12"), event, replace(event, status=DISABLED))

    def tried() -> str:
        message = told.events.test(wide(user="12"), event, DESK, 1000.0)
        result: list[str | None] = []
        eventually(
            lambda: result.append(told.events.test_result(message)) or result[-1] is not None
        )
        request = receiver.next()
        assert request["id"] == message and request["parameters"]["Test"] == "1"
        assert request["parameters"]["EventTime"] == "1970-01-01T00:16:40.000Z"
        Webhook(SECRET).verify(request["content"], request["headers"], json_parse=False)
        return str(result[-1])

    assert tried() == ""
    receiver.answer = lambda _: 500
    assert tried() == "HTTP 500"
    eventually(told.is_idle)
    # It is not tried again, and leaves no dead letter.
    assert len(receiver.seen) == 2 and told.letters() == []


def test_a_private_address_is_not_connected_to(
    redis: Redis, receiver: Receiver, redis_url: str
) -> None:
    told = Told(redis, OWN)
    port = urlsplit(receiver.url).port
    with delivering(quick(redis_url, key_prefix=OWN, webhook_allow="10.0.0.0/8")):
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            told.want(f"http://{host}:{port}/", [DIAL_OUT])
        told.talk(1)
        eventually(lambda: len(told.letters()) == 4)
    assert receiver.seen == []
    assert all("may be called" in letter.reason for letter in told.messages.dead_letters())


def call_back(
    told: Told,
    number: int,
    url: str,
    app: str = "demo-user",
    reports: Sequence[LegReport] = TALK,
) -> list[str]:
    """A call between two extensions that tells a URL of its statuses; the ids of what it tells."""
    callback = {"url": url, "events": EVENTS, "method": "POST", "target": target(url, app)}
    new = call([DESK], [CALLED])
    new = replace(new, app=app, user="12", status_callback=json.dumps(callback))
    told.talk(number, reports, new)
    return [f"{number:020x}-{event}" for event in EVENTS]


def test_a_status_callback_is_a_signed_envelope(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    ids = call_back(told, 1, f"{receiver.url}/status?key=a%20b")
    for expected, state in zip(ids, EVENTS, strict=True):
        request = receiver.next()
        assert request["id"] == expected and request["path"] == "/status?key=a%20b"
        envelope = json.loads(request["content"])
        assert sorted(envelope) == ["call", "id", "time", "type"]
        assert (envelope["id"], envelope["type"]) == (expected, state)
        assert envelope["call"]["state"] == state
        Webhook(SECRET).verify(request["content"], request["headers"])
    assert envelope["time"] == "1970-01-01T00:16:56.000Z"
    eventually(told.is_idle)


def test_callbacks_and_call_events_of_a_call_come_in_one_order(
    told: Told, receiver: Receiver, delivery: None
) -> None:
    told.want(receiver.url, [DIAL_OUT, HANGUP])
    healed = Event()
    receiver.answer = lambda _: 200 if healed.is_set() else 500
    statuses = call_back(told, 1, receiver.url)
    first = told.id(1, DIAL_OUT)
    assert receiver.next()["id"] == first
    healed.set()
    eventually(told.is_idle)
    ids = list(dict.fromkeys(request["id"] for request in receiver.seen))
    assert ids == [first, *statuses[:3], told.id(1, HANGUP), statuses[3]]


def test_a_callback_is_sent_again_though_the_call_is_no_longer_kept(
    told: Told, receiver: Receiver, delivery: None, settings: Settings
) -> None:
    receiver.answer = lambda _: 410
    ids = call_back(told, 1, f"{receiver.url}/status?key=password")
    eventually(lambda: told.letters() == ids)
    told.redis.delete(told.keys.call(f"{1:020x}"))
    letter = next(told.messages.dead_letters())
    shown = ringback(told, settings, "show", letter.id).output
    assert json.loads(shown)["id"] == ids[0] and "password" not in shown
    receiver.answer = lambda _: 200
    assert ringback(told, settings, "replay", "--all").output == "4 sent again\n"
    eventually(told.is_idle)
    first, again = receiver.seen[:4], receiver.seen[4:]
    assert [request["id"] for request in again] == ids
    assert [r["content"] for r in again] == [r["content"] for r in first]


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("gone", "app gone no longer exists"),
        ("stranger", "app stranger may no longer see its call"),
        ("reader", "app reader lacks the scope events"),
    ],
)
def test_a_callback_of_an_app_that_lacks_the_right(
    redis: Redis, receiver: Receiver, redis_url: str, app: str, reason: str
) -> None:
    told = Told(redis, OWN)
    accounts, demo = told.accounts, told.accounts.apps["demo-user"]
    # Of another user, and with fewer scopes.
    changes: dict[str, Any] = {
        "stranger": {"user": "13"},
        "reader": {"scopes": (AppScope.CALLS_PLACE,)},
    }
    apps = {name: replace(demo, id=name, **changes[name]) for name in changes if name == app}
    another = replace(accounts, apps=apps, users={**accounts.users, "13": User("13", "0003")})
    AccountStore(redis, told.keys).replace(another, demo=True)
    call_back(told, 1, receiver.url, app)
    with delivering(quick(redis_url, key_prefix=OWN)):
        eventually(lambda: len(told.letters()) == 4)
    assert receiver.seen == []
    assert {letter.reason for letter in told.messages.dead_letters()} == {reason}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a:b@127.0.0.1"])
def test_a_callback_goes_to_no_private_address(
    redis: Redis, receiver: Receiver, redis_url: str, host: str
) -> None:
    """Nor to a URL that the API would have refused."""
    told = Told(redis, OWN)
    call_back(told, 1, f"http://{host}:{urlsplit(receiver.url).port}/")
    with delivering(quick(redis_url, key_prefix=OWN, webhook_allow="10.0.0.0/8")):
        eventually(lambda: len(told.letters()) == 4)
    assert receiver.seen == []
    assert all("may be called" in letter.reason for letter in told.messages.dead_letters())


def test_the_command_line_signs_nothing(told: Told, receiver: Receiver, delivery: None) -> None:
    assert COMMAND_LINE == APP
    ids = call_back(told, 1, receiver.url, COMMAND_LINE)
    requests = [receiver.next() for _ in ids]
    assert [request["id"] for request in requests] == ids
    assert all("webhook-signature" not in request["headers"] for request in requests)


def test_the_certificate_is_the_hosts(redis: Redis, redis_url: str) -> None:
    told = Told(redis, OWN)
    settings = quick(redis_url, key_prefix=OWN, webhook_retries=0)
    with receiving(CERTIFICATE) as receiver, delivering(settings, SSL_CERT_FILE=str(CERTIFICATE)):
        told.want(receiver.url, [DIAL_OUT])
        told.want(receiver.url.replace("localhost", "127.0.0.1"), [HANGUP])
        ids = told.talk(1)
        assert receiver.next()["id"] == ids[0]
        eventually(lambda: told.letters() == [ids[2]])
    (letter,) = told.messages.dead_letters()
    assert "certificate is not valid for '127.0.0.1'" in letter.reason
    assert len(receiver.seen) == 1


def test_what_a_killed_process_had_in_hand_is_sent_by_another(
    redis: Redis, receiver: Receiver, redis_url: str
) -> None:
    told = Told(redis, OWN)
    settings = quick(redis_url, key_prefix=OWN, webhook_timeout=2.0)
    hangs = Event()
    receiver.answer = hanging(hangs)
    told.want(receiver.url)
    with delivering(settings) as process:
        ids = told.talk(1)
        assert receiver.next()["id"] == ids[0]
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT)
    hangs.set()
    with delivering(settings), delivering(settings):
        eventually(told.is_idle)
    assert [request["id"] for request in receiver.seen] == [ids[0], *ids]


def test_the_oldest_dead_letters_go(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is more than an app may have wait becomes one at once."""
    told = Told(redis, OWN)
    monkeypatch.setattr("workers.webhooks.messages._MOST_DEAD", 2)
    monkeypatch.setattr("workers.webhooks.messages._MOST_WAITING", 1)
    told.want("http://127.0.0.1:1", [DIAL_OUT, HANGUP])
    told.want("http://127.0.0.1:1", [DIAL_IN], CALLED, app="demo-voipnow")
    (kept, *_), *full = (told.talk(number) for number in (1, 2, 3))
    while told.messages.route():
        pass
    # Of each app the last two of those that had no place.
    mine = [letter.message["id"] for letter in told.messages.dead_letters("demo-user")]
    assert mine == [full[1][0], full[1][2]]
    others = [letter.message["id"] for letter in told.messages.dead_letters("demo-voipnow")]
    assert others == [told.id(number, DIAL_IN, CALLED) for number in (2, 3)]
    # And those of all apps in the order of time.
    assert told.letters() == [others[0], mine[0], others[1], mine[1]]
    taken = told.messages.claim(lease=9.0, most=9, **FREE)
    assert {each.message["id"] for each in taken} == {kept, told.id(1, DIAL_IN, CALLED)}
    assert all(map(told.messages.done, taken)) and told.is_idle()


def test_dead_letters_end_by_bytes_and_by_age(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(redis, OWN)
    monkeypatch.setattr("workers.webhooks.messages._MOST_WAITING", 0)
    told.want("http://127.0.0.1:1", [DIAL_OUT, HANGUP])
    ids = told.talk(1)
    told.messages.route()
    sizes, key = f"{told.keys.webhooks}sizes", f"{told.keys.dead_letters}:demo-user"
    (size,) = map(int, redis.hvals(sizes))
    assert told.letters() == [ids[0], ids[2]]
    # Room for two of them.
    monkeypatch.setattr("workers.webhooks.messages._MOST_DEAD_BYTES", size + 20)
    more = told.talk(2)
    told.messages.route()
    assert told.letters() == [more[0], more[2]] and redis.xlen(key) == 2
    # One that is longer than all that may be kept is kept alone.
    monkeypatch.setattr("workers.webhooks.messages._MOST_DEAD_BYTES", 1)
    last = told.talk(3)[2]
    told.messages.route()
    assert told.letters() == [last]
    told.messages.sweep()
    assert told.letters() == [last]
    monkeypatch.setattr("workers.webhooks.messages._DEAD_KEPT", -1)
    told.messages.sweep()
    assert told.letters() == [] and not redis.exists(key, sizes)


def test_what_an_older_version_left_is_sent_and_listed(redis: Redis, settings: Settings) -> None:
    """It had the targets of all apps in one set, and their dead letters in one stream."""
    told = Told(redis, OWN)
    (event,) = told.want("http://127.0.0.1:1", [DIAL_OUT])
    where = f"demo-user {event.url}"
    message = {"id": "m", "extension": DESK, "event": event.id, "attempts": 0, "parameters": {}}
    prefix, lane = told.keys.webhooks, f"{1:020x}|demo-user|{where}"
    redis.rpush(f"{prefix}lane:{lane}", json.dumps(message))
    redis.zadd(f"{prefix}due:{where}", {lane: 1.0})
    redis.zadd(told.keys.webhook_targets, {where: 1.0})
    fields: Any = {"target": where, "lane": lane, "message": json.dumps(message), "reason": "no"}
    old: list[Any] = [redis.xadd(told.keys.dead_letters, fields) for _ in range(3)]
    (taken,) = told.messages.claim(lease=9.0, most=9, **FREE)
    assert taken.message["id"] == "m"
    assert told.messages.bury(taken, "HTTP 500")
    assert not redis.exists(told.keys.webhook_targets) and told.is_idle()
    assert told.letters() == ["m"] * 4
    assert ringback(told, settings, "show", old[0].decode()).exit_code == 0
    assert ringback(told, settings, "drop", old[0].decode()).output == "1 dropped\n"
    assert ringback(told, settings, "replay", old[1].decode()).output == "1 sent again\n"
    assert len(told.messages.claim(lease=9.0, most=9, **FREE)) == 1
    listed = ringback(told, settings, "list", "--app", "demo-user").output
    assert len(listed.splitlines()) == 2
    assert ringback(told, settings, "list", "--app", "another").output == ""
    assert ringback(told, settings, "drop", "--app", "demo-user").output == "2 dropped\n"
    assert told.letters() == []


def test_one_script_takes_so_much_at_most(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(redis, OWN)
    monkeypatch.setattr("workers.webhooks.messages._EVENTS_AT_ONCE", 6)
    monkeypatch.setattr("workers.webhooks.messages._MESSAGES_AT_ONCE", 3)
    for port in range(1, 5):
        told.want(f"http://127.0.0.1:{port}", [DIAL_OUT])
    for number in (1, 2, 3):
        told.talk(number, TALK[:1])
    # Four for each entry: none is begun after the second.
    assert [told.messages.route() for _ in range(3)] == [2, 1, 0]
    claims = [told.messages.claim(lease=9.0, most=99, **FREE) for _ in range(5)]
    assert list(map(len, claims)) == [3, 3, 3, 3, 0]


def test_an_organization_with_many_call_events_leaves_others_their_turn(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the entries of a call become messages in their order."""
    told = Told(redis, OWN)
    monkeypatch.setattr("workers.webhooks.messages._EVENTS_AT_ONCE", 3)
    for port in range(1, 5):
        told.want(f"http://127.0.0.1:{port}", [DIAL_OUT])
    for number in range(1, 20):
        told.talk(number, TALK[:1])
    other = replace(call([DESK], [CALLED]), extension="0009*100", app="quiet")
    callback = {"url": "http://127.0.0.1:9", "events": EVENTS, "target": "quiet http://127.0.0.1:9"}
    told.talk(100, TALK, replace(other, status_callback=json.dumps(callback)))
    # A step turns one call into messages, and every other step begins with this one's.
    for _ in range(4):
        told.messages.route()
    assert redis.exists(f"{told.keys.webhooks}targets:quiet")
    while told.messages.route():
        pass
    lane = f"{told.keys.webhooks}lane:{100:020x}|quiet|quiet http://127.0.0.1:9"
    texts: Any = redis.lrange(lane, 0, -1)
    assert [json.loads(text)["status"]["event"] for text in texts] == list(EVENTS)


def test_an_app_with_many_hosts_leaves_room_for_others(redis: Redis) -> None:
    told = Told(redis, OWN)
    for port in range(1, 61):
        call_back(told, port, f"http://127.0.0.1:{port}", "demo-voipnow", TALK[:3])
    for port in range(1, 21):
        call_back(told, 2000 + port, f"http://127.0.0.1:{port}", "demo-user", TALK[:3])
    while told.messages.route():
        pass

    def claim(busy: int, most: int = 16) -> Counter[str]:
        share = {**FREE, "part": 4, "of_app": {"demo-voipnow": busy}}
        taken = told.messages.claim(lease=60.0, most=most, **share)
        return Counter(app_of(each.target) for each in taken)

    # A quarter of what is free for each, whichever of them was first.
    for _ in range(2):
        found = claim(0)
        assert sorted(found.values()) == [3, 4] and len(found) == 2
    assert claim(4) == {"demo-user": 4}
    # Each has its turn, and at least one.
    assert claim(0, most=2) == {"demo-user": 1, "demo-voipnow": 1}
    # What one has left the other may have.
    assert claim(0, most=400) == {"demo-user": 8, "demo-voipnow": 42}


def test_leases(redis: Redis) -> None:
    told = Told(redis, OWN)
    told.want("http://127.0.0.1:1", [DIAL_OUT])
    for number in (1, 2, 3):
        told.talk(number)
    told.messages.route()

    def claim(**changes: Any) -> list[Any]:
        return told.messages.claim(**{"lease": 60.0, "most": 9, **FREE, **changes})

    target = "demo-user http://127.0.0.1:1"
    assert claim(in_hand={target: 9}) == claim(most=0) == []
    (over,) = claim(lease=0.0, most_of_target=1)
    again = claim()
    assert len(again) == 3 and claim() == []
    # Whoever comes after the end of his lease changes nothing.
    assert not told.messages.done(over) and not told.messages.bury(over, "late")
    assert told.messages.later(again[0], 0.0) and not told.messages.done(again[0])
    (later,) = claim()
    assert later.message == {**again[0].message, "attempts": 1}
    assert all(map(told.messages.done, (later, *again[1:]))) and told.is_idle()


def test_the_published_vector_of_standard_webhooks() -> None:
    headers = signature_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330.7, '{"test": 2432232314}', SECRET
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_attempts_go_on_for_hours() -> None:
    delays = [retry_delay(attempts, 5.0) for attempts in range(12)]
    assert 3.7 < delays[0] < 6.3 and 4 * 3600 < sum(delays) < 8 * 3600
    assert retry_delay(40, 5.0) <= 1.25 * 21_600


@pytest.mark.parametrize(
    "address",
    """
    127.0.0.1 127.9.9.9 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 0.0.0.0
    224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 192.0.2.1 198.18.0.1
    :: ::1 fe80::1 fc00::1 fec0::1 ff02::1 ff0e::1 2001:db8::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
    ::127.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 64:ff9b:1:a00:0:100:808:808
    2002:7f00:1:: 2001:0:53aa:64c:0:7c4d:3f57:fefe ::a00:1 ::ffff:0:10.0.0.1 2002:a9fe:a9fe::
    192.0.0.8 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.192 192.0.0.255 192.88.99.1 198.51.100.7
    203.0.113.255 168.63.129.16 100.100.100.200 100.127.255.255 ::ffff:168.63.129.16
    64:ff9b::a83f:8110 2002:a83f:8110::1 fd00:ec2::254 fd20:ce::254 fe80::a9fe:a9fe
    3fff::1 3fff:fff:ffff::1 5f00::1 100::1 100:0:0:1::1 2001:1::1 2001:2::1 2001:20::1 2001:100::1
    4000::1 f000::1
    """.split(),
)
def test_addresses_that_are_refused(address: str) -> None:
    assert not is_allowed(ip_address(address), ())
    assert is_allowed(ip_address(address), parse_networks("0.0.0.0/0,::/0"))


@pytest.mark.parametrize(
    "address",
    """
    8.8.8.8 93.184.216.34 168.63.129.15 168.63.129.17 192.0.1.1 100.63.255.255 100.128.0.1
    192.88.98.1 2606:4700::1111 3ffe::1 3fff:1000::1 2001:200::1 2001:4860:4860::8888
    2002:808:808::1 ::ffff:8.8.8.8 64:ff9b::808:808
    """.split(),
)
def test_public_addresses(address: str) -> None:
    assert is_allowed(ip_address(address), ())


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "example.com", "10.0.0.0/8;11.0.0.0/8"])
def test_networks_that_are_none(monkeypatch: pytest.MonkeyPatch, networks: str) -> None:
    monkeypatch.setenv("RINGBACK_WEBHOOK_ALLOW", networks)
    with pytest.raises(SettingsError, match="RINGBACK_WEBHOOK_ALLOW"):
        load_settings()


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", SECRET[6:], f"{SECRET}=", "é"])
def test_secrets_that_are_none(secret: str) -> None:
    app = {"id": "crm", "level": "administrator", "token": "a-long-and-secret-token"}
    assert AppSchema().load({**app, "webhook_secret": SECRET}).webhook_secret == SECRET
    with pytest.raises(ValidationError, match="webhook_secret"):
        AppSchema().load({**app, "webhook_secret": secret})


def test_the_address_connected_to_is_the_one_that_was_checked(receiver: Receiver) -> None:
    port = receiver.server.server_port
    for host in ("127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "::1"):
        with pytest.raises(TargetRefused):
            connect(host, port, 1.0, (), LookUps(1, LIMIT), "app")
    allow = parse_networks("127.0.0.1/32")
    connection = connect("localhost", port, 1.0, allow, LookUps(1, LIMIT), "app")
    assert connection.getpeername() == ("127.0.0.1", port)
    connection.close()
