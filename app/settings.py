"""Every RINGBACK_* variable, with its default and unit."""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_T = TypeVar("_T")


class SettingsError(Exception):
    """A bad setting; the text is a sentence for an operator."""


@dataclass(frozen=True)
class Settings:
    """The settings of one process. docs/settings.md lists each with default and unit."""

    # Where to find what: None means that `ringback up` starts one of its own.
    redis_url: str | None
    switches: str | None
    accounts: Path | None
    # Without accounts: KNOWN for the demo's, whose tokens everybody knows, or the file of those
    # that `ringback up` has made. None: there are none.
    demo: str | None
    http: str
    # The origins whose pages may use the API from a browser.
    cors_origins: str | None
    # The URL by which clients reach the API, and the networks of the proxies before it.
    public_url: str | None
    proxies: str | None
    # Seconds for the body of a request, and for an answer that is no stream; and how many
    # connections one address may have at a time, 0 for no limit.
    body_timeout: float
    send_timeout: float
    connections_per_address: int
    simulator: str | None
    simulator_speed: float
    simulator_seed: int
    key_prefix: str
    # How many replicas of Redis must have a call, or the claim on it, before it counts.
    wait_replicas: int
    # The share of Redis' maxmemory, or the bytes, that no new call may take.
    redis_reserve: str
    # Seconds.
    action_timeout: float
    queue_timeout: int
    # For which a call waits for its switch while that takes no calls.
    home_wait: int
    call_duration: int
    # The operator's maxima: seconds, seconds, and numbers of calls of a request, of parties of a
    # call and of a request, and of third parties that a call has at a time.
    max_call_duration: int
    max_wait_for_pickup: int
    max_views: int
    max_parties: int
    max_request_parties: int
    max_third_parties: int
    # Seconds without RTP after which a leg is dead; 0 for never. A gateway may have its own.
    media_timeout: int
    retention: int
    cdr_retention: int
    audit_retention: int
    reconcile_interval: float
    # Seconds for which a switch that begins anew may recover its calls.
    recover_wait: float
    token_lifetime: int
    stop_timeout: float
    # Call events: seconds for an answer and before the first try again; how many of these; the
    # networks that they may be sent to though they are no public ones.
    webhook_timeout: float
    webhook_retry_delay: float
    webhook_retries: int
    webhook_allow: str | None
    # Rate limits: the requests and calls of an app each second, and at once; the refused tokens of
    # an address each minute. 0 for no limit.
    app_requests: int
    app_requests_burst: int
    app_calls: int
    app_calls_burst: int
    refused_tokens: int
    # Names and words.
    recordings: str
    # The folder of this host that has the recordings, and seconds for which they are kept there; 0
    # for good.
    recordings_root: str | None
    recordings_retention: int
    # The database of records; None: all records are in Redis. Seconds for which Redis keeps those
    # that the database has.
    records_url: str | None
    records_in_redis: int
    # The key of the digests that the audit has in place of erased numbers.
    privacy_key: str | None
    video_codecs: str
    # What `ringback = "music"` plays.
    music: str
    log_level: str
    # Where a process other than the API serves its metrics, and how many organizations they tell
    # apart.
    metrics: str | None
    metrics_organizations: int
    log_format: str
    log_numbers: str
    # Where spans go; None keeps all of OpenTelemetry out.
    traces: str | None

    def require_redis(self) -> str:
        """The Redis URL. Raises SettingsError where none is set."""
        if not self.redis_url:
            raise SettingsError(
                "RINGBACK_REDIS_URL is not set: give the URL of a Redis server "
                "(redis://127.0.0.1:6379/0), or run `ringback up`, which starts one."
            )
        return self.redis_url

    def require_switches(self) -> str:
        """The switches. Raises SettingsError where none is set."""
        if not self.switches:
            raise SettingsError(
                "RINGBACK_SWITCHES is not set: give name=esl://:password@host:port of each "
                "FreeSWITCH, or run `ringback up`, which starts a simulator."
            )
        return self.switches

    @property
    def http_address(self) -> tuple[str, int]:
        return split_address(self.http, "RINGBACK_HTTP")

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        return split_address(self.metrics, "RINGBACK_METRICS") if self.metrics else None

    @property
    def simulator_address(self) -> tuple[str, int]:
        return split_address(self.simulator or "127.0.0.1:8021", "RINGBACK_SIMULATOR")


def parse_networks(text: str) -> "tuple[IPv4Network | IPv6Network, ...]":
    """Networks in CIDR form with commas between. Raises ValueError that names the bad one."""
    # Imported here: the command line reads the settings, and needs no networks.
    from ipaddress import ip_network

    return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())


