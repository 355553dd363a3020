"""The token endpoint, and requests with the tokens that it gives out."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from app import create_app
from app.accounts.model import token_sha256
from app.accounts.store import AccountStore, read_accounts
from app.oauth.services import Tokens
from app.settings import Settings, SettingsError
from app.store.keys import Keys
from tests.app.test_phone_calls import LIST, OTHER
from tests.conftest import eventually

FORM = {
    "grant_type": "client_credentials",
    "client_id": "demo-user",
    "client_secret": "demo-user-secret",
}
# With a refresh token.
REFRESHABLE = {"scope": "offline_access"}

Token = Callable[..., Any]


@pytest.fixture
def token(client: FlaskClient) -> Token:
    def _token(path: str = "/oauth/token.php", **form: Any) -> Any:
        return client.post(path, data={**FORM, **form})

    return _token


def status_with(client: FlaskClient, access: str) -> int:
    headers = {"Authorization": f"Bearer {access}"}
    return client.get(LIST, headers=headers).status_code


def is_refused(answer: Any, status: int, error: str) -> None:
    assert (answer.status_code, answer.json["error"]) == (status, error)
    assert set(answer.json) == {"error", "error_description", "error_uri"}
    assert answer.json["error_uri"] == f"http://localhost/errors#{error}"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/oauth/token.php", "/oauth/token", "/oauth/token.php/", "/oauth/token/"]
)
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_token_is_given_out_and_works(client: FlaskClient, path: str, kind: str) -> None:
    extra = {"type": "unifiedapi", "state": "0", "redirect_uri": "https://host/ouath/token.php"}
    answer = client.post(path, data={**FORM, **extra}, content_type=kind)
    assert answer.status_code == 200
    assert set(answer.json) == {"access_token", "token_type", "expires_in"}
    assert re.fullmatch(r"[A-Za-z0-9_.-]{10,}", answer.json["access_token"])
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 3600)
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    assert "Content-Type" in dict(answer.headers)
    assert status_with(client, answer.json["access_token"]) == 200


def test_another_process_knows_it(settings: Settings, token: Token) -> None:
    assert status_with(create_app(settings).test_client(), token().json["access_token"]) == 200


@pytest.mark.parametrize("pair", ["demo-user:demo-user-secret", "demo%2Duser:demo%2Duser%2Dsecret"])
def test_http_basic(client: FlaskClient, pair: str) -> None:
    headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    form = {"grant_type": "client_credentials"}
    assert client.post("/oauth/token", data=form, headers=headers).status_code == 200
    answer = client.post("/oauth/token", data=form, headers={"Authorization": "Basic !"})
    is_refused(answer, 401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_secret": "demo-user-Secret"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_secret": "demo-user-token"}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"client_id": ""}, 401, "invalid_client"),
        ({"client_id": "demo-voipnow"}, 401, "invalid_client"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 43}, 400, "invalid_grant"),
    ],
)
def test_what_is_refused(token: Token, form: dict[str, str], status: int, error: str) -> None:
    is_refused(token(**form), status, error)


def test_another_form_of_body_is_refused(client: FlaskClient) -> None:
    is_refused(client.post("/oauth/token", json=FORM), 400, "invalid_request")
    is_refused(client.post("/oauth/token"), 400, "invalid_request")
    answer = client.get("/oauth/token")
    assert (answer.status_code, answer.json["error"]["code"]) == (405, "method_not_allowed")


def test_redis_holds_no_token_and_forgets_them(redis: Redis, token: Token) -> None:
    given = token(**REFRESHABLE).json
    keys = redis.keys("ringback:oauth:[ar]*")
    assert sorted(keys) == sorted(
        [
            f"ringback:oauth:access:{token_sha256(given['access_token'])}".encode(),
            f"ringback:oauth:refresh:demo-user:{token_sha256(given['refresh_token'])}".encode(),
        ]
    )
    values = b" ".join(redis.mget(keys))
    assert not any(given[name].encode() in values for name in ("access_token", "refresh_token"))
    short, long = sorted(map(redis.ttl, keys))
    assert 0 < short <= 3600 < long <= 24 * 3600


def test_a_token_that_is_over_is_refused(client: FlaskClient, redis: Redis, token: Token) -> None:
    access = token().json["access_token"]
    assert status_with(client, access) == 200
    redis.delete(f"ringback:oauth:access:{token_sha256(access)}")
    # It is looked up again after a second.
    eventually(lambda: status_with(client, access) == 401)


def test_a_refresh_token_is_used_once(client: FlaskClient, token: Token) -> None:
    first = token(**REFRESHABLE).json
    refreshed = token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert refreshed.status_code == 200
    second = refreshed.json
    assert not set(first.values()) & {second["access_token"], second["refresh_token"]}
    assert status_with(client, first["access_token"]) == 200
    assert status_with(client, second["access_token"]) == 200
    again = token(grant_type="refresh_token", refresh_token=first["refresh_token"])
    is_refused(again, 400, "invalid_grant")
    # A refresh token is no access token, and the other way round.
    assert status_with(client, second["refresh_token"]) == 401
    swapped = token(grant_type="refresh_token", refresh_token=second["access_token"])
    is_refused(swapped, 400, "invalid_grant")


def test_a_refresh_token_of_another_client_is_refused_and_stays(token: Token) -> None:
    refresh = token(**REFRESHABLE).json["refresh_token"]
    other = {"client_id": "demo-voipnow", "client_secret": "demo-voipnow-secret"}
    is_refused(
        token(grant_type="refresh_token", refresh_token=refresh, **other), 400, "invalid_grant"
    )
    assert token(grant_type="refresh_token", refresh_token=refresh).status_code == 200


@pytest.mark.parametrize(
    "change", [("demo-user-secret", "another-secret-x"), ('id = "demo-user"', 'id = "else"')]
)
def test_tokens_end_with_the_secret_or_the_app(
    settings: Settings, redis: Redis, accounts_file: Path, change: tuple[str, str]
) -> None:
    text = re.sub(r"demo-(\w+)-secret", r"another-of-\1-secret", OTHER)
    accounts_file.write_text(text)
    client = create_app(replace(settings, accounts=accounts_file)).test_client()
    form = {**FORM, "client_secret": "another-of-user-secret"}
    access = client.post("/oauth/token", data=form).json["access_token"]
    assert status_with(client, access) == 200
    accounts_file.write_text(
        text.replace(change[0].replace("demo-user-s", "another-of-user-s"), change[1])
    )
    AccountStore(redis, Keys()).replace(read_accounts(accounts_file))
    eventually(lambda: status_with(client, access) == 401)


def test_wrong_secrets_are_limited(redis: Redis, token: Token) -> None:
    for _ in range(10):
        is_refused(token(client_secret="guess"), 401, "invalid_client")
    barred = token()
    is_refused(barred, 429, "slow_down")
    assert barred.headers["Retry-After"] == "60"
    # Nobody else is.
    other = token(client_id="demo-voipnow", client_secret="demo-voipnow-secret")
    assert other.status_code == 200
    (key,) = redis.keys("ringback:oauth:failures:*")
    assert 0 < redis.ttl(key) <= 60
    redis.delete(key)
    assert token().status_code == 200


def test_wrong_secrets_are_counted_by_the_address_that_a_proxy_names(
    redis: Redis, settings: Settings
) -> None:
    client = create_app(replace(settings, proxies="127.0.0.1,::1,10.9.9.0/28")).test_client()

    def asked(secret: str, names: str, proxy: str) -> int:
        return client.post(
            "/oauth/token",
            data={**FORM, "client_secret": secret},
            headers={"X-Forwarded-For": names},
            environ_base={"REMOTE_ADDR": proxy},
        ).status_code

    def guess(proxy: str) -> None:
        # What stands before the proxy's own word is the client's.
        for number in range(10):
            assert asked("guess", f"10.8.8.{number}, 198.51.100.7, 10.9.9.1", proxy) == 401

    right = FORM["client_secret"]
    guess("127.0.0.1")
    assert asked(right, "198.51.100.7", "127.0.0.1") == 429
    for other in ("198.51.100.8", "", "unknown"):
        assert asked(right, other, "::1") == 200
    # No proxy of ours.
    guess("192.0.2.1")
    assert asked(right, "198.51.100.8", "192.0.2.1") == 429


BASIC = "Basic " + base64.b64encode(b"demo-user:demo-user-secret").decode()


@pytest.mark.parametrize(
    ("data", "header", "query"),
    [
        (FORM, BASIC, ""),
        ({**FORM, "client_secret": "guess"}, BASIC, ""),
        ({**FORM, "client_id": ["demo-user", "demo-user"]}, None, ""),
        ({**FORM, "client_secret": ["demo-user-secret", "guess"]}, None, ""),
        ({**FORM, "grant_type": ["client_credentials"] * 2}, None, ""),
        ({**FORM, "state": ["0", "0"]}, None, ""),
        ({**FORM, "state": ["0", ""]}, None, ""),
        (FORM, None, "client_secret=demo-user-secret"),
        (FORM, None, "grant_type=refresh_token"),
        ({"grant_type": "client_credentials"}, f"{BASIC},{BASIC}", ""),
        ({"grant_type": "client_credentials"}, f"{BASIC}, Bearer x", ""),
        ({"grant_type": "client_credentials", "client_id": "demo-voipnow"}, BASIC, ""),
    ],
)
@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke"])
def test_a_client_authenticates_once_and_gives_each_parameter_once(
    client: FlaskClient, redis: Redis, data: Any, header: str | None, query: str, path: str
) -> None:
    answer = client.post(
        path,
        data={**data, "token": "x"},
        headers={"Authorization": header} if header else {},
        query_string=query,
    )
    is_refused(answer, 400, "invalid_request")
    assert not redis.keys("ringback:oauth:*")


@pytest.mark.parametrize("data", [{}, {"client_id": "demo-user"}, {"client_secret": ""}])
def test_a_client_may_say_twice_who_it_is(client: FlaskClient, data: Any) -> None:
    form = {"grant_type": "client_credentials", **data}
    assert client.post("/oauth/token", data=form, headers={"Authorization": BASIC}).json[
        "access_token"
    ]


def test_a_refresh_whose_answer_was_lost_is_sent_again(redis: Redis, token: Token) -> None:
    app = read_accounts(None).apps["demo-user"]
    tokens = Tokens(redis, Keys(), 3600)
    first = tokens.issue(app, refreshable=True).refresh
    assert first is not None
    rotate = tokens._rotate

    def twice(**options: Any) -> Any:
        rotate(**options)
        return rotate(**options)

    tokens._rotate = twice  # type: ignore[assignment]
    second = tokens.refresh(app, first)
    assert second is not None
    assert tokens.app_of(second.access, read_accounts(None)) == app
    assert tokens.refresh(app, second.refresh or "") is not None


def test_a_static_token_costs_redis_nothing_more(client: FlaskClient, redis: Redis) -> None:
    assert status_with(client, "demo-user-token") == 200
    for access in ("demo-user-token", "nonsense", "x" * 44):
        redis.config_resetstat()
        status_with(client, access)
        assert "cmdstat_get" not in redis.info("commandstats")


def test_an_issued_token_is_looked_up_once_a_second(
    client: FlaskClient, redis: Redis, token: Token
) -> None:
    access = token().json["access_token"]
    redis.config_resetstat()
    for _ in range(20):
        assert status_with(client, access) == 200
    assert 1 <= redis.info("commandstats")["cmdstat_get"]["calls"] < 20


ONLY_SECRET = """
[[organizations]]
id = "3"
number = "0003"
name = "One"

