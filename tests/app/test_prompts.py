"""Who must accept a call and who hears an announcement: the accounts, the request and the call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.accounts.model import Accounts
from app.accounts.store import AccountStore, read_accounts
from app.calls.model import Call, Leg
from app.settings import SettingsError
from app.store.calls import CallStore
from app.store.keys import Keys
from freeswitch.simulator.dialstring import split
from tests.app.conftest import Ask
from tests.app.test_accounts import GOOD
from tests.own_accounts import own_accounts
from workers.dial_command import originate_command, prompts_of

SIMPLE = "/uapi/phoneCalls/@me/simple"
PROMPTS = """
[[prompts]]
name = "press-one"
file = "/sounds/press-one.wav"

[[prompts]]
name = "recorded"
text = "This call is recorded."
voice = "flite|slt"
language = "en"

[[prompts]]
name = "of-others"
file = "/sounds/others.wav"
organization = "0004"
"""
OTHERS = '[[organizations]]\nid = "4"\nnumber = "0004"\nname = "Others"\n'

TOKEN = "the-prompts-user-token"
DEFAULTS = """
accept = { prompt = "press-one", key = "5", of = "both" }
announce = { prompt = "recorded", to = "source" }
"""
Place = Callable[..., Any]


def accounts(tmp_path: Path, text: str) -> Accounts:
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    return read_accounts(path)


@pytest.fixture
def import_accounts(redis: Redis, tmp_path: Path) -> Callable[[str], None]:
    demo = own_accounts("the-prompts")

    def _import(defaults: str = "") -> None:
        text = demo.replace('caller_ids = ["*"]', f'caller_ids = ["*"]{defaults}')
        whole = accounts(tmp_path, text + OTHERS + PROMPTS)
        AccountStore(redis, Keys()).replace(whole, demo=True)

    return _import


@pytest.fixture
def place(ask: Ask, import_accounts: Callable[[str], None]) -> Place:
    import_accounts("")

    def _place(source: Any = "5354353", destination: Any = "5354311", **more: Any) -> Any:
        view = {"source": source, "destination": destination, **more}
        body = {"extension": "210", "phoneCallView": [view]}
        return ask("POST", SIMPLE, body, TOKEN)

    return _place


def call_of(answer: Any, store: CallStore) -> Call:
    assert answer.status_code == 202, answer.json
    call = store.get(answer.json[0]["id"])
    assert call is not None
    return call


def asked(legs: tuple[Leg, ...]) -> list[str | None]:
    return [leg.accept for leg in legs]


@pytest.mark.parametrize(
    ("rule", "sources", "destinations"),
    [
        ({}, [True, False], [False, False]),
        ({"of": "source"}, [True, False], [False, False]),
        ({"of": "destination"}, [False, False], [True, False]),
        ({"of": "both"}, [True, False], [True, False]),
        ({"of": "both", "extensions": True}, [True, True], [True, True]),
    ],
)
def test_who_must_accept(
    place: Place,
    store: CallStore,
    rule: dict[str, Any],
    sources: list[bool],
    destinations: list[bool],
) -> None:
    accept = {"prompt": "press-one", **rule}
    call = call_of(place(["5354353", "211"], ["5354311", "024"], accept=accept), store)
    assert [leg is not None for leg in asked(call.sources)] == sources
    assert [leg is not None for leg in asked(call.destinations)] == destinations
    assert {*asked(call.legs)} - {None} == {"1 8 2 press-one"}


def test_sandbox_numbers_are_not_asked(place: Place, store: CallStore) -> None:
    call = call_of(place("0003*01", accept={"prompt": "press-one"}), store)
    assert asked(call.sources) == [None]


def test_every_field_of_a_rule(place: Place, store: CallStore) -> None:
    accept = {"prompt": "press-one", "key": "*12345678", "timeout": 60, "attempts": 10}
    call = call_of(place(accept=accept, announce={"prompt": "recorded", "to": "both"}), store)
    assert asked(call.sources) == ["*12345678 60 10 press-one"]
    assert [leg.announce for leg in call.legs] == ["recorded", "recorded"]
    assert prompts_of(call) == {"press-one", "recorded"}


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("accept", True, "accept"),
        ("accept", "press-one", "accept"),
        ("accept", {}, "accept/prompt"),
        ("accept", {"prompt": "nosuch"}, "accept/prompt"),
        ("accept", {"prompt": "/sounds/press-one.wav"}, "accept/prompt"),
        ("accept", {"prompt": "press-one", "key": "exec"}, "accept/key"),
        ("accept", {"prompt": "press-one", "key": ""}, "accept/key"),
        ("accept", {"prompt": "press-one", "key": "1234567890"}, "accept/key"),
        ("accept", {"prompt": "press-one", "key": "1\n"}, "accept/key"),
        ("accept", {"prompt": "press-one", "key": 1}, "accept/key"),
        ("accept", {"prompt": "press-one", "timeout": 0}, "accept/timeout"),
        ("accept", {"prompt": "press-one", "timeout": 61}, "accept/timeout"),
        ("accept", {"prompt": "press-one", "timeout": "8"}, "accept/timeout"),
        ("accept", {"prompt": "press-one", "timeout": True}, "accept/timeout"),
        ("accept", {"prompt": "press-one", "attempts": 2.0}, "accept/attempts"),
        ("accept", {"prompt": "press-one", "attempts": 11}, "accept/attempts"),
        ("accept", {"prompt": "press-one", "of": "all"}, "accept/of"),
        ("accept", {"prompt": "press-one", "extensions": 1.5}, "accept/extensions"),
        ("announce", {"prompt": "nosuch"}, "announce/prompt"),
        ("announce", {"prompt": "recorded", "to": "everybody"}, "announce/to"),
        ("announce", [], "announce"),
    ],
)
def test_a_bad_rule_is_refused(
    place: Place, redis: Redis, field: str, value: Any, where: str
) -> None:
    answer = place(**{field: value})
    assert answer.status_code == 400
    error = answer.json["error"]
    found = error["code"], error["field"].removeprefix("/phoneCallView/0/")
    assert found[0] == f"pc_{field}_invalid" and found[1].startswith(where.partition("/")[0])
    assert found[1] in (where, field)
    assert not list(redis.scan_iter("ringback:call:*"))


def test_the_rules_of_an_organization(
    place: Place, import_accounts: Callable[[str], None], store: CallStore
) -> None:
    import_accounts(DEFAULTS)
    call = call_of(place(), store)
    assert asked(call.legs) == ["5 8 2 press-one"] * 2
    assert [leg.announce for leg in call.legs] == ["recorded", None]
    # A view has its own, or none.
    call = call_of(place(accept={"prompt": "press-one"}, announce=False), store)
    assert asked(call.legs) == ["1 8 2 press-one", None]
    assert [leg.announce for leg in call.legs] == [None, None]
    call = call_of(place(accept=False, announce=None), store)
    assert asked(call.legs) == [None, None]
    assert [leg.announce for leg in call.legs] == ["recorded", None]


def test_a_conference_asks_nobody(
    ask: Ask, place: Place, import_accounts: Callable[[str], None], store: CallStore
) -> None:
    import_accounts(DEFAULTS)
    view = {"destination": ["5354353"]}
    body = {"extension": "003", "phoneCallView": [view]}
    call = call_of(ask("POST", "/uapi/phoneCalls/@me/conferenceInvite", body, TOKEN), store)
    assert prompts_of(call) == set()


def test_a_retry_is_the_same_request(place: Place, ask: Ask) -> None:
    view = {"source": "5354353", "destination": "5354311", "accept": {"prompt": "press-one"}}
    body: dict[str, Any] = {"extension": "210", "nonce": "n", "phoneCallView": [view]}
    first = ask("POST", SIMPLE, body, TOKEN)
    again = ask("POST", SIMPLE, body, TOKEN)
    assert (again.status_code, again.json[0]["id"]) == (202, first.json[0]["id"])
    view["accept"] = {"prompt": "press-one", "key": "2"}
    assert ask("POST", SIMPLE, body, TOKEN).json["error"]["code"] == "pc_nonce_invalid"


def test_the_prompts_of_the_accounts_are_dialled(
    place: Place, store: CallStore, tmp_path: Path
) -> None:
    found = accounts(tmp_path, GOOD + OTHERS + PROMPTS).prompts
    accept = {"prompt": "press-one", "of": "both"}
    call = call_of(place(accept=accept, announce={"prompt": "recorded", "to": "both"}), store)
    command = originate_command(call, "", prompts=found)
    _, source, then, how = split(command, " ", 4)
    assert "group_confirm_file=/sounds/press-one.wav" in source
    assert "say:" not in source and how == "inline"
    assert then.startswith("m:`:playback:say:This call is recorded.`bridge:")
    assert "group_confirm_file=say:This call is recorded.!/sounds/press-one.wav" in then
    # The announcement comes before each prompt.
    assert "group_confirm_timeout=76" in then and "group_confirm_timeout=16" in source


def test_a_prompt_that_has_left_the_accounts_is_not_dialled(place: Place, store: CallStore) -> None:
    call = call_of(place(accept={"prompt": "press-one"}), store)
    with pytest.raises(ValueError, match="press-one"):
        originate_command(call, "", prompts={})


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[[prompts]]\nname = "a b"\nfile = "a"', "name"),
        ('[[prompts]]\nname = "a"', "file"),
        ('[[prompts]]\nname = "a"\nfile = "a"\ntext = "a"\nvoice = "a|b"', "file"),
        ('[[prompts]]\nname = "a"\ntext = "a"', "voice"),
        ('[[prompts]]\nname = "a"\nfile = "a"\nvoice = "a|b"', "voice"),
        ('[[prompts]]\nname = "a"\nfile = "../a"', "file"),
        ('[[prompts]]\nname = "a"\nfile = "${x}"', "file"),
        ('[[prompts]]\nname = "a"\nfile = "tone_stream://%(1,1,1)"', "file"),
        ('[[prompts]]\nname = "a"\ntext = "a, b"\nvoice = "a|b"', "text"),
        ('[[prompts]]\nname = "a"\nfile = "a"\nlanguage = "DE"', "language"),
        ('[[prompts]]\nname = "a"\nfile = "a"\n[[prompts]]\nname = "a"\nfile = "b"', "name"),
    ],
)
def test_a_bad_prompt_is_named(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(SettingsError, match=rf"prompts.*{where}"):
        accounts(tmp_path, GOOD + text)


@pytest.mark.parametrize("rule", ["accept", "announce"])
def test_an_organization_names_prompts_that_are_there(tmp_path: Path, rule: str) -> None:
    text = GOOD.replace('name = "One"', f'name = "One"\n{rule} = {{ prompt = "nosuch" }}')
    with pytest.raises(SettingsError, match=rf"organizations.*{rule}"):
        accounts(tmp_path, text + OTHERS + PROMPTS)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("accept", {"prompt": "of-others"}),
        ("announce", {"prompt": "of-others"}),
        ("ringback", "of-others"),
    ],
)
def test_a_prompt_of_another_organization_does_not_exist(
    place: Place, name: str, rule: Any
) -> None:
    unknown = place(**{name: "nosuch" if name == "ringback" else {"prompt": "nosuch"}})
    theirs = place(**{name: rule})
    assert theirs.status_code == 400
    assert theirs.json["error"]["code"] == unknown.json["error"]["code"] == f"pc_{name}_invalid"
    assert theirs.json["error"]["reason"] == unknown.json["error"]["reason"]


def test_accounts_name_prompts_that_their_calls_may_have(tmp_path: Path) -> None:
    own = OTHERS + 'ringback = "of-others"\naccept = { prompt = "of-others" }\n'
    found = accounts(tmp_path, GOOD + own + PROMPTS)
    assert {"of-others", "press-one"} <= found.prompts_of("0004").keys()
    assert "of-others" not in found.prompts_of("0001")
    for text, where in (
        (GOOD.replace('name = "One"', 'name = "One"\nringback = "of-others"'), "ringback"),
        (GOOD + '[[gateways]]\nname = "pstn"\nringback = "of-others"\n', "ringback"),
        (GOOD + PROMPTS.replace("0004", "9999").replace("of-others", "x"), "organization"),
    ):
        with pytest.raises(SettingsError, match=where):
            accounts(tmp_path, text + OTHERS + PROMPTS)
