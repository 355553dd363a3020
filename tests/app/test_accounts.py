import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app.accounts.credential_schemas import DEMO_WEBHOOK_SECRET
from app.accounts.model import ExtensionType
from app.accounts.rows import document_of, texts_of
from app.accounts.store import AccountStore, read_accounts
from app.settings import SettingsError
from app.store.keys import Keys
from tests.conftest import eventually

GOOD = """
[[organizations]]
id = "3"
number = "0003"
name = "One"

[[users]]
id = "12"
organization = "0003"

[[extensions]]
number = "0003*210"
type = "phone_terminal"
owner = "12"
dial_string = "user/210@example.com"

[[apps]]
id = "crm"
level = "user"
user = "12"
token = "a-long-and-secret-token"

[[routes]]
prefix = "+44"
gateways = ["uk", "pstn"]

[[routes]]
prefix = ""
gateways = ["pstn"]
"""


def test_the_demo_accounts_are_the_contract() -> None:
    demo = read_accounts(None)
    assert set(demo.extensions) == {f"0003*{n}" for n in ("210", "211", "212", "024", "003")}
    assert demo.extensions["0003*212"].type is ExtensionType.CALLBACK
    assert demo.extensions["0003*003"].type is ExtensionType.CONFERENCE
    levels = {
        token: demo.app_of_token(token).level.value  # type: ignore[union-attr]
        for token in ("demo-user-token", "demo-organization-token", "demo-administrator-token")
    }
    assert list(levels.values()) == ["user", "organization", "administrator"]
    assert demo.apps["demo-user"].webhook_secret == DEMO_WEBHOOK_SECRET
    voipnow = demo.app_of_token("demo-voipnow-token")
    assert voipnow is not None and voipnow.compatibility.value == "voipnow"
    assert demo.gateways_to("5354353") == ("pstn",)


