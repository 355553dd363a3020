"""`ringback accounts` against a real Redis."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tomlkit
from click.testing import CliRunner, Result
from redis import Redis

from app.accounts.model import Accounts, token_sha256
from app.accounts.store import AccountStore, read_accounts
from app.settings import Settings
from app.store import format
from app.store.keys import Keys
from ringback_cli.main import main
from tests.own_accounts import own_accounts

# Of somebody who has read the demo's, and taken other secrets.
OWN = own_accounts("our-very-own", ids=True)

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RINGBACK_REDIS_URL", settings.require_redis())

    def _run(*words: object, **more: str) -> Result:
        return CliRunner().invoke(main, ["accounts", *map(str, words)], env=more)

    return _run


@pytest.fixture
def current(redis: Redis) -> Callable[[], Accounts]:
    """The accounts as a process of its own reads them."""
    return lambda: AccountStore(redis, Keys()).current()


@pytest.fixture
def file(accounts_file: Path) -> Path:
    accounts_file.write_text(OWN)
    return accounts_file


def test_check_names_what_is_wrong(run: Run, file: Path, redis: Redis) -> None:
    good = run("check", file, RINGBACK_REDIS_URL="")
    assert good.exit_code == 0, good.output
    assert "4 apps" in good.output
    assert json.loads(run("check", file, "--json").output)["extensions"] == 5
    file.write_text(OWN.replace('owner = "12"', 'owner = "13"', 1))
    bad = run("check", file)
    assert bad.exit_code == 1
    assert "extensions[1].owner: Is no user's id." in bad.output
    assert "RINGBACK_ACCOUNTS" not in bad.output
    assert run("check", file.with_name("none.toml")).exit_code == 1
    assert redis.keys() == [b"ringback:limits"]


def test_import_replaces_those_in_redis(
    run: Run, file: Path, current: Callable[[], Accounts]
) -> None:
    done = run("import", file)
    assert done.exit_code == 0 and "An API that starts keeps them" in done.output
    assert current() == read_accounts(file)
    file.write_text(OWN.replace("Second Desk", "Another Desk"))
    assert json.loads(run("import", file, "--json").stdout)["extensions"] == [0, 1, 0]
    file.write_text("users = 1")
    before = current()
    assert run("import", file).exit_code == 1
    assert current() == before


def test_what_is_shown_has_no_secrets(run: Run, file: Path) -> None:
    nothing = run("show")
    assert nothing.exit_code == 1 and "ringback accounts import FILE" in nothing.output
    run("import", file)
    run("rotate-secret", "our-very-own-user", "--webhook-secret")
    shown = run("show").output + run("show", "--json").output
    assert "0003*210" in shown and "our-very-own-voipnow" in shown
    assert not any(word in shown for word in ("sha256", "whsec_", "token", "2233"))


def test_an_export_can_be_imported(
    run: Run, file: Path, current: Callable[[], Accounts], tmp_path: Path
) -> None:
    run("import", file)
    exported = tmp_path / "exported.toml"
    exported.write_text(run("export").stdout)
    assert read_accounts(exported) == current() == read_accounts(file)
    run("rotate-secret", "our-very-own-user", "--webhook-secret")
    again = run("export")
    assert "whsec_" not in again.output
    assert "The export leaves out the webhook_secret of our-very-own-user." in again.stderr


def test_an_app_is_added_to_redis_and_to_the_file(
    run: Run, file: Path, current: Callable[[], Accounts]
) -> None:
    run("import", file)
    options = ("--level", "organization", "--organization", "0003")
    added = run(
        *("add-app", "crm", *options, "--token", "--client-secret", "--webhook-secret"),
        *("--file", file, "--json"),
    )
    assert added.exit_code == 0, added.output
    made = json.loads(added.stdout)
    app = current().app_of_token(made["token"])
    assert app is not None and (app.id, app.organization) == ("crm", "0003")
    assert app.webhook_secret == made["webhook_secret"]
    assert read_accounts(file) == current()
    written = file.read_text()
    assert written.startswith(OWN.split("[[routes]]")[0]), "what was there stays, comments too"
    assert made["token"] not in written and made["client_secret"] not in written
    twice = run("add-app", "crm", *options)
    assert twice.exit_code == 1 and "rotate-secret crm" in twice.output


def test_a_secret_is_rotated(run: Run, file: Path, current: Callable[[], Accounts]) -> None:
    run("import", file)
    before = current().apps["our-very-own-user"]
    rotated = run("rotate-secret", "our-very-own-user", "--token", "--file", file)
    token = rotated.stdout.strip().removeprefix("token = ")
    app = current().app_of_token(token)
    assert app is not None and app.id == "our-very-own-user"
    assert current().app_of_token("our-very-own-user-token") is None
    assert app.client_secret_sha256 == before.client_secret_sha256, "the other secret stays"
    both = run("rotate-secret", "our-very-own-user", "--file", file)
    assert [line.split(" = ")[0] for line in both.stdout.splitlines()] == ["token", "client_secret"]
    assert current().app_of_token(token) is None, "all that it has, where none is named"
    assert current().apps["our-very-own-user"].client_secret_sha256 != before.client_secret_sha256
    assert read_accounts(file) == current()
    unknown = run("rotate-secret", "nobody")
    assert unknown.exit_code == 1 and "our-very-own-administrator" in unknown.output


def test_without_a_file_the_table_to_paste_is_shown(run: Run, file: Path) -> None:
    run("import", file)
    added = run("add-app", "crm", "--level", "user", "--user", "12")
    table = added.stderr.split("\n\n")[1]
    document = tomlkit.parse(OWN + "\n[[apps]]\n" + table)
    file.write_text(tomlkit.dumps(document))
    assert added.stdout.strip().removeprefix("token = ") not in added.stderr
    assert "crm" in read_accounts(file).apps


@pytest.mark.parametrize(
    "options", [("--level", "user"), ("--level", "user", "--user", "99"), ("--level", "king")]
)
def test_an_app_that_cannot_be_is_not_added(
    run: Run, file: Path, current: Callable[[], Accounts], options: tuple[str, ...]
) -> None:
    run("import", file)
    assert run("add-app", "crm", *options, "--file", file).exit_code > 0
    assert "crm" not in current().apps
    assert file.read_text() == OWN


def test_the_demo_stays_the_demo(run: Run, redis: Redis) -> None:
    format.check(redis, Keys())
    AccountStore(redis, Keys()).replace(read_accounts(None), demo=True)
    assert run("rotate-secret", "demo-user").exit_code == 0
    assert redis.hget(Keys().accounts, "demo") == b"1"


def test_an_app_with_fewer_scopes(run: Run, file: Path, current: Callable[[], Accounts]) -> None:
    run("import", file)
    words = ["add-app", "wallboard", "--level", "user", "--user", "12", "--token-in-query"]
    words += ["--scope", "calls:read", "--scope", "events", "--supervise", "0003*2*"]
    done = run(*words, "--expires", "2030-01-01", "--file", file)
    assert done.exit_code == 0, done.output
    for accounts in (current(), read_accounts(file)):
        app = accounts.apps["wallboard"]
        assert (app.scopes, app.supervise) == (("calls:read", "events"), ("0003*2*",))
        assert (app.expires, app.token_in_query) == (1893456000.0, True)
    refused = run("add-app", "other", "--level", "user", "--user", "12", "--supervise", "0004*")
    assert refused.exit_code == 1 and "not of its own organization" in refused.output


def test_secrets_are_rotated_without_downtime(
    run: Run, file: Path, current: Callable[[], Accounts]
) -> None:
    run("import", file)
    made = [{"token": "our-very-own-user-token", "client_secret": "our-very-own-user-secret"}]
    for _ in range(2):
        done = run("rotate-secret", "our-very-own-user", "--keep", "7d", "--file", file, "--json")
        made.append(json.loads(done.stdout))
    for accounts in (current(), read_accounts(file)):
        # The newest two count, the older of them for seven days.
        apps = [accounts.app_of_token(each["token"]) for each in made]
        assert [app.id if app else None for app in apps] == [None, *["our-very-own-user"] * 2]
        app = accounts.apps["our-very-own-user"]
        for kept, name in ((app.tokens, "token"), (app.client_secrets, "client_secret")):
            (old,) = kept
            assert old.sha256 == token_sha256(made[1][name])
            assert old.expires is not None and 604_700 < old.expires - time.time() <= 604_800
    dropped = run("drop-secret", "our-very-own-user", "--token", "--file", file)
    assert dropped.exit_code == 0, dropped.output
    for accounts in (current(), read_accounts(file)):
        assert accounts.app_of_token(made[1]["token"]) is None
        assert accounts.app_of_token(made[2]["token"]) is not None
        assert len(accounts.apps["our-very-own-user"].all_client_secrets) == 2
    again = run("drop-secret", "our-very-own-user", "--token")
    assert again.exit_code == 1 and "no second token" in again.output
    assert run("drop-secret", "our-very-own-user").exit_code == 2
    assert run("rotate-secret", "our-very-own-user", "--keep", "soon").exit_code == 2
    # Without --keep the old ones end at once.
    run("rotate-secret", "our-very-own-user", "--file", file)
    for accounts in (current(), read_accounts(file)):
        assert accounts.app_of_token(made[2]["token"]) is None
        assert len(accounts.apps["our-very-own-user"].all_client_secrets) == 1
