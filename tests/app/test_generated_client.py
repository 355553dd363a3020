"""A client that a generator makes of the description: it has all operations, and places a call."""

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType
from redis import Redis
from werkzeug.serving import make_server

from app.openapi.description import describe
from app.store.calls import CallStore
from tests.app.conftest import USER


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the generated package is in."""
    folder = tmp_path_factory.mktemp("generated")
    source = folder / "openapi.json"
    source.write_text(json.dumps(describe()))
    config = Config.from_sources(
        # Formatting the code needs ruff in the PATH. The generator knows one type of files.
        ConfigFile(post_hooks=[], content_type_overrides={"audio/wav": "application/octet-stream"}),
        MetaType.NONE,
        document_source=source,
        file_encoding="utf-8",
        overwrite=False,
        output_path=folder / "ringback_client",
    )
    # A warning is a part of the description that the generator leaves out.
    assert generate(config=config) == []
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.startswith("ringback_client")]:
        del sys.modules[name]


@pytest.fixture
def address(client: FlaskClient) -> Iterator[str]:
    """The address of the API, which this process serves."""
    server = make_server("127.0.0.1", 0, client.application, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def module(name: str) -> Any:
    return importlib.import_module(f"ringback_client{name}")


def test_it_compiles_and_has_every_operation(package: Path) -> None:
    api = module(".api")
    found = {
        importlib.import_module(each.name).__name__.rpartition(".")[2]
        for each in pkgutil.walk_packages(api.__path__, f"{api.__name__}.")
        if not each.ispkg
    }
    document = describe()
    operations = [o for item in document["paths"].values() for o in item.values()]
    words = {name.replace("_", "") for name in found}
    assert words == {operation["operationId"].lower() for operation in operations}


def test_it_places_a_call(package: Path, address: str, redis: Redis, store: CallStore) -> None:
    models, calls = module(".models"), "ringback_client.api.phone_calls"
    place, get, hang_up = (
        importlib.import_module(f"{calls}.{name}")
        for name in ("place_call", "get_call", "hang_up_call")
    )
    client = module("").AuthenticatedClient(address, token=USER)
    view = models.PhoneCallsView(source=["5302040"], destination=["3235742879"])
    body = models.PhoneCallsCreate([view], extension="210", nonce="order-4711")
    answer = place.sync_detailed("@me", client=client, body=body, wait_for_pickup=20)
    assert answer.status_code == 202
    (placed,) = answer.parsed
    assert answer.headers["Location"] == placed.link.self_
    call = store.get(placed.id)
    assert call is not None and (call.nonce, call.wait_for_pickup) == ("order-4711", 20)
    where = "@me", "@self", placed.id
    (entry,) = get.sync(*where, client=client).entry
    assert (entry.id, entry.state, entry.phone_call_view[0].source) == (
        *(placed.id, "queued", ["5302040"]),
    )
    (ended,) = hang_up.sync(*where, client=client)
    assert ended.state == "ended"
    refused = place.sync("@me", client=client, body=models.PhoneCallsCreate([view], extension="9"))
    assert isinstance(refused, models.Error) and refused.error.code == "extension_invalid"
    assert refused.error.request_id
