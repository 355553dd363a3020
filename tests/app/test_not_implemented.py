"""What is beside phone calls: 501 for an app, 401 for others, 404 for what no document names."""

import pytest
from flask.testing import FlaskClient

# The neighbours of phone calls (docs/internals/uapi.md#other-methods), and the paths above them.
NEIGHBOURS = [
    "extensions/@me",
    "extensions/@me/0003*210",
    "extensions/@me/0003*210/queue",
    "extensions/@me/0003*210/queue/agents",
    "extensions/@me/0003*210/queue/agents/0003*211",
    "extensions/@me/0003*210/queueAgent/0003*211",
    "faxes/@me/0003*210",
]


@pytest.mark.parametrize("path", NEIGHBOURS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_neighbours_are_not_implemented(client: FlaskClient, path: str, method: str) -> None:
    headers = {"Authorization": "Bearer demo-user-token"}
    for prefix in ("/uapi/", "/unifiedapi/"):
        for slash in ("", "/"):
            answer = client.open(f"{prefix}{path}{slash}", method=method, headers=headers)
            assert answer.status_code == 501
            assert answer.json["error"]["code"] == "request_not_implemented"
    answer = client.open(f"/uapi/{path}", method=method)
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "access_denied")


def test_a_fax_is_not_read(client: FlaskClient) -> None:
    headers = {"Authorization": "Bearer demo-user-token"}
    answer = client.post("/uapi/faxes/@me/210", data=b"x" * 100_000, headers=headers)
    assert answer.status_code == 501


@pytest.mark.parametrize(
    "path", ["/uapi", "/uapi/", "/uapi/x", "/uapi/extensions/@me/210/x", "/oauth", "/faxes/@me"]
)
def test_unknown_paths_are_not_found(client: FlaskClient, path: str) -> None:
    answer = client.get(path, headers={"Authorization": "Bearer demo-user-token"})
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "request_not_found")
