"""Run RQ's own tests with our worker class in the place of RQ's.

    python tests/workers/rq_suite.py FOLDER [--rq-own] [pytest's arguments]

``make test-rq`` unpacks RQ's source distribution into a folder and runs this. ``--rq-own`` runs all
tests with RQ's SimpleWorker. The tests need a Redis on port 6379, which this starts. pytest does
not collect them with ours: they are a package of the same name.
"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import os
import socket
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import gevent
import pytest
import rq.worker
from rq import SimpleWorker

from app.store.client import connect
from ringback_cli.embedded_redis import EmbeddedRedis
from workers.rq_worker.batch import BatchWorker, GeventDeathPenalty

FILES = """
    test_callbacks test_cli test_commands test_decorator test_dependencies test_executions
    test_group test_intermediate_queue test_job test_job_dependency test_job_lifecycle test_queue
    test_queue_unique test_rate_limit test_registry test_repeat test_results test_retry
    test_scheduler test_timeouts test_webhooks test_worker test_worker_pool
    test_worker_registration
""".split()

# Parts of the ids of tests that are left out, each with the reason.
_FORK = "tests the process that RQ's other class forks for a job"
_STEP = "puts a mock between taking a job and starting it, which is one step here"
_ORDER = "expects a worker to run one job after the other"
DESELECTED = {
    "TestCommands::test_kill_horse_command": _FORK,
    "TestCommands::test_stop_execution_command": _FORK,
    "TestCommands::test_stop_job_command": _FORK,
    "TestCommands::test_shutdown_command": "sends SIGINT to the process of the tests",
    "test_allow_failures_when_work_horse_killed": _FORK,
    "TestRegistry::test_execution_added_to_started_job_registry": _FORK,
    "test_executions.py::TestRegistry::test_heartbeat": _FORK,
    "test_executions.py::TestRegistry::test_registry_cleanup": _FORK,
    "TestIntermediateQueue::test_cleanup_intermediate_queue": _STEP,
    "TestIntermediateQueue::test_no_cleanup_while_in_started_queue": _STEP,
    "TestQueue::test_intermediate_queue": _STEP,
    "TestWorker::test_horse_fails": _FORK,
    "test_execution_order_with_dual_dependency": _ORDER,
    "test_execution_order_with_sole_dependency": _ORDER,
    "test_job_dependency_race_condition": "counts calls of execute_job, which begin a batch here",
    "test_timer_death_penalty": "needs threads of the system, which gevent replaces",
    "TestWorker::test_get_heartbeat_ttl": _FORK,
    "test_work_horse_force_death": _FORK,
    "test_work_horse_death_sets_job_failed": _FORK,
    "test_stopped_job_failed_even_if_stopped_callback_raises": _FORK,
    "HerokuWorkerShutdownTestCase": _FORK,
    "TestWorkerPool::test_check_workers": "fails with RQ's own classes too, under gevent",
    "TestWorkerPool::test_reap_workers": "fails with RQ's own classes too, under gevent",
    "TestWorkerSubprocess": "runs the script rqworker, which RQ 3 no longer has",
}
# Seconds that a test may take.
LIMIT = 60


class Substitution:
    def __init__(self, deselected: Mapping[str, str]) -> None:
        self._deselected = deselected

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        out = [item for item in items if any(part in item.nodeid for part in self._deselected)]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        with gevent.Timeout(LIMIT):
            return (yield)


class RqOwn(SimpleWorker):
    death_penalty_class = GeventDeathPenalty


def main(folder: str, *arguments: str) -> int:
    options = [argument for argument in arguments if argument != "--rq-own"]
    ours = len(options) == len(arguments)
    for module in (rq, rq.worker, rq.worker.worker_classes):
        module.SimpleWorker = module.Worker = BatchWorker if ours else RqOwn  # type: ignore
    with socket.socket() as client:
        if client.connect_ex(("127.0.0.1", 6379)) == 0:
            sys.exit("port 6379 is in use, and RQ's tests need it: stop the server there")
    redis = EmbeddedRedis(6379, password="")
    try:
        connect(redis.url, retries=20).ping()
        os.chdir(folder)
        sys.path.insert(0, "")
        if not any(Path(option.partition("::")[0]).exists() for option in options):
            options += [f"tests/{name}.py" for name in FILES]
        options = ["-q", "-p", "no:cacheprovider", *options]
        return pytest.main(options, [Substitution(DESELECTED if ours else {})])
    finally:
        redis.stop()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
