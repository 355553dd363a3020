"""Endpoints of a dial string, `endpoint/data`: sofia, loopback and user."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from . import causes, telephones
from .telephones import Manner

Gateway = Literal["up", "dead", "down"]
"""The state of a SIP gateway: `up`; `dead`, nothing answers SIP there, so each call fails after the
switch created its channel; `down`, the switch knows that and creates no channel."""

PROFILE = "external"
"""The SIP profile of the gateways. It also takes `number@host`."""


class EndpointError(Exception):
    """An endpoint to which no channel can be made. The attempt fails with `cause`.

    `announced` says that the switch had begun a channel and sends its CHANNEL_DESTROY.
    """

    def __init__(self, cause: str, *, announced: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.announced = announced


@dataclass(frozen=True, slots=True)
class Destination:
    """A telephone, and the fields of the channel to it."""

    channel_name: str
    number: str
    callee_number: str
    manner: Manner
    variables: Mapping[str, str]
    gateway: str | None = None
    sip: bool = True
    dialplan: str = ""
    source: str = "src/switch_ivr_originate.c"
    context: str = "default"


def find(
    endpoint: str, data: str, gateways: Mapping[str, Gateway], luck: Callable[[str], random.Random]
) -> Destination:
    """The telephone that a peer of a dial string names. Raises EndpointError.

    `luck` is the random generator of the next call to a number.
    """
    match endpoint:
        case "sofia":
            return _sofia(data, gateways)
        case "loopback":
            return _loopback(data, luck)
        case "user":
            return _user(data)
        case "null":
            return _null(data)
        case "error":
            raise EndpointError(causes.named(data))
    raise EndpointError("CHAN_NOT_IMPLEMENTED")


def failing(destination: Destination, cause: str) -> Destination:
    """The destination, with a telephone that fails at once with this cause."""
    manner = Manner(rings=False, refusal=cause, status="503 Service Unavailable")
    return replace(destination, manner=manner)


def _null(data: str) -> Destination:
    """mod_loopback's endpoint without media, which answers at once."""
    name = f"null/{data}"
    manner = Manner(rings=False, answer_after=0.0)
    return Destination(name, data, data, manner, {"channel_name": name}, sip=False)


def _sofia(data: str, gateways: Mapping[str, Gateway]) -> Destination:
    profile, _, rest = data.partition("/")
    if profile != "gateway":
        if not data or not rest:
            raise EndpointError("INVALID_URL", announced=True)
        if profile != PROFILE:
            raise EndpointError("INVALID_PROFILE", announced=True)
        number, at, host = rest.partition("@")
        if not at:
            raise EndpointError("USER_NOT_REGISTERED", announced=True)
        return _sip(f"sofia/{PROFILE}/{rest}", number, host, {"sip_profile_name": PROFILE})
    gateway, slash, number = rest.partition("/")
    if not slash:
        raise EndpointError("INVALID_URL", announced=True)
    state = gateways.get(gateway)
    if state is None:
        raise EndpointError("INVALID_GATEWAY", announced=True)
    if state == "down":
        raise EndpointError("GATEWAY_DOWN", announced=True)
    variables = {"sip_gateway_name": gateway, "sip_profile_name": "gateway"}
    manner = telephones.DEAD_GATEWAY if state == "dead" else None
    name = f"sofia/{PROFILE}/{number}"
    return _sip(name, number, "127.0.0.1:5090", variables, gateway, manner)


def _sip(
    name: str,
    number: str,
    host: str,
    variables: Mapping[str, str],
    gateway: str | None = None,
    manner: Manner | None = None,
) -> Destination:
    uri = f"{number}@{host}"
    return Destination(
        channel_name=name,
        number=number,
        callee_number=number,
        manner=manner or telephones.network(number),
        variables={
            **variables,
            "channel_name": name,
            "sip_destination_url": f"sip:{uri}",
            "sip_req_uri": uri,
            "sofia_profile_name": PROFILE,
        },
        gateway=gateway,
    )


def _user(data: str) -> Destination:
    user, _, domain = data.partition("@")
    if not user.isascii() or not user.isdigit():
        raise EndpointError("SUBSCRIBER_ABSENT")
    domain = domain or "127.0.0.1"
    variables = {
        "sip_profile_name": "internal",
        "dialed_user": user,
        "dialed_domain": domain,
        "presence_id": f"{user}@{domain}",
    }
    return _sip(f"sofia/internal/{user}@{domain}", user, domain, variables)


def _loopback(data: str, luck: Callable[[str], random.Random]) -> Destination:
    number, _, rest = data.partition("/")
    context, _, dialplan = rest.partition("/")
    if context == telephones.SANDBOX:
        manner = telephones.sandbox(number, luck(number))
    else:
        manner = telephones.NO_ROUTE
    name = f"loopback/{number}-a"
    return Destination(
        channel_name=name,
        number=number,
        # The switch takes the part after the last slash for the called number.
        callee_number=dialplan or context or number,
        manner=manner,
        variables={"channel_name": name, "loopback_leg": "A"},
        sip=False,
        dialplan=dialplan or "xml",
        source="mod_loopback",
        context=context or "default",
    )
