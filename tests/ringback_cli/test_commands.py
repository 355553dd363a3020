"""The commands against a Redis without processes, and without a Redis."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from app.accounts.model import PriceOf
from app.accounts.store import AccountStore, read_accounts
from app.calls import transitions
from app.calls.model import Call
from app.settings import Settings
from app.store import format
from app.store.accepting import Acceptor
from app.store.calls import CallStore
from app.store.keys import Keys
from app.store.pace import Limit, Pacer
from app.store.queue import ACT, PLACE_CALL, QUEUES, JobQueue
from app.store.writes import Note
from ringback_cli import commands
from ringback_cli.main import COMMANDS, PROCESSES, main
from ringback_cli.up import free_port
from tests.app.test_call_events import CALLED, DESK, call
from tests.conftest import LIMIT

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RINGBACK_REDIS_URL", settings.require_redis())
    monkeypatch.setenv("COLUMNS", "200")
    format.check(redis, Keys())
    AccountStore(redis, Keys()).replace(read_accounts(None), demo=True)

    def _run(*words: str, **more: str) -> Result:
        return CliRunner().invoke(main, words, env=more, prog_name="ringback")

    return _run


@pytest.fixture
def store(redis: Redis) -> CallStore:
    return CallStore(redis, Keys())


def placed(store: CallStore, digit: str, extension: str = DESK) -> Call:
    new = replace(
        call([extension], [CALLED], extension),
        id=digit * 20,
        state=transitions.State.QUEUED,
        accepted=store.now(),
    )
    return Acceptor(store).accept([new], JobQueue(store.redis, store.keys).place_call).calls[0]


def ids(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [row["id"] for row in json.loads(result.stdout)]


def test_without_redis_each_says_what_to_do(settings: Settings) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"
    for words in (
        ["call", "210", "15500"],
        ["calls", "list"],
        ["switch", "list"],
        ["queue"],
        ["events"],
        ["accounts", "show"],
    ):
        result = CliRunner().invoke(main, words, env={"RINGBACK_REDIS_URL": away})
        assert result.exit_code == 1, result.output
        assert "Redis is unavailable" in result.stderr and "ringback doctor" in result.stderr
        assert "Traceback" not in result.output
    unset = CliRunner().invoke(main, ["queue"])
    assert unset.exit_code == 1 and "RINGBACK_REDIS_URL is not set" in unset.output


def test_the_doctor_goes_on_without_what_is_away(redis: Redis, settings: Settings) -> None:
    def failures(**env: str) -> set[str]:
        result = CliRunner().invoke(main, ["doctor", "--json"], env=env)
        assert result.exit_code == 2, result.output
        return {c["subject"] for c in json.loads(result.stdout) if c["level"] == "failure"}

    nobody = f"127.0.0.1:{free_port()}"
    away = {"RINGBACK_REDIS_URL": f"redis://{nobody}", "RINGBACK_SWITCHES": f"s=esl://:x@{nobody}"}
    assert failures(**away) == {"Redis", "s"}
    assert failures() == {"RINGBACK_REDIS_URL", "RINGBACK_SWITCHES"}
    empty = {**away, "RINGBACK_REDIS_URL": settings.require_redis()}
    assert failures(**empty) == {
        *(
            *(f"workers of {queue}" for queue in QUEUES),
            "listeners of s",
            "accounts",
            "s",
        )
    }
    known = {"RINGBACK_DEMO": "known", "RINGBACK_HTTP": "0.0.0.0:1"}
    assert failures(**known, **away) == {"accounts", "Redis", "s"}
    assert failures(RINGBACK_LOG_LEVEL="x") == {"RINGBACK_*"}


def test_the_doctor_looks_for_the_recordings(tmp_path: Path) -> None:
    def level(**env: str) -> str:
        result = CliRunner().invoke(main, ["doctor", "--json"], env=env)
        found: dict[str, str] = {c["subject"]: c["level"] for c in json.loads(result.stdout)}
        return found["recordings"]

    assert level() == "skipped"
    assert level(RINGBACK_RECORDINGS_ROOT=str(tmp_path)) == "ok"
    assert level(RINGBACK_RECORDINGS_ROOT=str(tmp_path / "nowhere")) == "warning"


def test_calls_are_listed_by_what_is_asked_for(run: Run, store: CallStore) -> None:
    first, second = placed(store, "1"), placed(store, "2", "0003*211")
    assert ids(run("calls", "list", "--json")) == [second.id, first.id]
    for options, found in (
        (("--limit", "1"), [second]),
        (("--extension", "0003*211"), [second]),
        (("--extension", "210"), [first]),
        (("--user", "12"), [second, first]),
        (("--switch", "main"), []),
        (("--state", "queued"), [second, first]),
        (("--state", "bridged"), []),
        (("--state", "ended"), []),
        (("--number", "024"), [second, first]),
        (("--number", "99"), []),
    ):
        assert ids(run("calls", "list", "--json", *options)) == [call.id for call in found]
    table = run("calls", "list").stdout
    assert first.id in table and "0003*211" in table and "\x1b" not in table
    store.change(
        first,
        lambda c: transitions.request_hangup(c, at=store.now()),
        Note("request", "hang up"),
    )
    assert ids(run("calls", "list", "--json")) == [second.id]
    assert ids(run("calls", "list", "--state", "ended", "--json")) == [first.id]
    assert run("calls", "list", "--user", "99").exit_code == 1
    assert run("calls", "list", "--extension", "999").exit_code == 1


def test_a_call_is_shown_with_its_timeline(run: Run, store: CallStore) -> None:
    call = placed(store, "1")
    shown = json.loads(run("calls", "show", call.id, "--json").stdout)
    assert shown["legs"][0]["number"] == DESK
    assert [entry["name"] for entry in shown["timeline"]] == ["accepted", "queued"]
    text = run("calls", "show", call.id).stdout
    assert "caller_id_destination" in text and "queued" in text
    unknown = run("calls", "show", "0" * 20)
    assert unknown.exit_code == 1 and "ringback cdr export" in unknown.stderr


def test_waiting_calls_are_hung_up_at_once(run: Run, store: CallStore) -> None:
    calls = [placed(store, digit) for digit in "123"]
    one = run("calls", "hangup", calls[0].id, "--json")
    assert json.loads(one.stdout) == {"ended": [calls[0].id], "pending": []}
    unasked = run("calls", "hangup", "--all")
    assert unasked.exit_code == 2 and "Add --yes" in unasked.output
    assert run("calls", "hangup").exit_code == 2
    assert run("calls", "hangup", "--all", calls[1].id).exit_code == 2
    assert run("calls", "hangup", calls[1].id, "0" * 20).exit_code == 1
    rest = run("calls", "hangup", "--extension", "210", "--yes")
    assert rest.exit_code == 0 and rest.stdout == "2 ended\n"
    assert ids(run("calls", "list", "--json")) == []


def test_a_call_is_checked_as_the_api_does(run: Run) -> None:
    for words, code in (
        (["call", "15500", "15501"], "extension_invalid"),
        (["call", "210", "x"], "pc_destination_invalid"),
        (["call", "210", "15500", "--wait", "0"], "pc_timeout_invalid"),
        (["call", "210", "15500", "--caller-id", "x<y>"], "pc_callerid_invalid"),
        (["call", "210", "15500", "--user", "99"], "user_invalid"),
    ):
        result = run(*words)
        assert result.exit_code == 1 and code in result.stderr, result.output


def test_a_call_that_nobody_follows(run: Run, store: CallStore) -> None:
    options = ("--caller-id", "Ann <42>", "--wait", "5", "--duration", "60", "--nonce", "n")
    first = run("call", "210,15502", "15500", "--no-follow", *options)
    assert first.exit_code == 0, first.output
    call = store.get(first.stdout.strip())
    assert call is not None
    assert (call.wait_for_pickup, call.call_duration, call.extension) == (5, 60, DESK)
    assert call.caller_id == call.caller_id_destination == "Ann <42>"
    assert [leg.number for leg in call.legs] == [DESK, "15502", "15500"]
    again = run("call", "210,15502", "15500", "--no-follow", "--json", *options)
    assert json.loads(again.stdout)["id"] == call.id, "the same nonce, the same call"


def test_switches_that_nobody_knows(run: Run) -> None:
    assert json.loads(run("switch", "list", "--json").stdout) == []
    unknown = run("switch", "pause", "main")
    assert unknown.exit_code == 1 and "no switch main" in unknown.stderr
    known = {"RINGBACK_SWITCHES": "main=esl://:x@127.0.0.1"}
    paused = json.loads(run("switch", "pause", "main", "--why", "disks", "--json", **known).stdout)
    assert paused["paused"]["why"] == "disks" and not paused["paused"]["drain"]
    drained = run("switch", "drain", "main", **known)
    assert drained.exit_code == 0
    assert "draining by" in run("switch", "list", **known).stdout
    assert "main gets new calls again" in run("switch", "resume", "main", **known).stdout
    assert "was not paused" in run("switch", "resume", "main", **known).stdout


def test_the_queue_and_what_failed_in_it(run: Run, store: CallStore, redis: Redis) -> None:
    call = placed(store, "1")
    queue = JobQueue(redis, Keys())
    action = queue.actions.enqueue_call(ACT, args=(call.id, "{}"), job_id="action")
    for job_id, of in ((call.id, queue.calls), (action.id, queue.actions)):
        job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
        of.remove(job)
        FailedJobRegistry(queue=of).add(job, exc_string="Traceback\nOSError: gone")
    state = json.loads(run("queue", "--json").stdout)
    assert [(q["name"], q["waiting"], q["failed"]) for q in state["queues"]] == [
        ("ringback-calls", 0, 1),
        ("ringback-actions", 0, 1),
        ("ringback-requests", 0, 0),
    ]
    assert "No worker is registered" in run("queue").stderr
    failed = {job["id"]: job for job in json.loads(run("queue", "failed", "--json").stdout)}
    assert failed[call.id]["may_retry"] and not failed["action"]["may_retry"]
    assert "place_call" in run("queue", "failed").stdout
    refused = run("queue", "failed", "retry", "action")
    assert refused.exit_code == 1 and "an action may have been done" in refused.stderr
    done = json.loads(run("queue", "failed", "retry", "--all", "--json").stdout)
    assert done["retried"] == [call.id] and [job["id"] for job in done["refused"]] == ["action"]
    assert queue.calls.get_job_ids() == [call.id]
    assert run("queue", "failed", "drop", "action").stdout == "1 dropped\n"
    assert run("queue", "failed", "drop", "action").exit_code == 1
    assert json.loads(run("queue", "failed", "--json").stdout) == []


def test_the_queue_among_jobs_of_other_programs(run: Run, store: CallStore, redis: Redis) -> None:
    """Those hide none of ours. Nobody retries them, or counts them for ever without a hash."""
    call = placed(store, "1")
    calls = JobQueue(redis, Keys()).calls
    FailedJobRegistry(queue=calls).add(calls.fetch_job(call.id), exc_string="OSError: gone")
    calls.remove(call.id)
    Queue(calls.name, connection=redis).enqueue_call(print, args=("pickled",), job_id="pickled")
    calls.enqueue_call("os.system", args=("true",), job_id="system")
    Queue("other", connection=redis, serializer=JSONSerializer).enqueue_call(
        PLACE_CALL, args=(call.id,), job_id="elsewhere"
    )
    redis.hset("rq:job:status", mapping={"data": "x", "status": "no such"})
    redis.hset(b"rq:job:\xff", "data", b"\xff")
    redis.set("rq:job:text", "x")
    others: list[Any] = ["pickled", "system", "elsewhere", "status", b"\xff", "text", "none"]
    redis.zadd(f"rq:failed:{calls.name}", dict.fromkeys(others, "+inf"))
    redis.lpush(f"rq:queue:{calls.name}", b"\xff", "none")
    redis.sadd(f"rq:workers:{calls.name}", b"rq:worker:\xff", "rq:worker:gone")
    redis.hset("rq:worker:gone", "queues", b"\xff")

    state = run("queue", "--json")
    assert json.loads(state.stdout)["queues"][0]["waiting"] == 4, state.output
    assert run("doctor", "--json").exit_code == 2
    rows = json.loads(run("queue", "failed", "--json").stdout)
    why = {row["id"]: row["why"] for row in rows}
    assert set(why) == {call.id, "pickled", "system", "elsewhere", "status", r"\xff", "text"}
    assert [row["id"] for row in rows if row["may_retry"]] == [call.id]
    assert why["text"] == "it cannot be read: its key holds no hash"
    assert json.loads(run("queue", "--json").stdout)["queues"][0]["failed"] == 7
    assert run("queue", "failed").exit_code == 0

    one = run("queue", "failed", "retry", "system", call.id)
    assert one.exit_code == 1 and one.stdout == "1 enqueued again\n"
    assert "system is not retried: os.system is no job of Ringback." in one.stderr
    done = json.loads(run("queue", "failed", "retry", "--all", "--json").stdout)
    assert done["retried"] == []
    refused = {job["id"]: job["why"] for job in done["refused"]}
    assert refused["elsewhere"] == "it belongs to the queue other."
    assert all(word in refused["pickled"] for word in ("cannot be read", "."))
    assert run("queue", "failed", "drop", r"\xff").stdout == "1 dropped\n"
    assert run("queue", "failed", "drop", "--all").stdout == "5 dropped\n"
    assert not redis.exists(f"rq:failed:{calls.name}", "rq:job:system")
    assert redis.exists("rq:job:elsewhere", "rq:job:text") == 2, "those of others are left alone"


def test_the_shell_completes_ids_and_names(run: Run, store: CallStore) -> None:
    first = placed(store, "1")

    def offered(line: str, **more: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        result = run(_RINGBACK_COMPLETE="bash_complete", **words, **more)
        return [row.partition(",")[2] for row in result.stdout.split()]

    assert offered("ringback calls sh") == ["show"]
    assert offered("ringback calls show 11") == ["1" * 20]
    newer = {f"2{number:019d}": first.accepted + 1 + number for number in range(200)}
    store.redis.zadd(store.keys.calls, newer)
    assert offered("ringback calls show 11") == ["1" * 20]
    assert "0003*210" in offered("ringback calls list --extension 0003")
    assert offered("ringback accounts rotate-secret demo-v") == ["demo-voipnow"]
    away = f"redis://127.0.0.1:{free_port()}/0"
    assert offered("ringback calls show 11", RINGBACK_REDIS_URL=away) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_each_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0 and "_RINGBACK_COMPLETE" in result.output


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    for sub, each in command.commands.items():
        yield from leaves(f"{name} {sub}", each)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None and found.name == name
    assert found.get_short_help_str(limit=80) == COMMANDS[name]
    for words, command in leaves(name, found):
        assert command.help and command.help.strip().endswith((".", "ringback.fish")), words
        texts = [param.help for param in command.params if isinstance(param, click.Option)]
        assert all(text and text.endswith(".") for text in texts), words
        names = [option for param in command.params for option in param.opts]
        lasts = name in PROCESSES or words in ("completion", "cdr export")
        # A dead letter is shown as JSON, and the outcome of the others is a number.
        letters = name == "deadletter" and words != "deadletter list"
        assert lasts or letters or "--json" in names, words


def test_every_module_of_a_command_is_listed() -> None:
    assert sorted(COMMANDS) == sorted(each.name for each in iter_modules(commands.__path__))


def test_a_switch_that_was_taken_away_is_forgotten(run: Run, redis: Redis) -> None:
    Pacer(redis, Keys()).set_switch_limit("gone", Limit(most=1000))
    assert [row["name"] for row in json.loads(run("switch", "list", "--json").stdout)] == ["gone"]
    assert run("switch", "forget", "gone").stdout == "gone is forgotten. It has 0 live calls.\n"
    assert run("switch", "list", "--json").stdout == "[]\n"
    assert run("switch", "forget", "gone").exit_code != 0


def test_the_caps_and_what_is_used(run: Run, store: CallStore, redis: Redis) -> None:
    assert run("caps").stdout == "No cap is set.\n"
    accounts = read_accounts(None)
    organizations = {
        number: replace(each, calls_per_day=5, cost_per_day="2.5")
        for number, each in accounts.organizations.items()
    }
    free = PriceOf("", per_minute="0", currency="USD")
    new = replace(accounts, organizations=organizations, rates={"": free})
    AccountStore(redis, Keys()).replace(new, demo=True)
    day = int(store.now() // 86_400)
    used = {"calls_per_day": 5, "cost": 1_250_000}
    redis.hset(store.keys.quota(day, "organization:3"), mapping=used)  # type: ignore[arg-type]
    (calls, money) = json.loads(run("caps", "organization:3", "--json").stdout)
    assert calls.pop("freeAt").endswith("T00:00:00Z")
    assert calls == {"holder": "organization:3", "cap": "calls_per_day", "limit": 5, "used": 5}
    assert (money["cap"], money["limit"], money["used"]) == ("cost_per_day", 2.5, 1.25)
    assert "calls_per_day" in run("caps").stdout
    nobody = run("caps", "organization:9")
    assert (
        nobody.exit_code == 1 and "No organization, user or app is organization:9" in nobody.stderr
    )


@pytest.mark.parametrize("words", [("calls", "list"), ("queue",), ("calls", "list", "--help")])
def test_a_misspelt_setting_is_told(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words, RINGBACK_QUEUE_TIMEOUTT="5")
    assert result.exit_code == 0
    assert result.stderr.startswith(
        "ringback: RINGBACK_QUEUE_TIMEOUTT is no setting: did you mean RINGBACK_QUEUE_TIMEOUT?\n"
    )
    assert "TIMEOUTT" not in result.stdout


def test_each_process_tells_a_misspelt_setting(settings: Settings) -> None:
    environment = {"RINGBACK_QUEUE_TIMEOUTT": "5", "RINGBACK_LOG_FORMAT": "json"}
    for name in ("api", "listener", "simulator", "webhooks", "worker"):
        # Each ends at its start: it lacks a setting, or takes no such address.
        bad = {"RINGBACK_SIMULATOR": "256.0.0.1:1"}
        done = subprocess.run(
            [sys.executable, "-m", "ringback_cli", name],
            env={**clean_environment(), **environment, **(bad if name == "simulator" else {})},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        (told,) = [line for line in lines if "TIMEOUTT" in json.dumps(line)]
        assert "did you mean RINGBACK_QUEUE_TIMEOUT?" in json.dumps(told)
        assert told["level"] == "warning"


def clean_environment() -> dict[str, str]:
    return {n: value for n, value in os.environ.items() if not n.startswith("RINGBACK_")}


@pytest.mark.parametrize(
    "words",
    [
        *(("calls", "show", "\udcff"), ("calls", "hangup", "\udcff"), ("events", "\udcff")),
        *(("calls", "list", "--number", "\udcff"), ("deadletter", "show", "\udcff")),
        *(("cdr", "export", "--output", "\udcff"), ("\udcff",), ("call", "210", "a\udcff")),
        *(("audit", "--app", "\udcff"), ("accounts", "rotate-secret", "\udcff")),
    ],
)
def test_bytes_that_are_no_text(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "has bytes that are no UTF-8" in result.stderr and "Traceback" not in result.output
