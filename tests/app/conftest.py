"""The API against a real Redis, and the demo's tokens."""

import atexit
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.services import create_services
from app.settings import KNOWN, Settings, load_settings
from app.store.calls import CallStore
from app.store.client import connect
from app.store.keys import Keys
from app.web.auditing import Auditor
from app.web.services import EXTENSION

USER = "demo-user-token"
ORGANIZATION = "demo-organization-token"
ADMINISTRATOR = "demo-administrator-token"
VOIPNOW = "demo-voipnow-token"

Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def routes(redis_url: str) -> Flask:
    """An application for all tests: to make its routes takes longer than most tests."""
    # A test before may have left accounts without the format number.
    connect(redis_url).flushdb()
    return create_app(replace(load_settings(), redis_url=redis_url, demo=KNOWN))


@pytest.fixture
def client(routes: Flask, settings: Settings, redis: Redis) -> Iterator[FlaskClient]:
    """The API as it has just started, on an empty database; its health page is an older one's."""
    quick = replace(settings, action_timeout=0.05)
    services = {type(each): each for each in create_services(quick)}
    routes.extensions[EXTENSION] = services
    yield routes.test_client()
    # Nothing of this test goes into the next one's audit.
    services[Auditor].flush()


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    def _ask(
        method: str, path: str, body: Any = None, token: str | None = USER, **query: Any
    ) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        return client.open(
            path, method=method, data=data, headers=headers, query_string=query or None
        )

    return _ask


@pytest.fixture
def store(redis: Redis) -> CallStore:
    return CallStore(redis, Keys())


@pytest.fixture(autouse=True)
def _no_late_entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no API of a test write into the audit of the next one, nor when the tests are over."""
    monkeypatch.setattr(atexit, "register", lambda *_, **__: None)
    yield
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()
