"""The users, extensions and calls that the app of a request may see and name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.accounts import rights
from app.accounts.model import (
    Accounts,
    App,
    Compatibility,
    Extension,
    Level,
    Organization,
    User,
)
from app.accounts.scopes import AppScope
from app.calls import sight
from app.calls.model import Call, Leg, State
from app.errors import ApiError, api_error
from app.numbers import is_digits
from app.store.audit import Who
from app.store.keys import Keys
from app.telemetry import logs

# Words that a URI may have: two for the authenticated user, one for the owner of the extension,
# and one for all extensions.
ME = ("@me", "@viewer")
OWNER = "@owner"
SELF = "@self"
# The app of what an operator's command asks for. The accounts have no such app.
COMMAND_LINE = "@command-line"


@dataclass(frozen=True)
class Caller:
    """The app of a request, with the accounts at the time of the request, and who uses it: from
    which address, in a session of the console, or which user of the operating system at the command
    line."""

    app: App
    accounts: Accounts
    address: str | None = None
    session: bool = False
    operator: str | None = None

    @property
    def organization(self) -> Organization | None:
        """The organization that the app belongs to; None for an administrator's app."""
        return self.accounts.organization_of(self.app)

    @property
    def voipnow(self) -> bool:
        return self.app.compatibility is Compatibility.VOIPNOW

    def may_act_for(self, user: User) -> bool:
        if self.app.level is Level.USER:
            return user.id == self.app.user
        organization = self.organization
        return organization is None or organization.number == user.organization

    def user(self, name: str) -> User | None:
        """The user of a URI; None for ``@owner``. Raises ApiError ``user_invalid``."""
        if name == OWNER:
            return None
        if name in ME:
            # Only a user's app has an authenticated user.
            user = self.accounts.users.get(self.app.user or "")
        else:
            user = self.accounts.users.get(name)
        if user is None or not self.may_act_for(user):
            raise api_error("user_invalid", field="userId", value=name)
        return user

    def hears_of(self, holder: str) -> bool:
        """Whether the app is told of the caps of a holder (``organization:3``).

        It is told of its own and those of its user. An organization's app is told of those of the
        organization, and of all users, extensions and apps in it.
        """
        kind, _, name = holder.partition(":")
        accounts, organization = self.accounts, self.organization
        if organization is None or (kind, name) == ("app", self.app.id):
            return True
        if kind == "organization":
            return self.app.level is Level.ORGANIZATION and name == organization.id
        if kind == "extension":
            extension = accounts.extensions.get(name)
            name = extension.owner if extension is not None else ""
        elif kind == "app":
            app = accounts.apps.get(name)
            if app is not None and app.organization == organization.number:
                return self.app.level is Level.ORGANIZATION
            name = (app.user if app is not None else None) or ""
        user = accounts.users.get(name)
        return user is not None and self.may_act_for(user)

    def asking_user(self, name: str) -> str | None:
        """The id of the user that a request with the user ``name`` in its URI acts for; None if it
        acts for all. At the command line this is the user of the operating system."""
        user = self.user(name)
        return self.operator or (user.id if user is not None else self.app.user)

    def who(self, user: str | None = None) -> Who:
        """The one that asks, for the audit and for timelines. ``user`` is an asking_user."""
        kind = "user" if self.app.level is Level.USER else "app"
        if self.operator is not None:
            return Who("operator", self.app.id, self.operator)
        kind = "session" if self.session else kind
        return Who(kind, self.app.id, user, self.address, logs.bound("request_id"))

    def extended(self, number: str) -> str:
        """The extended form of a short extension number, if the app may use short numbers."""
        organization = self.organization
        if organization is None or not is_digits(number):
            return number
        return f"{organization.number}*{number}"

    def extension(self, number: str, user: User | None) -> Extension:
        """The extension with a number, if the user owns it. If ``user`` is None, any user that the
        app may act for may own it.

        Raises ApiError ``extension_invalid``. A missing extension and one of another owner get
        the same error, so that an app never learns which extensions exist.
        """
        extension = self.accounts.extensions.get(self.extended(number))
        if extension is None or not self._may_use(extension, user):
            raise api_error("extension_invalid", cause="unknown", field="extension", value=number)
        return extension

    def extensions(self, user: User | None = None) -> Iterator[Extension]:
        """All extensions that the user owns, or any user that the app may act for."""
        own = self.organization
        number = own.number if own is not None else user.organization if user is not None else None
        every = self.accounts.extensions_in(number)
        return (extension for extension in every if self._may_use(extension, user))

    def _may_use(self, extension: Extension, user: User | None) -> bool:
        owner = self.accounts.users[extension.owner]
        return self.may_act_for(owner) and user in (None, owner)

    def sees(self, call: Call) -> bool:
        return rights.sees(self.app, self.accounts, call)

    def acts(self, call: Call, leg: Leg) -> bool:
        return self.supervises(call) or rights.acts_on_own(self.app, call, leg)

    def supervises(self, call: Call) -> bool:
        """Whether the app has the right to supervise the call, and the scope for it."""
        has_scope = AppScope.CALLS_SUPERVISE in self.app.granted
        return has_scope and rights.supervises(self.app, self.accounts, call)

    def supervises_charged(self, user: str, extension: str) -> bool:
        """Whether the app has the right to supervise a call that was charged to this user and
        extension. Redis need not keep the call."""
        return rights.supervises_charged(self.app, self.accounts, user, extension)

    def supervised(self) -> list[str]:
        """The extensions of others that the app supervises."""
        named = rights.patterns(self.app, self.accounts)
        if not named:
            return []
        # This alone is quick for 100,000 extensions.
        begun = tuple(pattern.removesuffix("*") for pattern in named)
        known = [number for number in self.accounts.extensions if number.startswith(begun)]
        return [number for number in known if rights.is_supervised(named, number)]

    def lacks_right(self, call: Call, message: str) -> ApiError:
        """The error for an action that needs a right to the call that the app lacks, or the scope
        for it."""
        if rights.supervises(self.app, self.accounts, call):
            return self.lacks_scope(AppScope.CALLS_SUPERVISE)
        return self.forbidden("rights_insufficient", "pc_action_invalid", message)

    def lacks_scope(self, scope: AppScope) -> ApiError:
        of_calls = scope in (AppScope.CALLS_ACT, AppScope.CALLS_SUPERVISE)
        error = self.forbidden(
            "scope_insufficient",
            "pc_action_invalid" if of_calls else "request_invalid",
            f"This needs the scope {scope}, which the app or its token lacks.",
            scope=scope.value,
        )
        if error.status == 403:
            # RFC 6750, section 3.1.
            challenge = f'Bearer realm="ringback", error="insufficient_scope", scope="{scope}"'
            error.headers["WWW-Authenticate"] = challenge
        return error

    def forbidden(
        self, code: str, for_voipnow: str, reason: str | None = None, **details: Any
    ) -> ApiError:
        """The error for what the app may not do. Programs written for VoipNow take 403 for a token
        that has expired, so they get 400 ``for_voipnow`` with the sentence of ``code``, and the
        code as ``reason``."""
        error = api_error(code, reason, **details)
        if self.voipnow:
            details = {**error.details, "reason": code}
            return ApiError(400, for_voipnow, error.message, **details)
        return error

    def check_suspended(self, organization: str, voipnow: str) -> None:
        """Raise ApiError if the organization that pays, or the app's own, is suspended. ``voipnow``
        is the code for programs written for VoipNow."""
        own = self.organization
        for number in (organization, own.number if own is not None else organization):
            if self.accounts.is_suspended(number):
                raise self.forbidden("organization_suspended", voipnow)

    def scope(self, user_name: str, extension: str) -> "Scope":
        """The scope of calls that a URI names. Raises ApiError."""
        user = self.user(user_name)
        return Scope(self, user, None if extension == SELF else self.extension(extension, user))