def test_a_file(accounts_file: Path) -> None:
    accounts_file.write_text(GOOD)
    accounts = read_accounts(accounts_file)
    assert accounts.gateways_to("+442071234567") == ("uk", "pstn")
    assert accounts.gateways_to("442071234567") == ("uk", "pstn")
    assert accounts.gateways_to("3235742879") == ("pstn",)
    assert accounts.is_sandbox("0003*00") and accounts.is_sandbox("0003*09")
    assert not any(map(accounts.is_sandbox, ("0003*10", "0003*9", "0003*000", "0004*00", "00")))
    assert not accounts.is_sandbox("0003*٠٩")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('number = "0003"', "number = 0003"), r"line 4"),
        (('name = "One"', ""), r"organizations\[1\]\.name"),
        (('owner = "12"', 'owner = "13"'), r"extensions\[1\]\.owner: Is no user's id"),
        (('owner = "12"', ""), r"extensions\[1\]\.owner"),
        (('organization = "0003"', 'organization = "0004"'), r"users\[1\]\.organization: Is no"),
        (("[[users]]", f"x = {'[' * 5000}"), "nested too deeply"),
        (("[[users]]", '"a\\nb" = 1\n[[users]]'), r'organizations\[1\]\."a\\nb": Unknown'),
        (('"phone_terminal"', '"telephone"'), r"extensions\[1\]\.type"),
        (('"user/210@example.com"', '"user/210 &system(x)"'), r"extensions\[1\]\.dial_string"),
        (('"user/210@example.com"', '"user/1,user/2"'), r"extensions\[1\]\.dial_string"),
        (('"user/210@example.com"', '"a/b:_:c/d"'), r"extensions\[1\]\.dial_string"),
        (('dial_string = "user/210@example.com"', ""), r"extensions\[1\]\.dial_string"),
        (('number = "0003*210"', 'number = "0003*2100"'), r"extensions\[1\]\.number: Takes 3"),
        (('user = "12"\ntoken', "token"), r"apps\[1\]\.user: Is required"),
        (('"a-long-and-secret-token"', '"demo-user-token"'), r"apps\[1\]\.token: .*demo"),
        (
            (
                '"a-long-and-secret-token"',
                f'"{"x" * 20}"\nwebhook_secret = "{DEMO_WEBHOOK_SECRET}"',
            ),
            r"apps\[1\]\.webhook_secret: .*demo",
        ),
        (('"a-long-and-secret-token"', '"short"'), r"apps\[1\]\.token"),
        (('["uk", "pstn"]', "[]"), r"routes\[1\]\.gateways"),
        (('prefix = "+44"', 'prefix = ""'), r"routes\[2\]\.prefix: Is taken"),
        (('prefix = ""', 'prefix = "44"'), r"routes\[2\]\.prefix: Is taken"),
        (('prefix = "+44"', 'prefix = "+44"\ncolour = "red"'), r"routes\[1\]\.colour: Unknown"),
        (('name = "One"', 'name = "One"\nmax_calls = 0'), r"organizations\[1\]\.max_calls"),
        (('name = "One"', 'name = "One"\nlegs_per_second = 0'), r"\[1\]\.legs_per_second"),
        (('name = "One"', 'name = "One"\nlegs_per_second = 0.0000004'), "0.001 to 1000000 legs"),
        (('name = "One"', 'name = "One"\nlegs_per_second = true'), r"\[1\]\.legs_per_second"),
        (('name = "One"', 'name = "One"\nlegs_per_second = nan'), r"\[1\]\.legs_per_second"),
        (('name = "One"', 'name = "One"\nlegs_per_second = "٥"'), r"\[1\]\.legs_per_second"),
        (('name = "One"', 'name = "One"\nextension_digits = "٣"'), r"\[1\]\.extension_digits"),
        (('name = "One"', 'name = "One"\nextension_digits = 3.9'), r"\[1\]\.extension_digits"),
        (('name = "One"', 'name = "One"\ncost_per_day = "٥"'), r"\[1\]\.cost_per_day"),
        (('name = "One"', 'name = "One"\ncost_per_day = "1_000"'), r"\[1\]\.cost_per_day"),
        *(
            (('name = "One"', f'name = "One{sign}"'), r"organizations\[1\]\.name: Takes no line br")
            for sign in (r"\n", r"\r", r"\t", r"\u001b[2J", r"\u0085", r"\u2028", r"\u202e")
        ),
        (('id = "12"', 'id = "12"\nname = "Ada\\nLovelace"'), r"users\[1\]\.name"),
        (('number = "0003"', 'number = "٠٠٠٣"'), r"organizations\[1\]\.number"),
        (('number = "0003*210"', 'number = "0003*٢١٠"'), r"extensions\[1\]\.number"),
        (('prefix = "+44"', 'prefix = "٤٤"'), r"routes\[1\]\.prefix: Takes the first digits"),
        (('prefix = "+44"', 'prefix = "４４"'), r"routes\[1\]\.prefix"),
        (
            ("[[apps]]", '[[gateways]]\nname = "us"\n[[apps]]'),
            r"gateways\[1\]\.name: Is used by no",
        ),
    ],
)
def test_what_is_wrong_is_named(accounts_file: Path, change: tuple[str, str], named: str) -> None:
    assert change[0] in GOOD
    accounts_file.write_text(GOOD.replace(*change, 1))
    with pytest.raises(SettingsError, match=named):
        read_accounts(accounts_file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        read_accounts(tmp_path / "none.toml")


def test_redis_holds_no_token_and_a_change_is_seen(redis: Redis, accounts_file: Path) -> None:
    keys = Keys()
    writer, reader = AccountStore(redis, keys), AccountStore(redis, keys)
    writer.replace(read_accounts(None))
    assert reader.current() == read_accounts(None)
    row = redis.hget(keys.account_rows, "apps demo-user")
    assert row is not None and b"token_sha256" in row and b"demo-user-token" not in row
    accounts_file.write_text(GOOD)
    writer.replace(read_accounts(accounts_file))
    assert reader.current().app_of_token("demo-user-token") is None
    assert reader.current().app_of_token("a-long-and-secret-token") is not None


def test_limits_are_told_to_the_pacer(redis: Redis, accounts_file: Path) -> None:
    keys = Keys()
    text = """
name = "One"
legs_per_second = 2.5
[[gateways]]
name = "pstn"
legs_per_second = 10
max_legs = 30
media_timeout = 0
"""
    accounts_file.write_text(GOOD.replace('name = "One"', text, 1))
    writer, reader = AccountStore(redis, keys), AccountStore(redis, keys)
    accounts = read_accounts(accounts_file)
    writer.replace(accounts)
    assert reader.current() == accounts
    # 0 is not the same as nothing: it turns the setting off for this gateway.
    assert [gateway.media_timeout for gateway in reader.current().gateways] == [0]
    (organization,) = accounts.organizations.values()
    limits: Any = redis.hgetall(keys.limits)
    mark = limits.pop(b"mark")
    assert limits == {
        f"organization:{organization.id}".encode(): b"2.5:0",
        b"gateway:pstn": b"10.0:30",
    }
    writer.replace(read_accounts(None))
    (left,) = redis.hgetall(keys.limits).items()
    assert left[0] == b"mark" and left[1] != mark


def test_accounts_of_some_age_are_read_anew(redis: Redis, accounts_file: Path) -> None:
    writer, reader = AccountStore(redis, Keys()), AccountStore(redis, Keys(), max_age=0.05)
    writer.replace(read_accounts(None))
    # What is there when it is first asked counts at once.
    assert reader.current() == read_accounts(None)
    accounts_file.write_text(GOOD)
    writer.replace(read_accounts(accounts_file))
    eventually(lambda: reader.current().app_of_token("demo-user-token") is None)


def test_requests_that_come_together_all_see_a_change(redis: Redis) -> None:
    writer, reader = AccountStore(redis, Keys()), AccountStore(redis, Keys(), max_age=0.05)
    writer.replace(read_accounts(None))
    old, read = reader.current(), time.monotonic()
    writer.replace(replace(old, apps={}))
    eventually(lambda: time.monotonic() > read + 0.05)
    # One of them asks Redis, and the others do not go on with accounts of any age meanwhile.
    together = threading.Barrier(8)

    def apps(_: int) -> int:
        together.wait()
        return len(reader.current().apps)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(apps, range(8))) == [0] * 8


