"""Lists of calls with certain metadata, and of calls that have ended."""

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from redis import Redis

from app.accounts.model import App, Extension, ExtensionType, Level, Organization, User
from app.accounts.model import token_sha256 as hashed
from app.accounts.store import AccountStore, read_accounts
from app.calls import transitions
from app.calls.model import NumberKind, Role
from app.calls.transitions import LegReport
from app.phone_calls import searching
from app.store import metadata_index
from app.store.calls import CallStore
from app.web.resource import date
from tests.app.conftest import ADMINISTRATOR, ORGANIZATION, USER, VOIPNOW, Ask
from tests.app.test_listing import NOTE, commands, create, end, ids
from tests.app.test_phone_calls import BODY, LIST, SIMPLE, is_error

OWNER_LIST = "/uapi/phoneCalls/@owner/@self"
# Apps of another user of the organization, and of another organization.
COLLEAGUE, STRANGER = "colleague-token-of-20", "stranger-token-of-20"


@pytest.fixture
def neighbours(redis: Redis, store: CallStore) -> None:
    """User 13 of the organization has the extension 024; the organization 0004 has user 20."""
    known = read_accounts(None)
    extensions = {
        **known.extensions,
        "0003*024": replace(known.extensions["0003*024"], owner="13"),
        "0004*210": Extension("0004*210", ExtensionType.PHONE_TERMINAL, "20", "user/20"),
    }
    apps = [
        *known.apps.values(),
        App("colleague", Level.USER, hashed(COLLEAGUE), user="13", client_id="colleague"),
        App("stranger", Level.ORGANIZATION, hashed(STRANGER), None, "0004", client_id="stranger"),
    ]
    another = replace(
        known,
        organizations={**known.organizations, "0004": Organization("4", "0004", "Four")},
        users={**known.users, "13": User("13", "0003"), "20": User("20", "0004")},
        extensions=extensions,
        apps={app.id: app for app in apps},
    )
    AccountStore(redis, store.keys).replace(another, demo=True)


def test_calls_are_found_by_their_metadata(ask: Ask, store: CallStore) -> None:
    first, *others = create(ask, 3, metadata={"order": "1", "shop": "a:b", "note": ""})[::-1]
    create(ask, 2, metadata={"order": "2", "shop": "a"})
    create(ask, 2)
    for pair in ("order:1", "shop:a:b", "note:", ["order:1", "shop:a:b"]):
        assert ids(ask("GET", LIST, metadata=pair)) == [*others[::-1], first]
    for pair in ("order:3", "shop:a:", "other:1", ["order:1", "shop:a"]):
        assert ids(ask("GET", LIST, metadata=pair)) == []
    end(store, first)
    assert ids(ask("GET", LIST, metadata="order:1")) == others[::-1]
    found = ask("GET", LIST, metadata="order:1", status="all", sortOrder="asc")
    assert ids(found) == [first, *others]
    page = ask("GET", LIST, metadata="order:1", status="all", count=1, startIndex=1)
    assert ids(page) == [others[0]] and page.json["totalResults"] == 3
    assert "metadata=order" in page.json["paging"]["next"]
    # With a filter, and of one extension or call.
    named = {"filterBy": "id", "filterOp": "inArray", "filterValue": f"{first},{others[0]}"}
    assert ids(ask("GET", LIST, metadata="order:1", **named)) == [others[0], first]
    assert ids(ask("GET", LIST, metadata="order:2", **named)) == []
    of_extension = "/uapi/phoneCalls/@me/{}"
    assert len(ids(ask("GET", of_extension.format("210"), metadata="order:1"))) == 2
    assert ids(ask("GET", of_extension.format("211"), metadata="order:1")) == []
    assert ids(ask("GET", f"{LIST}/{first}", metadata="order:2")) == []


def test_ended_calls_without_metadata(ask: Ask, store: CallStore) -> None:
    third, second, first = create(ask, 3)
    end(store, second)
    assert ids(ask("GET", LIST)) == ids(ask("GET", LIST, status="live")) == [third, first]
    for path, token in (
        (LIST, USER),
        ("/uapi/phoneCalls/@me/210", USER),
        (OWNER_LIST, ORGANIZATION),
        ("/uapi/phoneCalls/12/@self", ORGANIZATION),
        (OWNER_LIST, ADMINISTRATOR),
    ):
        assert ids(ask("GET", path, status="all", token=token)) == [third, second, first]
    assert ids(ask("GET", "/uapi/phoneCalls/@me/211", status="all")) == []
    # Programs written for VoipNow take a call that is found for one that is live.
    assert ids(ask("GET", LIST, status="all", token=VOIPNOW)) == [third, first]


