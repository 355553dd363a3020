"""The address of a switch's event socket, with its login and its limits."""

import re
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from freeswitch.tls import Tls

DEFAULT_PORT = 8021

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HOST_PORT = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[^\]\s]+)?)\]|(?P<host>[^\[\]:/?#\s]+))(?::(?P<port>[0-9]*))?"
)
# A host name, or an IP address.
_CERTIFIED = re.compile(r"[A-Za-z0-9_:%-][A-Za-z0-9_.:%-]{0,254}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# How the addresses behind a DNS name are found: by its A and AAAA records, or by its SRV records.
DNS, SRV = "dns", "srv"


@dataclass(frozen=True, slots=True)
class SwitchAddress:
    """The address of one switch.

    `user` is the name for `userauth`; with None the login is the event socket's own password.
    `legs_per_second` and `max_legs` replace the switch's own sessions-per-second and max-sessions.
    None keeps the switch's own limit, and 0 is no limit. `tls` is None for plain text.

    With `found_by` the host is a DNS name, whose addresses are switches (freeswitch/sources.py).
    """

    name: str
    host: str
    port: int = DEFAULT_PORT
    password: str = field(kw_only=True, repr=False)
    user: str | None = field(kw_only=True, default=None)
    legs_per_second: float | None = field(kw_only=True, default=None)
    max_legs: int | None = field(kw_only=True, default=None)
    tls: Tls | None = field(kw_only=True, default=None)
    found_by: str | None = field(kw_only=True, default=None)

    @property
    def url(self) -> str:
        """The URL without password and limits, which `parse` takes with a password of its own."""
        return self._url(f"{quote(self.user, safe='')}@" if self.user else "")

    @property
    def secret_url(self) -> str:
        """The URL with its password and without limits."""
        return self._url(f"{quote(self.user or '', safe='')}:{quote(self.password, safe='')}@")

    def _url(self, credentials: str) -> str:
        scheme = f"{self.found_by}+" if self.found_by else ""
        scheme += "esl" if self.tls is None else "esls"
        host = f"[{self.host}]" if ":" in self.host else self.host
        options = {}
        if self.tls is not None:
            options = {} if self.tls.name == self.host else {"name": self.tls.name}
            options |= {} if self.tls.ca is None else {"ca": self.tls.ca}
        more = f"?{urlencode(options)}" if options else ""
        return f"{scheme}://{credentials}{host}:{self.port}{more}"

    def at(self, name: str, host: str, port: int) -> Self:
        """The address of one switch behind this DNS name. Its certificate must be for that host
        with SRV records, else for the DNS name, unless the URL says another name."""
        tls = self.tls
        if tls is not None and self.found_by == SRV and tls.name == self.host:
            tls = replace(tls, name=host)
        return replace(self, name=name, host=host, port=port, tls=tls, found_by=None)

    @classmethod
    def parse(cls, text: str, password: str | None = None) -> Self:
        """Read `name=esl://[user]:password@host[:port]`, such as `a=esl://:ClueCon@127.0.0.1`.

        `esls://` is the same with TLS. `?legs_per_second=50&max_legs=400` may follow, or one of the
        two; with TLS also `ca=` with the absolute path of a PEM file, and `name=` with the name
        that the certificate must be for in place of the host. The switch's name has 1 to 32
        letters, digits, `-` and `_`. User, password and options are percent-decoded. An IPv6
        address stands in brackets. The default port is 8021. `dns+esl://` and `dns+esls://` name
        the host of several switches by DNS, `srv+esl://` and `srv+esls://` by SRV records.

        A `password` that is given stands in place of one in the text, which has none then:
        `a=esl://user@127.0.0.1`. Raises ValueError. Its text quotes nothing of the input, since any
        part of it may be a piece of the password.
        """
        name, _, url = text.strip().partition("=")
        if not _NAME.fullmatch(name):
            raise ValueError(
                "a switch must read name=esl://:password@host:port,"
                " where the name has 1 to 32 letters, digits, '-' and '_'"
            )
        scheme, _, rest = url.partition("://")
        found_by, plus, after = scheme.partition("+")
        if plus and found_by in (DNS, SRV):
            scheme = after
        if scheme not in ("esl", "esls"):
            raise ValueError(
                "the address after the name and '=' must begin with esl://, or esls:// for TLS,"
                " with dns+ or srv+ before it for a DNS name of several switches"
            )
        credentials, at, place = rest.rpartition("@")
        user, colon, own = credentials.partition(":")
        if password is not None and colon:
            raise ValueError("the password stands in the address and elsewhere: give it once")
        if password is None and not (at and colon and own):
            raise ValueError("the address must begin with esl://:password@ or esl://user:password@")
        place, question, options = place.partition("?")
        found = _HOST_PORT.fullmatch(place.removesuffix("/"))
        if not found:
            raise ValueError(
                "host or host:port must follow the '@', an IPv6 address in brackets"
                " (write '@', ',' and '%' of a password as %40, %2C and %25)"
            )
        port = found["port"]
        if port is not None and not (0 < len(port) <= 5 and 0 < int(port) < 65536):
            raise ValueError("the port must be a number from 1 to 65535")
        user = _decode(user)
        if ":" in user:
            raise ValueError("the user must not hold ':', encoded or not")
        host = found["ipv6"] or found["host"]
        given = _options(options) if question else {}
        tls = _tls(given, host) if scheme == "esls" else None
        return cls(
            name,
            host,
            int(port) if port else DEFAULT_PORT,
            password=_decode(own) if password is None else password,
            user=user or None,
            tls=tls,
            found_by=found_by if plus else None,
            **_limits(given, tls),
        )


def _options(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise ValueError("name=value must follow the '?', with '&' between several") from None
    if len(given := dict(pairs)) < len(pairs):
        raise ValueError("each option may follow the '?' once")
    return given


def _tls(given: dict[str, str], host: str) -> Tls:
    """TLS by its options, which it takes out of those given."""
    name, ca = given.pop("name", host), given.pop("ca", None)
    if not _CERTIFIED.fullmatch(name):
        raise ValueError("the option name must be the host name or IP address of a certificate")
    if ca is not None and (not ca.startswith("/") or _CONTROL.search(ca)):
        raise ValueError("the option ca must be the absolute path of a PEM file")
    return Tls(name, ca)


def _limits(given: dict[str, str], tls: Tls | None) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    try:
        if not "".join(given.values()).isascii():
            # Python also takes digits of other scripts.
            raise ValueError
        if "legs_per_second" in given:
            limits["legs_per_second"] = float(given.pop("legs_per_second"))
        if "max_legs" in given:
            limits["max_legs"] = int(given.pop("max_legs"))
    except ValueError:
        given = {"": ""}
    # A rate is kept with six decimals, and 0 is no limit.
    slowest = 0.001
    if given or not all(n == 0 or slowest <= n <= 1e6 for n in limits.values()):
        raise ValueError(
            "only legs_per_second and max_legs may follow the '?', with 0 or numbers from "
            f"{slowest} to 1000000"
            + (", and ca and name" if tls else ", and with esls:// ca and name")
        )
    return limits


def parse_list(text: str) -> list[SwitchAddress]:
    """Read one or more addresses with commas between.

    A comma in a password is written `%2C`. Raises ValueError for a wrong address, and for two of
    the same name. Its text gives the number of the wrong address, counted from 1.
    """
    addresses: dict[str, SwitchAddress] = {}
    for number, part in enumerate(text.split(","), start=1):
        try:
            address = SwitchAddress.parse(part)
        except ValueError as error:
            raise ValueError(f"switch {number}: {error}") from None
        if address.name in addresses:
            raise ValueError(f"switch {number}: its name is taken by an earlier switch")
        addresses[address.name] = address
    return list(addresses.values())


def _decode(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        # `from None`: the cause holds the bytes of the password.
        raise ValueError("user and password must be UTF-8 once percent-decoded") from None
    if _CONTROL.search(decoded):
        raise ValueError("user and password must not hold control characters")
    return decoded