[[apps]]
id = "crm"
level = "organization"
organization = "0003"
client_id = "a~client.id"
client_secret = "0123456789abcdef"
"""


def test_an_app_without_a_token_of_its_own(
    settings: Settings, redis: Redis, accounts_file: Path
) -> None:
    accounts_file.write_text(ONLY_SECRET)
    client = create_app(replace(settings, accounts=accounts_file)).test_client()
    form = {**FORM, "client_id": "a~client.id", "client_secret": "0123456789abcdef"}
    access = client.post("/oauth/token", data=form).json["access_token"]
    # An organization's app has no @me; that it is told so says that it was let in.
    assert status_with(client, access) == 400
    document = redis.hget("ringback:accounts:rows", "apps crm")
    assert b"client_secret_sha256" in document and b"0123456789abcdef" not in document


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('client_secret = "0123456789abcdef"', ""), r"apps\[1\]\.token: Give"),
        (("0123456789abcdef", "short"), r"apps\[1\]\.client_secret"),
        (("0123456789abcdef", "demo-user-secret"), r"apps\[1\]\.client_secret: .*demo"),
        (("a~client.id", "a:b"), r"apps\[1\]\.client_id"),
        (
            ("client_id", f'client_secret_sha256 = "{"0" * 64}"\nclient_id'),
            r"\.client_secret: Give",
        ),
        (
            ("[[apps]]", '[[apps]]\nid = "a~client.id"\nlevel = "administrator"\n[[apps]]'),
            r"apps\[1\]\.id",
        ),
    ],
)
def test_a_bad_secret_is_named(accounts_file: Path, change: tuple[str, str], named: str) -> None:
    accounts_file.write_text(ONLY_SECRET.replace(*change, 1))
    with pytest.raises(SettingsError, match=named):
        read_accounts(accounts_file)


def test_a_client_id_is_one_apps(accounts_file: Path) -> None:
    second = ONLY_SECRET[ONLY_SECRET.index("[[apps]]") :].replace('"crm"', '"shop"')
    accounts_file.write_text(ONLY_SECRET + second)
    with pytest.raises(SettingsError, match=r"apps\[2\]\.client_id: Is taken"):
        read_accounts(accounts_file)
