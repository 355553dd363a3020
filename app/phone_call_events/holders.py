"""The holders of PhoneCallEvents: an extension, or all calls of a user, an organization or an app.

app.calls.call_events names them. In a path they stand in the place of the extension.
"""

from app.accounts.caller import OWNER, SELF, Caller
from app.accounts.model import Accounts, ExtensionType, Level
from app.calls.call_events import kind_of, wide
from app.calls.sight import organization_of
from app.errors import api_error

# The words of a path for all extensions of the user, for those of the organization, and for the
# calls that the app places.
ORGANIZATION, APP = "@organization", "@app"


def holder(caller: Caller, user_name: str, extension: str) -> str:
    """The holder that a path names, if the app may follow it. Raises ApiError."""
    if caller.voipnow and extension.startswith("@"):
        # docs/internals/uapi.md#phonecallevent
        raise api_error("extension_invalid", cause="events", field="extension", value=extension)
    user = caller.user(user_name)
    if extension == SELF:
        if user is None:
            reason = f"{OWNER} names no user: give the id of one."
            raise api_error("user_invalid", reason, field="userId", value=user_name)
        return wide(user=user.id)
    if extension == ORGANIZATION:
        own = caller.organization
        number = user.organization if user is not None else own.number if own is not None else None
        if number is None:
            reason = "Give the id of a user of the organization."
            raise api_error("user_invalid", reason, field="userId", value=user_name)
        found = wide(organization=number)
        if not may_follow(caller, found):
            raise api_error(
                "rights_insufficient", cause="organization", field="extension", value=extension
            )
        return found
    if extension == APP:
        return wide(app=caller.app.id)
    phone = caller.extension(extension, user)
    if phone.type is ExtensionType.CALLBACK:
        raise api_error("extension_invalid", cause="events", field="extension", value=extension)
    return phone.number


def owner_of(accounts: Accounts, holder: str) -> str:
    """The id of the user whose extension a holder is, or of the organization; empty if it has left
    the accounts, and of a user and an app, whose own ids name the holder.

    An extension and an organization's number may be given to somebody else.
    """
    kind, name = kind_of(holder)
    if kind == "organization":
        organization = accounts.organizations.get(name)
        return organization.id if organization is not None else ""
    extension = accounts.extensions.get(holder)
    return extension.owner if extension is not None else ""


def is_of_another(event_owner: str, owner: str) -> bool:
    """Whether an event was created for an owner before the present one."""
    return bool(event_owner and owner) and event_owner != owner


def may_follow(caller: Caller, holder: str) -> bool:
    """Whether the app may see the calls of a holder now."""
    app, accounts = caller.app, caller.accounts
    kind, name = kind_of(holder)
    if kind == "app":
        return name == app.id
    if kind == "organization":
        return app.level is not Level.USER and app.organization in (None, name)
    if kind == "user":
        owner = accounts.users.get(name)
        return owner is not None and caller.may_act_for(owner)
    extension = accounts.extensions.get(holder)
    if extension is None:
        # It has left the accounts. Its calls still show to these apps.
        return app.level is not Level.USER and app.organization in (None, organization_of(holder))
    return caller.may_act_for(accounts.users[extension.owner])
