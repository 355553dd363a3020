"""Answers that gzip has compressed."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from app.web import compressing
from app.web.compressing import compress_answers
from tests.app.conftest import USER
from tests.app.test_phone_calls import BODY, LIST, SIMPLE

TOKEN = {"Authorization": f"Bearer {USER}"}
GZIP = {**TOKEN, "Accept-Encoding": "gzip, deflate, br"}


def test_a_list_is_compressed_if_the_client_takes_that(client: FlaskClient) -> None:
    for _ in range(3):
        assert client.post(SIMPLE, headers=GZIP, json=BODY).content_encoding is None
    path = f"{LIST}?fields=id,phoneCallView,links"
    plain = client.get(path, headers=TOKEN)
    assert plain.content_encoding is None and plain.headers["Vary"] == "Accept-Encoding"
    for refused in ("identity", "gzip;q=0", "br"):
        answer = client.get(path, headers={**TOKEN, "Accept-Encoding": refused})
        assert (answer.content_encoding, answer.data) == (None, plain.data)
    answer = client.get(path, headers=GZIP)
    assert answer.content_encoding == "gzip" and answer.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(answer.data) == plain.data
    assert answer.content_length == len(answer.data) < len(plain.data) / 2
    # The tag is of what was compressed.
    assert answer.headers["ETag"] == plain.headers["ETag"]
    again = client.get(path, headers={**GZIP, "If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs/swagger-ui-bundle.js", "/metrics"])
def test_what_else_is_long(client: FlaskClient, path: str) -> None:
    plain = client.get(path)
    answer = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert plain.content_encoding is None and answer.content_encoding == "gzip"
    begin = gzip.decompress(answer.data)[:50]
    assert plain.data.startswith(begin) and len(answer.data) < len(plain.data) / 2


def test_long_answers_let_others_run_and_others_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Flask("test", static_folder=None)
    compress_answers(app)
    text = json.dumps([{"number": n} for n in range(60_000)]).encode()
    slices: list[int] = []

    @contextmanager
    def piece() -> Iterator[None]:
        slices.append(1)
        yield

    monkeypatch.setattr(compressing, "piece", piece)

    @app.get("/long")
    def _long() -> Response:
        return Response(text, mimetype="application/json")

    @app.get("/image")
    def _image() -> Response:
        return Response(text, mimetype="image/png")

    @app.get("/short")
    def _short() -> Response:
        return Response(text[:1023], mimetype="application/json")

    @app.get("/stream")
    def _stream() -> Response:
        def events() -> Iterator[bytes]:
            yield from (text, text)

        return Response(events(), mimetype="text/event-stream")

    client = app.test_client()
    answer = client.get("/long", headers=GZIP)
    assert gzip.decompress(answer.data) == text
    assert len(slices) == -(-len(text) // (64 * 1024))
    for path in ("/image", "/short", "/stream"):
        assert client.get(path, headers=GZIP).content_encoding is None
