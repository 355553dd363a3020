"""Erases a number from a call that has ended: pure functions of a call.

Times, causes, costs and the organization that pays stay. The numbers, the names beside them and
what else may hold a number are replaced by the word ``erased``, never removed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from app.calls.model import Asked, Call, Leg, NumberKind, evolve

ERASED = "erased"
# The fields that hold the id of a user, in a call, its record and what is told of it.
_OF_USER = frozenset({"user", "owner", "charged", "asked_user"})
# The fields that hold a caller id with its name, and those of a call event that hold its halves.
_CALLER_IDS = frozenset({"caller_id", "caller_id_destination"})
_NUMBER, _NAME = "CallerIDNum", "CallerIDName"


class Person(Protocol):
    """What tells the number (app.privacy.person)."""

    @property
    def user(self) -> str | None: ...

    def hide(self, text: str, country: str | None = None) -> str:
        """A text with the number erased."""

    def word(self, text: str, organization: str | None = None) -> str:
        """The text of a field that holds one number, erased."""


def erased(call: Call, person: Person, country: str | None = None) -> Call:
    """The call without the person. ``country`` is that of the organization that pays."""
    organization = call.extension.partition("*")[0]

    def hide(text: str | None) -> str | None:
        return text and person.hide(text, country)

    def document(text: str | None) -> str | None:
        return text and in_text(text, person, country)

    def word(text: str | None) -> str | None:
        return text and person.word(text, organization)

    def user(text: str | None) -> str | None:
        return ERASED if text is not None and text == person.user else text

    def leg(old: Leg) -> Leg:
        number = person.word(old.number, organization)
        own = number != old.number
        dial_string = hide(old.dial_string)
        if own and old.kind is NumberKind.EXTENSION and dial_string is not None:
            dial_string = ERASED
        return evolve(
            old,
            number=number,
            # The gateway tells costs, and may stand in the dial string alone.
            gateway=old.trunk,
            dial_string=dial_string,
            dialled=ERASED if own and old.dialled is not None else word(old.dialled),
            owner=user(old.owner),
            charged=user(old.charged),
            sip_phrase=hide(old.sip_phrase),
            reason=hide(old.reason),
            sip_call_id=hide(old.sip_call_id),
            parked_by=word(old.parked_by),
            asked_user=user(old.asked_user),
        )

    def asked(old: Asked) -> Asked:
        return replace(old, number=word(old.number), user=user(old.user))

    legs = tuple(map(leg, call.legs))
    found = evolve(
        call,
        # The same objects if nothing changed, so that nothing is written.
        legs=legs if legs != call.legs else call.legs,
        actions=tuple(map(asked, call.actions)) if call.actions else call.actions,
        extension=person.word(call.extension, organization),
        user=user(call.user) or call.user,
        caller_id=caller_id(call.caller_id, person, organization, country),
        caller_id_destination=caller_id(call.caller_id_destination, person, organization, country),
        nonce=hide(call.nonce),
        metadata=document(call.metadata),
        status_callback=document(call.status_callback),
        sip_headers=document(call.sip_headers),
        conference=hide(call.conference),
    )
    if found == call:
        return call
    # The digest of the request could be found again by trying all numbers.
    return evolve(found, request_digest=call.request_digest and ERASED)


def caller_id(
    text: str | None, person: Person, organization: str, country: str | None = None
) -> str | None:
    """The caller id, erased with its name if it has the number: the name is of the same person."""
    if text is None:
        return None
    number = text.rpartition("<")[2].rstrip("> ")
    has = person.word(number, organization) != number or person.hide(text, country) != text
    return ERASED if has else text


def in_text(text: str, person: Person, country: str | None = None) -> str:
    """A text, or a JSON document, with the number erased in every string, in names of fields too,
    and with the person's id in fields of users. A document may have documents in its strings."""
    if not text.startswith(("{", "[")):
        return person.hide(text, country)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return person.hide(text, country)
    found = in_value(value, person, country)
    return text if found == value else json.dumps(found, ensure_ascii=False)


def in_value(value: Any, person: Person, country: str | None = None) -> Any:
    """A value of JSON, as :func:`in_text`."""
    if isinstance(value, str):
        return in_text(value, person, country)
    if isinstance(value, Mapping):
        whole = {**value, **dict(_caller_ids(value, person, country))}
        return {
            person.hide(name, country): (
                ERASED if _is_user(name, each, person) else in_value(each, person, country)
            )
            for name, each in whole.items()
        }
    if isinstance(value, list):
        return [in_value(each, person, country) for each in value]
    return value


def _caller_ids(
    value: Mapping[str, Any], person: Person, country: str | None
) -> Iterator[tuple[str, str | None]]:
    """The caller ids of a call, a record or a call event that are the person's, with their names
    erased."""
    organization = str(value.get("extension", value.get("CallerExtension", ""))).partition("*")[0]
    for name in _CALLER_IDS & value.keys():
        if isinstance(value[name], str):
            yield name, caller_id(value[name], person, organization, country)
    if _NUMBER in value and _NAME in value:
        text = f"{value[_NAME]} <{value[_NUMBER]}>"
        if caller_id(text, person, organization, country) == ERASED:
            yield _NUMBER, ERASED
            yield _NAME, ERASED


def _is_user(name: str, value: Any, person: Person) -> bool:
    """Whether a field holds the person's id as a user: ``user``, ``leg:a1:owner``."""
    known = person.user is not None and value == person.user
    return known and name.rpartition(":")[2] in _OF_USER