def test_what_a_newer_version_wrote_is_read(redis: Redis, accounts_file: Path) -> None:
    """While processes are replaced one by one, the old ones find accounts of the new."""
    keys = Keys()
    accounts_file.write_text(GOOD)
    AccountStore(redis, keys).replace(accounts := read_accounts(accounts_file))
    redis.hset(keys.account_rows, "planets 1", "{}")
    number = "extensions 0003*210"
    row: Any = json.loads(redis.hget(keys.account_rows, number) or b"")
    redis.hset(keys.account_rows, number, json.dumps({**row, "colour": "red"}))
    assert AccountStore(redis, keys).current() == accounts
    # A row that cannot be understood is as none, and takes no other away.
    redis.hset(keys.account_rows, number, json.dumps({**row, "type": "hologram"}))
    found = AccountStore(redis, keys).current()
    assert found.extensions.get("0003*210") is None and not list(found.extensions.values())
    assert found.apps == accounts.apps


def test_what_the_version_before_wrote_is_read_and_converted(
    redis: Redis, accounts_file: Path
) -> None:
    """It kept one document, and writes it again while its processes run beside ours."""
    keys = Keys()
    reader = AccountStore(redis, keys)
    accounts_file.write_text(GOOD)
    accounts = read_accounts(accounts_file)
    document = json.dumps({**document_of(texts_of(accounts)), "planets": [{"id": "1"}]})
    old = {"document": document, "demo": "0", "version": "0123456789abcdef"}
    redis.hset(keys.accounts, mapping=old)
    assert reader.current() == accounts
    writer = AccountStore(redis, keys)
    assert not writer.replace(accounts), "Redis had the same"
    assert redis.hkeys(keys.accounts) and not redis.hexists(keys.accounts, "document")
    assert reader.current() == AccountStore(redis, keys).current() == accounts
    redis.hset(keys.accounts, mapping={**old, "document": "{}"})
    assert not reader.current().apps
    writer.replace(accounts)
    assert reader.current() == AccountStore(redis, keys).current() == accounts


def test_accounts_are_read_of_a_redis_that_is_full(redis: Redis) -> None:
    accounts = read_accounts(None)
    AccountStore(redis, Keys()).replace(accounts, demo=True)
    redis.config_set("maxmemory", "1")
    try:
        assert AccountStore(redis, Keys()).current().apps == accounts.apps
    finally:
        redis.config_set("maxmemory", "0")
