"""Call events of whole calls: from the request for them to the receiver."""

import http.client
import json
from typing import Any

import pytest

from tests.integration.conftest import LIMIT, REAL, Ringback
from tests.receiver import receiving


def ask(ringback: Ringback, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection(*ringback.stack.settings.http_address, timeout=LIMIT)
    try:
        connection.request(
            method,
            f"/uapi/extensions/@me/{path}",
            json.dumps(body),
            {"Authorization": "Bearer demo-user-token"},
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.skipif(REAL is not None, reason="needs extensions that answer as the simulator's")
def test_a_call_between_extensions_tells_both(ringback: Ringback) -> None:
    with receiving() as receiver:
        for extension in ("210", "211"):
            for kind in range(5):
                body = {"url": f"{receiver.url}/{extension}/{kind}", "method": "1"}
                ask(ringback, "POST", f"{extension}/phoneCallEvents/{kind}/", body)
        try:
            call_id = ringback.place("210", "211")
            told = [receiver.next() for _ in range(4)]
            ringback.request("DELETE", f"@me/210/{call_id}")
            told += [receiver.next() for _ in range(2)]
        finally:
            for extension in ("210", "211"):
                ask(ringback, "DELETE", f"{extension}/phoneCallEvents")
    paths = [request["path"] for request in told]
    assert paths[:2] == ["/210/1", "/211/0"]
    assert set(paths[2:4]) == {"/210/4", "/211/3"}
    assert set(paths[4:]) == {"/210/2", "/211/2"}
    statuses = [request["parameters"]["CallStatus"] for request in told]
    assert statuses == ["CALLING", "CALLING", *["ANSWER"] * 4]
    assert {request["parameters"]["CallAPIID"] for request in told} == {call_id}
