"""The guard: what an account may have dialled, and which caller ids it may show.

Every rule that applies must allow: that of the organization, of the charged user and extension, of
the app that placed the call, and of the app and user that ask for an action. The API asks the guard
before it accepts a call or an action, and a worker asks again before it dials.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from app.accounts.judging import countries_of, judge
from app.accounts.model import Accounts, App, Extension, Organization, User
from app.accounts.policy import Barred, Policy, Verdict
from app.calls.model import Call, Leg, NumberKind
from app.calls.quota import Check, Count
from app.calls.sight import organization_of
from app.number_plans import canonical, dialled, international
from app.numbers import same

CALLER_ID_ENTRY = "caller_ids"
# Seconds.
HOUR = 3600


@dataclass(frozen=True)
class Guard:
    """The rules for one request."""

    accounts: Accounts
    organization: Organization | None
    # The accounts whose rules apply, each once. A name such as ``user:12`` says which it is.
    holders: tuple[tuple[str, Organization | User | Extension | App], ...]

    @classmethod
    def of(
        cls, accounts: Accounts, extension: str, users: Iterable[str | None], apps: Iterable[str]
    ) -> "Guard":
        """The guard of a charged extension, and of the charged user and the users and apps that
        ask, by their ids. An account that is gone has no rules."""
        organization = accounts.organizations.get(organization_of(extension))
        found = (
            (f"organization:{organization.id}" if organization else "", organization),
            *((f"user:{user}", accounts.users.get(user or "")) for user in dict.fromkeys(users)),
            (f"extension:{extension}", accounts.extensions.get(extension)),
            *((f"app:{app}", accounts.apps.get(app)) for app in dict.fromkeys(apps)),
        )
        holders = tuple((name, holder) for name, holder in found if holder is not None)
        return cls(accounts, organization, holders)

    @property
    def country(self) -> str | None:
        return self.organization.country if self.organization else None

    @cached_property
    def policies(self) -> tuple[tuple[str, Policy], ...]:
        """The policies that apply, each with the account that has it."""
        return tuple(
            (name, self.accounts.policies[holder.policy])
            for name, holder in self.holders
            if holder.policy is not None and holder.policy in self.accounts.policies
        )

    def canonical(self, number: str) -> str:
        """The one form of a public number. Raises ValueError that says why it is none."""
        return canonical(number, self.country)

    def dialled(self, gateway: str, number: str, sent: str) -> str:
        """The digits that a gateway gets for a number that the client wrote as ``sent``."""
        form = self.accounts.number_format(gateway, self.country)
        return dialled(number, sent, form, self.country)

    def rate(self, number: str) -> str | None:
        """The rate of a public number, as a leg keeps it; None if no rate has one."""
        return self.accounts.rate_to(international(number, self.country))

    def judge(self, number: str) -> Verdict:
        """What the policies say of a public number."""
        return judge(number, self.country, [policy for _, policy in self.policies])

    def may_show(self, text: str) -> bool:
        """Whether the caller id ``Name <number>`` may be shown."""
        number = self._shown(text)
        if any(number == same(own) for own in self._own()):
            return True
        lists = [h.caller_ids for _, h in self.holders if h.caller_ids is not None]
        if not lists:
            return self._is_extension(number)
        return all(any(self._allows(each, number) for each in allowed) for allowed in lists)

    def shown(self, text: str) -> str:
        """The caller id ``Name <number>`` with its number in its one form."""
        name, _, number = text.rpartition("<")
        return f"{name}<{self._number(number.rstrip('>'))}>"

    def _shown(self, text: str) -> str:
        return same(self._number(text.rpartition("<")[2].rstrip(">")))

    def _number(self, number: str) -> str:
        if self._is_extension(number):
            return number
        try:
            return self.canonical(number)
        except ValueError:
            return number

    def _own(self) -> Iterator[str]:
        for _, holder in self.holders:
            if isinstance(holder, Extension):
                yield holder.number
                yield holder.number.partition("*")[2]
                if holder.caller_id is not None:
                    yield self._shown(holder.caller_id)

    def _is_extension(self, number: str) -> bool:
        """Whether a number, short or extended, is an extension of the organization."""
        if self.organization is None:
            return False
        own = f"{self.organization.number}*"
        known = self.accounts.extensions
        return own + number in known or (number.startswith(own) and number in known)

    def _allows(self, allowed: str, number: str) -> bool:
        if allowed.endswith("*"):
            return number.startswith(same(allowed[:-1]))
        return number == self._shown(allowed)


def checks(guard: Guard, dialled: Mapping[str, Iterable[str]]) -> list[Check]:
    """What public numbers take from the counts of policies: ``calls_to_number_per_hour`` and
    ``new_countries_per_day``. Each account that has the policy counts by itself.

    ``dialled`` has the numbers by the id of the call or action that dials them.
    """
    ids: dict[str, list[str]] = {}
    for name, numbers in dialled.items():
        for number in dict.fromkeys(international(each, guard.country) for each in numbers):
            ids.setdefault(number, []).append(name)
    found = []
    for holder, policy in guard.policies:
        if policy.enforce and (most := policy.calls_to_number_per_hour) is not None:
            cap = "calls_to_number_per_hour"
            found += [
                Check(holder, cap, Count.WINDOW, most, same(number), HOUR, members=tuple(of))
                for number, of in ids.items()
            ]
        if policy.enforce and (most := policy.new_countries_per_day) is not None:
            countries = {each for n in ids for each in countries_of(n, guard.country)}
            if countries:
                members = tuple(sorted(countries))
                cap = "new_countries_per_day"
                found.append(Check(holder, cap, Count.NEW, most, members=members))
    return found


def checks_of_calls(guard: Guard, calls: Iterable[Call]) -> list[Check]:
    """What new calls of one request take from the counts of policies."""
    return checks(
        guard,
        {c.id: [leg.number for leg in c.legs if leg.kind is NumberKind.PUBLIC] for c in calls},
    )


def barred(accounts: Accounts, call: Call) -> tuple[Leg | None, Barred] | None:
    """The rule that bars a call that is about to be dialled, and the leg that it bars.

    The leg is None if the caller id is barred, the app disabled or the organization suspended, or
    one of them is no longer in the accounts.
    """
    if (why := accounts.barred(call.extension, call.app)) is not None:
        return None, Barred("suspended", why)
    if (gone := _gone(accounts, call)) is not None:
        return None, Barred("accounts", f"The accounts no longer have {gone}.")
    guard = Guard.of(accounts, call.extension, [call.user], [call.app])
    for leg in call.legs:
        if leg.hangup_requested is None and (rule := barred_leg(guard, leg)) is not None:
            return leg, rule
    if guard.holders:
        for text in filter(None, (call.caller_id, call.caller_id_destination)):
            if not guard.may_show(text):
                return None, Barred(CALLER_ID_ENTRY, f"{text} must not be shown as caller id.")
    return None


def _gone(accounts: Accounts, call: Call) -> str | None:
    """The app, user or extension of a call that has left the accounts; None if all are there."""
    if not accounts.apps:
        # Redis had no accounts yet when this process last read them.
        return None
    if call.app not in accounts.apps and not call.app.startswith("@"):
        return f"the app {call.app}"
    if call.user not in accounts.users:
        return f"the user {call.user}"
    gone = call.extension not in accounts.extensions
    return f"the extension {call.extension}" if gone else None


def barred_leg(guard: Guard, leg: Leg) -> Barred | None:
    """The rule that bars a leg to a public number."""
    return guard.judge(leg.number).barred if leg.kind is NumberKind.PUBLIC else None