SECRETS = frozenset(
    f"RINGBACK_{name}" for name in ("REDIS_URL", "SWITCHES", "PRIVACY_KEY", "RECORDS_URL")
)
"""The variables that hold passwords. Each may be in a file that a variable of its name with
``_FILE`` names."""

# The value of RINGBACK_DEMO for the accounts with known tokens.
KNOWN = "known"
# Stands for any origin.
ANY_ORIGIN = "*"
_ORIGIN = re.compile(r"https?://([a-z0-9._-]{1,253}|\[[0-9a-f:]{2,39}\])(:[0-9]{1,5})?")


def parse_origins(text: str) -> frozenset[str]:
    """Web origins (RFC 6454) with commas between. Raises ValueError that names the bad one."""
    origins = frozenset(word.strip() for word in text.split(",") if word.strip())
    for origin in origins - {ANY_ORIGIN}:
        if _ORIGIN.fullmatch(origin) is None:
            raise ValueError(f"{origin!r} is no origin")
    return origins


def split_address(text: str, variable: str) -> tuple[str, int]:
    """``host:port`` as a pair; port 0 asks for any free one. Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (_is_plain(port) and port.isdecimal()) or int(port) > 65_535:
        raise SettingsError(f"{variable} must be host:port, not {text!r}.")
    return host.strip("[]"), int(port)


def load_settings() -> Settings:
    """Read the environment, and the files that it names. Raises SettingsError that names the
    variable and what it takes."""
    settings = Settings(
        redis_url=_read("REDIS_URL", None, str),
        switches=_read("SWITCHES", None, str),
        accounts=_read("ACCOUNTS", None, Path),
        demo=_read("DEMO", None, _demo),
        http=_read("HTTP", "127.0.0.1:8080", str),
        cors_origins=_read("CORS_ORIGINS", None, _origins),
        public_url=_read("PUBLIC_URL", None, _public_url),
        proxies=_read("PROXIES", None, _networks),
        body_timeout=_read("BODY_TIMEOUT", 10.0, _number(0.1, 3_600)),
        send_timeout=_read("SEND_TIMEOUT", 30.0, _number(0.1, 3_600)),
        connections_per_address=_read("CONNECTIONS_PER_ADDRESS", 200, _whole(0, 100_000)),
        simulator=_read("SIMULATOR", None, str),
        simulator_speed=_read("SIMULATOR_SPEED", 1.0, _speed),
        simulator_seed=_read("SIMULATOR_SEED", 0, _whole()),
        key_prefix=_read("KEY_PREFIX", "ringback:", _key_prefix),
        wait_replicas=_read("WAIT_REPLICAS", 0, _whole(0, 16)),
        redis_reserve=_read("REDIS_RESERVE", "10%", _reserve),
        action_timeout=_read("ACTION_TIMEOUT", 5.0, _number(0, 60)),
        queue_timeout=_read("QUEUE_TIMEOUT", 60, _whole(1, 86_400)),
        home_wait=_read("HOME_WAIT", 5, _whole(0, 86_400)),
        call_duration=_read("CALL_DURATION", 7_200, _whole(1, 86_400)),
        max_call_duration=_read("MAX_CALL_DURATION", 86_400, _whole(1, 86_400)),
        max_wait_for_pickup=_read("MAX_WAIT_FOR_PICKUP", 600, _whole(1, 600)),
        max_views=_read("MAX_VIEWS", 20, _whole(1, 20)),
        max_parties=_read("MAX_PARTIES", 64, _whole(2, 64)),
        max_request_parties=_read("MAX_REQUEST_PARTIES", 128, _whole(2, 1_280)),
        max_third_parties=_read("MAX_THIRD_PARTIES", 16, _whole(0, 99)),
        media_timeout=_read("MEDIA_TIMEOUT", 0, _whole(0, 3_600)),
        retention=_read("RETENTION", 86_400, _whole(1)),
        # Not less than the longest call with its waiting may last.
        cdr_retention=_read("CDR_RETENTION", 7_776_000, _whole(259_200)),
        audit_retention=_read("AUDIT_RETENTION", 7_776_000, _whole(60)),
        reconcile_interval=_read("RECONCILE_INTERVAL", 30.0, _number(0.1, 3_600)),
        recover_wait=_read("RECOVER_WAIT", 5.0, _number(0, 3_600)),
        token_lifetime=_read("TOKEN_LIFETIME", 3_600, _whole(60, 86_400)),
        stop_timeout=_read("STOP_TIMEOUT", 10.0, _number(0, 3_600)),
        webhook_timeout=_read("WEBHOOK_TIMEOUT", 10.0, _number(0.1, 60)),
        webhook_retry_delay=_read("WEBHOOK_RETRY_DELAY", 5.0, _number(0.01, 3_600)),
        webhook_retries=_read("WEBHOOK_RETRIES", 12, _whole(0, 30)),
        webhook_allow=_read("WEBHOOK_ALLOW", None, _networks),
        app_requests=_read("APP_REQUESTS", 500, _whole(0, 1_000_000)),
        app_requests_burst=_read("APP_REQUESTS_BURST", 5_000, _whole(1, 1_000_000)),
        app_calls=_read("APP_CALLS", 100, _whole(0, 1_000_000)),
        app_calls_burst=_read("APP_CALLS_BURST", 1_000, _whole(1, 1_000_000)),
        refused_tokens=_read("REFUSED_TOKENS", 60, _whole(0, 1_000_000)),
        recordings=_read(
            "RECORDINGS",
            "/var/lib/freeswitch/recordings/{organization}/{date}/{call}-{view}-{time}.{format}",
            _recordings,
        ),
        recordings_root=_read("RECORDINGS_ROOT", None, _folder),
        recordings_retention=_read("RECORDINGS_RETENTION", 7_776_000, _whole(0)),
        # app/records/opening.py reads it: an error must not show its password.
        records_url=_read("RECORDS_URL", None, str),
        records_in_redis=_read("RECORDS_IN_REDIS", 90_000, _whole(60)),
        privacy_key=_read("PRIVACY_KEY", None, str),
        video_codecs=_read("VIDEO_CODECS", "OPUS,G722,PCMU,PCMA,H264,VP8", _codecs),
        music=_read("MUSIC", "local_stream://moh", _playable),
        log_level=_read("LOG_LEVEL", "INFO", _one_of("DEBUG", "INFO", "WARNING", "ERROR")),
        metrics=_read("METRICS", None, str),
        metrics_organizations=_read("METRICS_ORGANIZATIONS", 100, _whole(0, 10_000)),
        log_format=_read("LOG_FORMAT", "console", _one_of("console", "json")),
        log_numbers=_read("LOG_NUMBERS", "masked", _one_of("masked", "full")),
        traces=_read("TRACES", None, _one_of("otlp")),
    )
    # Read once here, so that a bad address stops the start of whatever is started.
    _ = settings.http_address, settings.simulator_address, settings.metrics_address
    return settings


def _read(name: str, default: _T, parse: Callable[[str], _T]) -> _T:
    """The setting by the text of its variable. ``parse`` raises ValueError that says what the
    variable must be."""
    text = _text(f"RINGBACK_{name}")
    if text is None:
        return default
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"RINGBACK_{name} must be {error}, not {text!r}.") from error


def _text(variable: str) -> str | None:
    """The text of a variable, or of the file that ``…_FILE`` names; None where neither is set."""
    text, path = os.environ.get(variable), None
    if variable in SECRETS:
        path = os.environ.get(f"{variable}_FILE")
    if path is None:
        return text
    if text is not None:
        raise SettingsError(f"{variable} and {variable}_FILE are both set: set one of them.")
    try:
        # A secret ends where the line does: editors and `echo` add its end.
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise SettingsError(
            f"{variable}_FILE names {path!r}, which cannot be read: {why}."
        ) from None
    if not text:
        raise SettingsError(f"{variable}_FILE names {path!r}, which is empty.")
    return text


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number = _float(text)
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return number

    return parse


def _speed(text: str) -> float:
    number = _float(text)
    if not 0 < number <= 1000:
        raise ValueError("a number above 0 and up to 1000")
    return number


def _float(text: str) -> float:
    """The number; nan, which no range holds, where the text is none."""
    try:
        return float(text) if _is_plain(text) else math.nan
    except ValueError:
        return math.nan


def _is_plain(text: str) -> bool:
    """Whether a number is written as anybody writes it. Python also takes ``1_0`` and digits of
    other scripts."""
    return text.isascii() and "_" not in text


def _whole(low: float = -math.inf, high: float = math.inf) -> Callable[[str], int]:
    range_ = f" from {low} to {high}" if math.isfinite(high) else f" of at least {low}"

    def parse(text: str) -> int:
        try:
            number = int(text) if _is_plain(text) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise ValueError("a whole number" + (range_ if math.isfinite(low) else ""))
        return number

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            *others, last = words
            raise ValueError(f"{', '.join(others)} or {last}" if others else last)
        return text

    return parse


_RESERVE = re.compile(r"([0-9]{1,15})(%|kb|mb|gb|)", re.ASCII)
_BYTES = {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def reserved(text: str, most: int) -> int:
    """The bytes of a reserve: ``10%`` of ``most`` bytes, ``64mb`` or ``1000000``. Raises
    ValueError."""
    found = _RESERVE.fullmatch(text)
    if found is None or (found[2] == "%" and int(found[1]) > 50):
        raise ValueError("a share of maxmemory up to 50%, or bytes such as 64mb")
    number, unit = int(found[1]), found[2]
    return most * number // 100 if unit == "%" else number * _BYTES[unit]


def _reserve(text: str) -> str:
    reserved(text, 0)
    return text


def _folder(text: str) -> str:
    if not os.path.isabs(text) or os.path.normpath(text) == "/":
        raise ValueError("the absolute path of a folder")
    return text


def _key_prefix(text: str) -> str:
    if not 1 <= len(text) <= 64:
        raise ValueError("1 to 64 characters")
    return text


def _codecs(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9.@_-]+(,[A-Za-z0-9.@_-]+)*", text) is None:
        raise ValueError("names of codecs with commas between")
    return text


def _playable(text: str) -> str:
    if re.fullmatch(r"([a-z_]+:/)?/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", text, re.ASCII) is None:
        raise ValueError("a file or a stream of the switch, such as local_stream://moh")
    return text


def _networks(text: str) -> str:
    try:
        parse_networks(text)
    except ValueError as error:
        raise ValueError(f"networks such as 10.1.0.0/16 with commas between ({error})") from error
    return text


def _origins(text: str) -> str:
    try:
        parse_origins(text)
    except ValueError as error:
        raise ValueError(
            f"origins such as https://crm.example.com with commas between, or * ({error})"
        ) from error
    return text


def _demo(text: str) -> str:
    if text != KNOWN and not text.startswith("/"):
        raise ValueError(f"{KNOWN}, or a file that `ringback up` has made")
    return text


def _public_url(text: str) -> str:
    if not text:
        # As compose.yml gives what is not set.
        return text
    try:
        (origin,) = parse_origins(text.rstrip("/")) - {ANY_ORIGIN}
    except ValueError as error:
        raise ValueError("a URL without a path, such as https://calls.example.com") from error
    return origin


def _recordings(text: str) -> str:
    names = dict.fromkeys("organization user call view date time format".split(), "0")
    try:
        path = text.format(**names)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"a path with any of {{{'}, {'.join(names)}}}") from error
    if re.fullmatch(r"(/[A-Za-z0-9_.+-]+)+", path) is None or "/.." in path:
        raise ValueError("an absolute path of letters, digits, . _ + and -")
    if not {"{call}", "{time}"} <= set(re.findall(r"{\w+}", text)):
        raise ValueError("a path with {call} and {time}, so that no recording replaces another")
    return text


def setting_names() -> list[str]:
    """The variables that are read, for the test that holds docs/settings.md to them."""
    return [f"RINGBACK_{field.name.upper()}" for field in fields(Settings)]


def misspelt() -> list[str]:
    """A sentence for each variable RINGBACK_* of the environment that nothing reads."""
    known = {*setting_names(), *(f"{name}_FILE" for name in SECRETS), *_OTHERS}
    unknown = [
        name
        for name, value in sorted(os.environ.items())
        if name.startswith("RINGBACK_")
        and name not in known
        and not _OF_KUBERNETES.fullmatch(f"{name}={value}")
    ]
    if not unknown:
        return []
    from app.names import nearest

    # The beginning that all have in common makes no name more like another.
    begins = "RINGBACK_"
    ends = sorted(name.removeprefix(begins) for name in known)
    found = ((name, nearest(name.removeprefix(begins), ends)) for name in unknown)
    return [
        f"{name} is no setting" + (f": did you mean {begins}{end}?" if end else ".")
        for name, end in found
    ]


# Variables that are no settings of a process: those of client programs, of compose.yml and the
# images, and the descriptor by which `ringback up` hears that a process is ready.
_OTHERS = frozenset(
    f"RINGBACK_{name}"
    for name in (
        *("URL", "TOKEN", "USER", "READY_FD", "IMAGE", "PORT", "ESL_PASSWORD", "NETWORK"),
        *("ESL_PASSWORD_FILE", "SECRETS", "ACCOUNTS_FOLDER", "CONF", "CONF_MADE"),
    )
)
# What Kubernetes adds for a service whose name begins with ``ringback``.
_OF_KUBERNETES = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)=.*|\w+_PORT=\w+://.*|\w+_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=.*"
)