def test_rights_hold_for_ended_calls(ask: Ask, store: CallStore, neighbours: None) -> None:
    """The call shows to a colleague whose phone was in it to the end, and to no other."""
    view = {"source": ["210"], "destination": ["024", "3235742879"]}
    made = [
        ask("POST", SIMPLE, {**BODY, "phoneCallView": [view], "metadata": {"order": "1"}})
        for _ in range(2)
    ]
    talked, unheard = (answer.json[0]["id"] for answer in made)

    def seen(token: str, path: str = OWNER_LIST, **query: Any) -> list[str]:
        return ids(ask("GET", path, metadata="order:1", token=token, **query))

    assert seen(COLLEAGUE) == []
    call = store.get(talked)
    assert call is not None
    uuids = [leg.uuid for leg in call.legs if leg.number in ("0003*210", "0003*024")]
    at = call.accepted + 1

    def report(**facts: Any) -> None:
        for uuid in uuids:
            current = store.get(talked)
            assert current is not None
            heard = LegReport(uuid, **facts)
            store.change(current, lambda c, heard=heard: transitions.report_leg(c, heard), NOTE)

    report(created=at, ringing=at, answered=at)
    assert seen(COLLEAGUE) == [talked]
    report(ended=at + 9, cause="NORMAL_CLEARING")
    end(store, unheard)
    assert seen(COLLEAGUE) == []
    assert seen(COLLEAGUE, status="all") == [talked]
    assert seen(COLLEAGUE, LIST.replace("@self", "024"), status="all") == [talked]
    assert seen(USER, status="all") == seen(ORGANIZATION, status="all") == [unheard, talked]
    assert seen(ADMINISTRATOR, status="all") == [unheard, talked]
    assert seen(STRANGER, status="all") == seen(STRANGER) == []
    assert ids(ask("GET", OWNER_LIST, status="all", token=STRANGER)) == []


def test_a_call_shows_to_an_organization_that_an_action_brings_in(
    ask: Ask, store: CallStore, neighbours: None
) -> None:
    (call_id,) = create(ask, metadata={"order": "1"})
    call = store.get(call_id)
    assert call is not None
    third = replace(
        call.legs[0],
        id="c1",
        role=Role.THIRD,
        number="0004*210",
        kind=NumberKind.EXTENSION,
        uuid="of-c1",
        owner="20",
        created=call.accepted,
    )
    store.change(call, lambda c: replace(c, legs=(*c.legs, third)), NOTE)
    found = ask("GET", OWNER_LIST, metadata="order:1", token=STRANGER)
    assert ids(found) == [call_id]


def test_a_search_reads_no_others_calls(
    ask: Ask, redis: Redis, store: CallStore, neighbours: None
) -> None:
    """However many calls another organization has with the same metadata, or the own one without
    them."""
    create(ask, 30, metadata={"env": "prod"})
    for query in ({"metadata": "env:prod"}, {"status": "all"}):
        redis.config_resetstat()
        assert ids(ask("GET", OWNER_LIST, token=STRANGER, **query)) == []
        assert commands(redis).get("hgetall", 0) == 0
    create(ask, 1, metadata={"env": "test"})
    redis.config_resetstat()
    assert len(ids(ask("GET", LIST, metadata="env:test", status="all"))) == 1
    assert commands(redis)["hgetall"] == 1


def pages(ask: Ask, path: str, **query: Any) -> list[list[str]]:
    """The ids on all pages, by following ``paging.next`` as it stands."""
    return [page for page, _ in pages_and_totals(ask, path, USER, **query)]


def pages_and_totals(ask: Ask, path: str, token: str, **query: Any) -> list[tuple[list[str], int]]:
    """As ``pages``, each with the number of all that it tells."""
    found = []
    answer = ask("GET", path, token=token, **query)
    while True:
        assert answer.status_code == 200, answer.json
        found.append(([*map(_id, answer.json["entry"])], answer.json["totalResults"]))
        if (address := answer.json.get("paging", {}).get("next")) is None:
            return found
        answer = ask("GET", address, token=token)