@dataclass(frozen=True)
class Scope:
    """A scope of calls: of an extension, of a user, or (both None) of all that the app may see.

    It never holds a call that the app may not see (app.accounts.rights).
    """

    caller: Caller
    user: User | None = None
    extension: Extension | None = None

    def includes(self, call: Call) -> bool:
        """Whether the call belongs to the scope now."""
        # Extensions and users move to other owners while their calls go on.
        if not self.caller.sees(call):
            return False
        if self.extension is not None:
            return self.extension.number in sight.extensions(call)
        if self.user is not None and self.caller.app.level is not Level.USER:
            return self.user.id in sight.users(call)
        return True

    def left(self, call: Call) -> tuple[Leg, ...]:
        """The legs of the scope that have rung and ended, if the call left the scope with them."""
        if self.includes(call):
            return ()
        legs = rights.left(self.caller.app, call)
        if self.extension is not None:
            legs = tuple(leg for leg in legs if leg.number == self.extension.number)
        if self.user is not None:
            legs = tuple(leg for leg in legs if leg.owner == self.user.id)
        return legs

    def shows(self, call: Call) -> bool:
        """Whether the app finds the call by its id. Programs written for VoipNow understand a
        call that is not found as one that has ended."""
        return self.includes(call) and not (self.caller.voipnow and call.state is State.ENDED)

    def indexes(self, keys: Keys) -> tuple[str, ...]:
        """The keys of the indexes that together hold the live calls of the scope."""
        caller = self.caller
        if self.extension is not None:
            return (keys.extension_calls(self.extension.number),)
        if caller.app.level is Level.USER:
            supervised = map(keys.charged_calls, caller.supervised())
            return keys.user_calls(caller.app.user or ""), *supervised
        if self.user is not None:
            return (keys.user_calls(self.user.id),)
        organization = caller.organization
        return (keys.organization_calls(organization.number) if organization else keys.calls,)

    def topic(self, keys: Keys) -> str:
        """The topic of the feed (app.stream.feed) that holds all changes of the scope's calls."""
        first, *more = self.indexes(keys)
        organization = self.caller.organization
        return keys.organization_calls(organization.number) if more and organization else first
