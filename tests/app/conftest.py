"""The API against a real Redis, and the demo's tokens."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.settings import Settings
from app.store.calls import CallStore
from app.store.keys import Keys

USER = "demo-user-token"
ORGANIZATION = "demo-organization-token"
ADMINISTRATOR = "demo-administrator-token"
VOIPNOW = "demo-voipnow-token"

Ask = Callable[..., Any]


@pytest.fixture
def client(settings: Settings, redis: Redis) -> FlaskClient:
    return create_app(replace(settings, action_timeout=0.05)).test_client()


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
