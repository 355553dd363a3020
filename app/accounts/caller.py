"""The users, extensions and calls that the app of a request may see and name."""

from dataclasses import dataclass

from app.accounts.model import (
    Accounts,
    App,
    Compatibility,
    Extension,
    Level,
    Organization,
    User,
)
from app.calls.model import Call, State
from app.errors import api_error
from app.store.keys import Keys

# Words that a URI may have: two for the authenticated user, one for the owner of the extension,
# and one for all extensions.
ME = ("@me", "@viewer")
OWNER = "@owner"
SELF = "@self"


@dataclass(frozen=True)
class Caller:
    """The app of a request, with the accounts at the time of the request, and who uses the app:
    from which address, or which user of the operating system at the command line."""

    app: App
    accounts: Accounts
    address: str | None = None
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
            name = self.app.user or ""
        user = self.accounts.users.get(name)
        if user is None or not self.may_act_for(user):
            raise api_error("user_invalid")
        return user

    def asking_user(self, name: str) -> str | None:
        """The id of the user that a request with the user ``name`` in its URI acts for; None if it
        acts for all. At the command line this is the user of the operating system."""
        user = self.user(name)
        return self.operator or (user.id if user is not None else self.app.user)

    def extended(self, number: str) -> str:
        """The extended form of a short extension number, if the app may use short numbers."""
        organization = self.organization
        if organization is None or not number.isdecimal():
            return number
        return f"{organization.number}*{number}"

    def extension(self, number: str, user: User | None) -> Extension:
        """The extension with a number, if the user owns it. If ``user`` is None, any user that the
        app may act for may own it.

        Raises ApiError ``extension_invalid``. A missing extension and one of another owner get
        the same error, so that an app never learns which extensions exist.
        """
        extension = self.accounts.extensions.get(self.extended(number))
        if extension is not None:
            owner = self.accounts.users[extension.owner]
            if self.may_act_for(owner) and user in (None, owner):
                return extension
        raise api_error("extension_invalid")

    def scope(self, user_name: str, extension: str) -> "Scope":
        """The scope of calls that a URI names. Raises ApiError."""
        user = self.user(user_name)
        return Scope(self, user, None if extension == SELF else self.extension(extension, user))


@dataclass(frozen=True)
class Scope:
    """A scope of calls: of an extension, of a user, or (both None) of all users that the app may
    act for."""

    caller: Caller
    user: User | None = None
    extension: Extension | None = None

    def includes(self, call: Call) -> bool:
        """Whether the call belongs to the scope: to its extension, else to an extension of its
        user, else to an extension of any user that the app may act for."""
        if self.extension is not None:
            return self.extension.number in call.extensions
        accounts = self.caller.accounts
        owners = [accounts.extensions[n].owner for n in call.extensions if n in accounts.extensions]
        owned = (accounts.users[o] for o in (*owners, call.user) if o in accounts.users)
        if self.user is not None:
            return any(user == self.user for user in owned)
        return any(map(self.caller.may_act_for, owned))

    def shows(self, call: Call) -> bool:
        """Whether the app finds the call by its id. Programs written for VoipNow understand a
        call that is not found as one that has ended."""
        return self.includes(call) and not (self.caller.voipnow and call.state is State.ENDED)

    def index(self, keys: Keys) -> str:
        """The key of the index that holds the live calls of the scope."""
        caller = self.caller
        if self.extension is not None:
            return keys.extension_calls(self.extension.number)
        if self.user is not None:
            return keys.user_calls(self.user.id)
        if caller.app.level is Level.USER:
            return keys.user_calls(caller.app.user or "")
        organization = caller.organization
        return keys.organization_calls(organization.number) if organization else keys.calls
