"""RINGBACK_REDIS_URL: where Redis is, how to log in, and which options may stand there."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from app.settings import SettingsError

_PORT, _SENTINEL_PORT = 6379, 26_379
_FORMS = (
    "redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"
    " (host:port,host:port/service/db)"
)
_HOST_PORT = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[^\]\s]+)?)\]|(?P<host>[^\[\]:,@\s]+))?(?::(?P<port>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed URL. `options` and `sentinel_options` are arguments of redis-py, and `tls` has those
    that begin with `ssl_`; it is None for plain text.

    With `service` the hosts are Sentinels. `path` is that of a unix socket; then there are no
    hosts.
    """

    hosts: list[tuple[str, int]]
    service: str | None
    path: str | None
    tls: dict[str, str | bool] | None = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    sentinel_options: dict[str, Any] = field(repr=False)


def parse(url: str) -> RedisUrl:
    """Read `scheme://[user]:[password]@host:port/db?options`.

    Raises SettingsError for another form, and for an option that Ringback cannot have. Its text
    quotes the names of options alone, since any other part may be a piece of the password.
    """
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in _SCHEMES:
        raise SettingsError(f"RINGBACK_REDIS_URL cannot be used: it must begin with {_FORMS}.")
    # The last @: a password may hold one, and a / or ? too.
    credentials, _, place = rest.rpartition("@")
    place, _, query = place.partition("?")
    hosts, _, path = place.partition("/")
    with_sentinel = scheme.endswith("+sentinel")
    options, tls, sentinel_options = _options(query, scheme.startswith("rediss"), with_sentinel)
    user, _, password = credentials.partition(":")
    for name, value in (("username", user), ("password", password)):
        if value:
            options[name] = unquote(value)
    if scheme == "unix":
        # As redis-py reads it: the database is an option.
        if hosts or not path:
            raise SettingsError("RINGBACK_REDIS_URL must be unix:///path/of/the/socket?db=0.")
        path = _parsed("the path", unquote(f"/{path}"), _path)
        return RedisUrl([], None, path, None, options, {})
    service = None
    if with_sentinel:
        service, _, path = path.partition("/")
        if not service:
            raise SettingsError(
                f"RINGBACK_REDIS_URL must be {scheme}://host:port,host:port/service/db."
            )
    database = path.rstrip("/")
    if database:
        options["db"] = _parsed("the database", database, _whole)
    port = _SENTINEL_PORT if with_sentinel else _PORT
    found = [_host_port(each, port) for each in hosts.split(",")]
    if not with_sentinel and len(found) > 1:
        raise SettingsError("RINGBACK_REDIS_URL has several hosts: only Sentinels may be several.")
    return RedisUrl(found, service and unquote(service), None, tls, options, sentinel_options)


def _host_port(text: str, port: int) -> tuple[str, int]:
    found = _HOST_PORT.fullmatch(text)
    number = int(found["port"] or port) if found and len(found["port"] or "") < 6 else 0
    host = found and (found["ipv6"] or found["host"] or "localhost")
    if not host or not _is_host(host) or not 0 < number < 65_536:
        raise SettingsError(
            "RINGBACK_REDIS_URL has a bad host or port: write host:port, an IPv6 address in"
            " brackets, and '@' and '%' of a password or an option as %40 and %25."
        )
    return host, number


def _is_host(text: str) -> bool:
    """Whether DNS can have this name, which a socket refuses otherwise. An address is one too."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def _options(
    query: str, with_tls: bool, with_sentinel: bool
) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
    """The options for connections to Redis, for TLS, and for connections to Sentinels."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise SettingsError(
            "RINGBACK_REDIS_URL must have name=value after the '?', with '&' between several."
        ) from None
    known = {
        **_OPTIONS,
        **(_TLS_OPTIONS if with_tls else {}),
        **(_SENTINEL_OPTIONS if with_sentinel else {}),
    }
    options: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            raise SettingsError(_refusal(name, known))
        options[name] = _parsed(f"?{name}", value, known[name])
    if "protocol" in options:
        options["protocol"] = int(options["protocol"])
    # Ringback says so itself.
    options.pop("decode_responses", None)
    tls = {name: options.pop(name) for name in _TLS_OPTIONS if name in options}
    sentinel_options = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in _SENTINEL_OPTIONS
        if name in options
    }
    return options, tls if with_tls else None, sentinel_options


def _refusal(name: str, known: Iterable[str]) -> str:
    text = f"RINGBACK_REDIS_URL has an option that cannot be set there: {name[:40]!r}."
    if name in _TLS_OPTIONS:
        return f"{text} It goes with rediss:// or rediss+sentinel://."
    if name in _SENTINEL_OPTIONS:
        return f"{text} It goes with redis+sentinel:// or rediss+sentinel://."
    return f"{text} There may be {', '.join(known)}."


def _parsed(what: str, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"RINGBACK_REDIS_URL: {what} must be {error}.") from None


def _text(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _name(text: str) -> str:
    if re.fullmatch(r"[!-~]{1,64}", text) is None:
        raise ValueError("1 to 64 letters, digits and signs without blanks")
    return text


def _path(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("an absolute path")
    return text


def _whole(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,6}", text) is None:
        raise ValueError("a whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.1 <= number <= 5:
        raise ValueError("a number of seconds from 0.1 to 5")
    return number


def _yes_or_no(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError("true or false")
    return _WORDS[text.lower()]


def _only(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"{' or '.join(words)}, or be left out")
        return text.lower()

    return parse


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SCHEMES = frozenset({"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"})
# Ringback reads replies as bytes and in the shapes of RESP2, which redis-py makes of RESP3 unless
# it is asked for that. It sets the time limits of commands by what each part of it may wait.
_OPTIONS: dict[str, Callable[[str], Any]] = {
    "db": _whole,
    "client_name": _name,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _yes_or_no,
    "health_check_interval": _whole,
    "protocol": _only("2"),
    "decode_responses": _only("false", "no", "0"),
}
_TLS_OPTIONS: dict[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _path,
    "ssl_ca_path": _path,
    "ssl_certfile": _path,
    "ssl_keyfile": _path,
    "ssl_password": _text,
    "ssl_cert_reqs": _only("required", "optional", "none"),
    "ssl_check_hostname": _yes_or_no,
}
FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
"""The options that name files."""
_SENTINEL_OPTIONS: dict[str, Callable[[str], Any]] = {
    "sentinel_username": _text,
    "sentinel_password": _text,
}
