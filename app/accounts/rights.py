"""The rights of an app on a call: pure functions of the app, the accounts and the call as it is.

There are three rights. An app that may do more may do less: to supervise is to act on every leg,
and to see.

| app | sees | acts on | supervises |
|---|---|---|---|
| of a user | own calls; others while a leg of the user rings or talks | live legs of the user | \
own calls; calls charged to an extension that ``supervise`` names |
| of an organization | the same | live legs of its extensions | own calls |
| of the administrator | all | all | all |

A user's own calls are those charged to the user, an organization's those charged to its extensions.
``supervise`` of a user holds for all apps of the user, ``supervise`` of an app for that app.

The call itself says who owns its legs, so a right lasts though a user or an extension leaves the
accounts during the call.
"""

from collections.abc import Iterable

from app.accounts.model import Accounts, App, Level
from app.calls import sight
from app.calls.model import Action, Call, Leg, NumberKind

# The actions that need the right to supervise. PickUp needs the right to see, and any other the
# right to act on the leg of the party that the request names.
SUPERVISING = frozenset(
    {
        Action.MONITOR,
        Action.WHISPER,
        Action.BARGE_IN,
        Action.START_RECORDING,
        Action.STOP_RECORDING,
    }
)


def owns(app: App, leg: Leg) -> bool:
    """Whether the leg belongs to the app's account."""
    if app.level is Level.USER:
        return leg.owner is not None and leg.owner == app.user
    if app.level is Level.ORGANIZATION:
        extension = leg.kind is NumberKind.EXTENSION
        return extension and sight.organization_of(leg.number) == app.organization
    # An administrator has no leg.
    return False


def is_charged(app: App, call: Call) -> bool:
    """Whether the app's account pays for the call. An administrator's app stands for all."""
    return _is_charged(app, call.user, call.extension)


def _is_charged(app: App, user: str, extension: str) -> bool:
    if app.level is Level.USER:
        return user == app.user
    if app.level is Level.ORGANIZATION:
        return sight.organization_of(extension) == app.organization
    return True


def patterns(app: App, accounts: Accounts) -> tuple[str, ...]:
    """The patterns of the extensions that the app supervises beyond its own."""
    user = accounts.users.get(app.user or "")
    return app.supervise + (user.supervise if user is not None else ())


def matches(pattern: str, extension: str) -> bool:
    """Whether a pattern names an extension: ``*`` at its end stands for any digits. It never names
    an extension of another organization: ``0003*`` names all of 0003."""
    if sight.organization_of(pattern) != sight.organization_of(extension):
        return False
    if pattern.endswith("*"):
        return extension.startswith(pattern.removesuffix("*"))
    return extension == pattern


def is_supervised(named: Iterable[str], extension: str) -> bool:
    return any(matches(pattern, extension) for pattern in named)


def supervises(app: App, accounts: Accounts, call: Call) -> bool:
    """Whether the app may do anything with the call: redirect others, listen in, record, hang it
    up."""
    return supervises_charged(app, accounts, call.user, call.extension)


def supervises_charged(app: App, accounts: Accounts, user: str, extension: str) -> bool:
    """As :func:`supervises`, of any call that is charged to this user and extension."""
    charged = _is_charged(app, user, extension)
    return charged or is_supervised(patterns(app, accounts), extension)


def sees(app: App, accounts: Accounts, call: Call) -> bool:
    return supervises(app, accounts, call) or any(owns(app, leg) for leg in sight.legs_in(call))


def acts_on_own(app: App, call: Call, leg: Leg) -> bool:
    """Whether the leg is one that the app may act on though it does not supervise the call."""
    return owns(app, leg) and leg.live and leg in sight.legs_in(call)


def left(app: App, call: Call) -> tuple[Leg, ...]:
    """The legs of the app's account that have rung and ended; empty while one of them is in the
    call."""
    legs = tuple(leg for leg in call.legs if owns(app, leg) and leg.created is not None)
    return legs if all(leg.ended is not None for leg in legs) else ()
