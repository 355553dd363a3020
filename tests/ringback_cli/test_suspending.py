"""`ringback organizations` and `ringback apps` against a real Redis."""

import json
from dataclasses import replace

import pytest
from redis import Redis

from app.accounts.store import AccountStore, read_accounts
from app.calls.model import State
from app.store.calls import CallStore
from app.store.keys import Keys
from ringback_cli.session import who
from tests.ringback_cli.test_commands import Run, placed, run, store

__all__ = ["run", "store"]


def states(run: Run, what: str) -> dict[str, str]:
    result = run(what, "list", "--json")
    assert result.exit_code == 0, result.output
    return {row["name"]: row["state"] for row in json.loads(result.stdout)}


def test_an_organization(run: Run, store: CallStore, redis: Redis) -> None:
    assert states(run, "organizations") == {"0003": "active"}
    done = run("organizations", "suspend", "0003", "--why", "unpaid")
    assert done.stdout == "organization 0003 is suspended. Its live calls go on.\n"
    (row,) = json.loads(run("organizations", "list", "--json").stdout)
    assert (row["state"], row["by"], row["why"]) == ("suspended", who(), "unpaid")
    assert "suspended" in run("organizations", "list").stdout
    refused = run("call", "15500", "15600", "--extension", "0003*210")
    assert refused.exit_code == 1 and "(organization_suspended)" in refused.stderr
    # Other accounts come in, without the organization or with it.
    other = replace(read_accounts(None), organizations={}, users={}, extensions={}, apps={})
    AccountStore(redis, Keys()).replace(replace(other, conferences={}))
    assert states(run, "organizations") == {"0003": "suspended"}
    AccountStore(redis, Keys()).replace(read_accounts(None))
    done = run("organizations", "resume", "0003")
    assert done.stdout == "organization 0003 is active.\n"
    again = run("organizations", "resume", "0003")
    assert again.stdout == "organization 0003 was already active.\n"
    assert states(run, "organizations") == {"0003": "active"}


def test_hang_up_ends_what_the_organization_pays(run: Run, store: CallStore) -> None:
    calls = [placed(store, digit) for digit in "12"]
    done = json.loads(run("organizations", "suspend", "0003", "--hang-up", "--json").stdout)
    assert (done["state"], done["pending"]) == ("suspended", [])
    assert sorted(done["ended"]) == [call.id for call in calls]
    for call in store.get_many([call.id for call in calls]):
        assert call is not None and (call.state, call.ended_by) == (State.ENDED, "api")
        assert call.actions[0].user == who()


def test_hang_up_ends_what_the_app_placed(run: Run, store: CallStore) -> None:
    call = placed(store, "1")
    done = run("apps", "disable", "demo-voipnow", "--hang-up")
    assert done.stdout == "app demo-voipnow is disabled. 0 calls ended.\n"
    assert run("apps", "disable", call.app, "--hang-up").exit_code == 1
    # An app of the accounts.
    done = run("apps", "disable", "demo-user", "--hang-up", "--json")
    assert json.loads(done.stdout)["ended"] == []
    shown = states(run, "apps")
    assert (shown["demo-user"], shown["demo-organization"]) == ("disabled", "active")
    assert run("apps", "enable", "demo-user").stdout == "app demo-user is enabled.\n"
    assert states(run, "apps")["demo-user"] == "active"
    lines = [json.loads(line) for line in run("audit", "--json").stdout.splitlines()]
    assert [(e["what"], e["on"]) for e in lines if e["what"] != "place"] == [
        ("disable_app", "demo-voipnow"),
        ("disable_app", "demo-user"),
        ("enable_app", "demo-user"),
    ]


@pytest.mark.parametrize(
    "words", [("organizations", "suspend", "9"), ("apps", "disable", "nobody")]
)
def test_a_name_that_nobody_has(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert f"There is no {words[0].removesuffix('s')} {words[2]}. Known" in result.stderr
