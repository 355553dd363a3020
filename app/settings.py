"""Every RINGBACK_* variable, with its default and unit."""

import re
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import environs
from marshmallow import ValidationError
from marshmallow.validate import Length, OneOf, Range, Regexp


class SettingsError(Exception):
    """A bad setting; the text is a sentence for an operator."""


@dataclass(frozen=True)
class Settings:
    """The settings of one process. docs/settings.md lists each with default and unit."""

    # Where to find what: None means that `ringback up` starts one of its own.
    redis_url: str | None
    switches: str | None
    accounts: Path | None
    http: str
    simulator: str | None
    simulator_speed: float
    simulator_seed: int
    key_prefix: str
    # How many replicas of Redis must have a call, or the claim on it, before it counts.
    wait_replicas: int
    # Seconds.
    action_timeout: float
    queue_timeout: int
    call_duration: int
    retention: int
    cdr_retention: int
    reconcile_interval: float
    token_lifetime: int
    stop_timeout: float
    # Call events: seconds for an answer and before the first try again; how many of these; the
    # networks that they may be sent to though they are no public ones.
    webhook_timeout: float
    webhook_retry_delay: float
    webhook_retries: int
    webhook_allow: str | None
    # Names and words.
    recordings: str
    video_codecs: str
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


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks in CIDR form, comma between. Raises ValidationError, whose text is a sentence."""
    try:
        return tuple(ip_network(word.strip()) for word in text.split(",") if word.strip())
    except ValueError as error:
        raise ValidationError(f"Takes networks such as 10.1.0.0/16: {error}.") from error


def _check_recordings(text: str) -> None:
    names = dict.fromkeys("organization user call view date time format".split(), "0")
    try:
        path = text.format(**names)
    except (KeyError, IndexError, ValueError) as error:
        raise ValidationError(f"Takes a path with any of {{{'}, {'.join(names)}}}.") from error
    if re.fullmatch(r"(/[A-Za-z0-9_.+-]+)+", path) is None or "/.." in path:
        raise ValidationError("Takes an absolute path of letters, digits, . _ + and -.")
    if not {"{call}", "{time}"} <= set(re.findall(r"{\w+}", text)):
        raise ValidationError("Takes {call} and {time}, so that no file is written over.")


def split_address(text: str, variable: str) -> tuple[str, int]:
    """``host:port`` as a pair; port 0 asks for any free one. Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingsError(f"{variable} must be host:port, not {text!r}.")
    return host.strip("[]"), int(port)


def load_settings() -> Settings:
    """Read the environment. Raises SettingsError that names the variable and what it takes."""
    env = environs.Env(prefix="RINGBACK_")
    try:
        settings = Settings(
            redis_url=env.str("REDIS_URL", None),
            switches=env.str("SWITCHES", None),
            accounts=env.path("ACCOUNTS", None),
            http=env.str("HTTP", "127.0.0.1:8080"),
            simulator=env.str("SIMULATOR", None),
            simulator_speed=env.float(
                "SIMULATOR_SPEED", 1.0, validate=Range(0, 1000, min_inclusive=False)
            ),
            simulator_seed=env.int("SIMULATOR_SEED", 0),
            key_prefix=env.str("KEY_PREFIX", "ringback:", validate=Length(1, 64)),
            wait_replicas=env.int("WAIT_REPLICAS", 0, validate=Range(0, 16)),
            action_timeout=env.float("ACTION_TIMEOUT", 5.0, validate=Range(0, 60)),
            queue_timeout=env.int("QUEUE_TIMEOUT", 60, validate=Range(1, 86_400)),
            call_duration=env.int("CALL_DURATION", 7_200, validate=Range(1, 86_400)),
            retention=env.int("RETENTION", 86_400, validate=Range(1)),
            # Not less than the longest call with its waiting may last.
            cdr_retention=env.int("CDR_RETENTION", 7_776_000, validate=Range(259_200)),
            reconcile_interval=env.float("RECONCILE_INTERVAL", 30.0, validate=Range(0.1, 3_600)),
            token_lifetime=env.int("TOKEN_LIFETIME", 3_600, validate=Range(60, 86_400)),
            stop_timeout=env.float("STOP_TIMEOUT", 10.0, validate=Range(0, 3_600)),
            webhook_timeout=env.float("WEBHOOK_TIMEOUT", 10.0, validate=Range(0.1, 60)),
            webhook_retry_delay=env.float("WEBHOOK_RETRY_DELAY", 5.0, validate=Range(0.01, 3_600)),
            webhook_retries=env.int("WEBHOOK_RETRIES", 12, validate=Range(0, 30)),
            webhook_allow=env.str("WEBHOOK_ALLOW", None, validate=parse_networks),
            recordings=env.str(
                "RECORDINGS",
                "/var/lib/freeswitch/recordings/{organization}/{date}/{call}-{view}-{time}.{format}",
                validate=_check_recordings,
            ),
            video_codecs=env.str(
                "VIDEO_CODECS",
                "OPUS,G722,PCMU,PCMA,H264,VP8",
                validate=Regexp(r"\A[A-Za-z0-9.@_-]+(,[A-Za-z0-9.@_-]+)*\Z"),
            ),
            log_level=env.str(
                "LOG_LEVEL", "INFO", validate=OneOf(["DEBUG", "INFO", "WARNING", "ERROR"])
            ),
            metrics=env.str("METRICS", None),
            metrics_organizations=env.int("METRICS_ORGANIZATIONS", 100, validate=Range(0, 10_000)),
            log_format=env.str("LOG_FORMAT", "console", validate=OneOf(["console", "json"])),
            log_numbers=env.str("LOG_NUMBERS", "masked", validate=OneOf(["masked", "full"])),
            traces=env.str("TRACES", None, validate=OneOf(["otlp"])),
        )
    except (environs.EnvError, ValidationError) as error:
        raise SettingsError(str(error)) from error
    # Read once here, so that a bad address stops the start of whatever is started.
    _ = settings.http_address, settings.simulator_address, settings.metrics_address
    return settings


def setting_names() -> list[str]:
    """The variables that are read, for the test that holds docs/settings.md to them."""
    return [f"RINGBACK_{field.name.upper()}" for field in fields(Settings)]