def _id(entry: Any) -> str:
    # The entries of a list of records are by id.
    return entry if isinstance(entry, str) else str(entry["id"])


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "query",
    [
        {"metadata": "env:prod"},
        {"metadata": "env:prod", "status": "all"},
        {"status": "all"},
        {"state": "queued,ended"},
        {"phoneNumber": "3235742879"},
    ],
)
def test_a_search_goes_on_where_the_page_before_has_looked(
    ask: Ask, store: CallStore, monkeypatch: pytest.MonkeyPatch, query: dict[str, str], order: str
) -> None:
    monkeypatch.setattr(searching, "MOST", 3)
    made: list[str] = []
    for _ in range(4):
        of_prod = create(ask, 1, metadata={"env": "prod"})
        made = [*create(ask, 1), *of_prod, *made]
    wanted = made[1::2] if "metadata" in query else made
    wanted = wanted if order == "desc" else wanted[::-1]
    for count in (1, 2, 20):
        found = pages(ask, LIST, count=count, sortOrder=order, **query)
        assert [*chain(*found)] == wanted and max(map(len, found)) <= min(count, 3)


def test_no_page_holds_more_than_it_has_looked_at(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    """However few calls match, a request looks at MOST of them."""
    monkeypatch.setattr(searching, "MOST", 3)
    create(ask, 7)
    (last,) = create(ask, 1, phoneCallView=[{"source": "5550100", "destination": "5550101"}])
    create(ask, 7)
    redis.config_resetstat()
    answer = ask("GET", LIST, phoneNumber="5550100")
    assert answer.json["entry"] == [] and "cursor=" in answer.json["paging"]["next"]
    # And the hashes of switches and limits.
    assert commands(redis)["hgetall"] <= 3
    assert [*chain(*pages(ask, LIST, phoneNumber="5550100"))] == [last]


def test_lists_go_on_beyond_the_last_start_index(
    ask: Ask, store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.listing.MAX_START", 2)
    made = create(ask, 9)
    named = {"filterBy": "published", "filterOp": "greaterThan", "filterValue": "2020-01-01"}
    for query in ({}, named, {"filterBy": "id", "filterOp": "contains", "filterValue": "0"}):
        wanted = [each for each in made if query.get("filterOp") != "contains" or "0" in each]
        for token in (USER, ORGANIZATION):
            path = LIST if token == USER else OWNER_LIST
            found = pages_and_totals(ask, path, token, count=2, **query)
            assert [*chain(*(page for page, _ in found))] == wanted
            assert {total for _, total in found} == {len(wanted)}
    answer = ask("GET", LIST, count=2, startIndex=2)
    link = answer.json["paging"]["next"]
    assert "cursor=4-9-" in link and "startIndex" not in link
    beyond = ask("GET", link).json
    assert beyond["startIndex"] == 4 and set(beyond["paging"]) == {"next"}
    # Calls that come and go meanwhile move nothing.
    create(ask, 2)
    end(store, made[0])
    assert ids(ask("GET", link)) == made[4:6]
    # Calls that were listed and end do not end the list.
    for call_id in made[1:4]:
        end(store, call_id)
    assert [*chain(*pages(ask, link))] == made[4:]
    for call_id in made[4:]:
        end(store, call_id)
    for query in ({}, {"flow": "4"}):
        found = pages_and_totals(ask, "/uapi/cdr/@me", USER, count=2, **query)
        assert [*chain(*(page for page, _ in found))] == made
        assert {total for _, total in found} == {9}


@pytest.mark.parametrize("query", [{}, {"state": "queued"}], ids=["all", "searched"])
def test_a_list_is_read_by_cursors_from_its_first_page(
    ask: Ask, store: CallStore, query: dict[str, str]
) -> None:
    made = create(ask, 7)
    first = ask("GET", LIST, count=2, cursor="*", **query)
    assert ids(first) == made[:2]
    create(ask, 3)
    for call_id in (made[0], made[1], made[4]):
        end(store, call_id)
    rest = pages(ask, first.json["paging"]["next"])
    assert [*chain(*rest)] == [made[2], made[3], *made[5:]]
    records = pages(ask, "/uapi/cdr/@me", count=2, cursor="*")
    assert [*map(len, records)] == [2, 1]
    assert {*chain(*records)} == {made[0], made[1], made[4]}


def test_filters_of_calls_may_be_combined(ask: Ask, store: CallStore) -> None:
    one, two = (create(ask, 1, nonce=f"order-{n}", metadata={"order": "1"})[0] for n in (1, 2))
    (other,) = create(ask, 1, phoneCallView=[{"source": "210", "destination": "5550101"}])
    end(store, two)
    assert ids(ask("GET", LIST, state="queued")) == [other, one]
    assert ids(ask("GET", LIST, state="ringing")) == []
    assert ids(ask("GET", LIST, state="ended")) == [two]
    assert ids(ask("GET", LIST, state="queued, ended", metadata="order:1")) == [two, one]
    # Short, extended and with punctuation.
    for number in ("210", "0003*210", "555-0101"):
        assert ids(ask("GET", LIST, phoneNumber=number)) == [other]
    assert ids(ask("GET", LIST, phoneNumber="3235742879", status="all")) == [two, one]
    assert ids(ask("GET", LIST, phoneNumber="3235742879", state="ended")) == [two]
    # A nonce names a call, live or ended.
    assert ids(ask("GET", LIST, nonce="order-2")) == [two]
    assert ids(ask("GET", LIST, nonce="order-2", state="queued")) == []
    assert ids(ask("GET", LIST, nonce="order-3")) == []
    assert ids(ask("GET", LIST, nonce="order-1", metadata="order:2")) == []


def test_filters_by_time(ask: Ask, store: CallStore) -> None:
    (first,) = create(ask)
    (second,) = create(ask)
    call = store.get(first)
    assert call is not None
    now = date(call.accepted)
    later, before = date(call.accepted + 60), date(call.accepted - 60)
    both = [second, first]
    for more in ({}, {"state": "queued"}, {"status": "all"}):
        assert ids(ask("GET", LIST, startDate=before, endDate=later, **more)) == both
        # Both ends count, to the second.
        assert first in ids(ask("GET", LIST, startDate=now, endDate=now, **more))
        assert ids(ask("GET", LIST, startDate=later, **more)) == []
        assert ids(ask("GET", LIST, endDate=before, **more)) == []
    named = {"filterBy": "nonce", "filterOp": "present"}
    assert ids(ask("GET", LIST, startDate=before, **named)) == []


def test_the_index_forgets(ask: Ask, redis: Redis, store: CallStore) -> None:
    (gone,) = create(ask, metadata={"env": "prod"})
    key = metadata_index.key(store.keys, "0003", "env", "prod")
    call = store.get(gone)
    assert call is not None
    assert redis.ttl(key) == pytest.approx(metadata_index.LONGEST + call.retention, abs=60)
    redis.zadd(key, {gone: call.accepted - metadata_index.LONGEST - call.retention - 1})
    (kept,) = create(ask, metadata={"env": "prod"})
    assert redis.zrange(key, 0, -1) == [kept.encode()]
    # A call that is no longer kept is not found.
    redis.delete(store.keys.call(kept))
    assert ids(ask("GET", LIST, metadata="env:prod", status="all")) == []


def test_a_call_without_metadata_costs_nothing_more(ask: Ask, redis: Redis) -> None:
    create(ask)
    assert not redis.keys("ringback:calls:metadata:*") and not redis.exists("ringback:outbox")


def test_records_are_found_by_metadata(ask: Ask, store: CallStore) -> None:
    (first,) = create(ask, metadata={"order": "1", "shop": "a"})
    (second,) = create(ask, metadata={"order": "2"})
    for call_id in (first, second):
        end(store, call_id)
    answer = ask("GET", "/uapi/cdr/@me", metadata="order:1")
    assert list(answer.json["entry"]) == [first] and answer.json["totalResults"] == 1
    assert answer.json["entry"][first]["metadata"] == {"order": "1", "shop": "a"}
    assert ask("GET", "/uapi/cdr/@me", metadata=["order:1", "shop:b"]).json["entry"] == {}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"metadata": "order"}, "pc_metadata_invalid"),
        ({"metadata": ":1"}, "pc_metadata_invalid"),
        ({"metadata": ""}, "pc_metadata_invalid"),
        ({"metadata": ["a:b"] * 21}, "pc_metadata_invalid"),
        ({"status": "ended"}, "pc_status_invalid"),
        ({"status": ""}, "pc_status_invalid"),
        ({"state": "talking"}, "pc_state_invalid"),
        ({"state": ""}, "pc_state_invalid"),
        ({"phoneNumber": "x"}, "pc_destination_invalid"),
        ({"nonce": ""}, "pc_nonce_invalid"),
        ({"startDate": "yesterday"}, "pc_date_invalid"),
        ({"startDate": "2026-01-02", "endDate": "2026-01-01"}, "pc_date_invalid"),
        ({"cursor": "1"}, "cursor_invalid"),
        ({"cursor": "1-2-3.5-0123456789abcdef012"}, "cursor_invalid"),
    ],
)
def test_what_a_list_refuses(ask: Ask, query: dict[str, Any], code: str) -> None:
    answer = ask("GET", LIST, **query)
    is_error(answer, 400, code)
    assert answer.json["error"]["field"].startswith(next(iter(query)))
