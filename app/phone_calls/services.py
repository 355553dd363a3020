"""The PhoneCalls service without its HTTP."""

import hashlib
import json
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from typing import Any

from app.accounts import caps, ringback
from app.accounts.caller import OWNER, SELF, Caller, Scope
from app.accounts.guard import CALLER_ID_ENTRY, Guard, checks_of_calls
from app.accounts.model import (
    PROGRESS_TIMEOUT,
    Accounts,
    Extension,
    ExtensionType,
    Organization,
    User,
)
from app.accounts.prompts import AcceptRule, AnnounceRule, Prompt, missing
from app.accounts.scopes import AppScope
from app.calls import actions
from app.calls.ending_many import EndMany
from app.calls.model import (
    HANG_UP,
    Asked,
    Call,
    Leg,
    NumberKind,
    Role,
    State,
    evolve,
    job_uuid,
    leg_id,
    leg_uuid,
)
from app.calls.quota import QuotaExceeded
from app.calls.watch import is_hang_up_pending
from app.errors import ApiError, api_error
from app.numbers import same
from app.phone_calls import extras, maxima, searching
from app.phone_calls.homes import Homes
from app.phone_calls.schemas import MAX_LEGS
from app.phone_calls.searching import Search
from app.settings import Settings, parse_networks
from app.store import audit, index, metadata_index
from app.store.accepting import Accepted, Acceptor
from app.store.audit import Who
from app.store.calls import CallStore, Change
from app.store.client import is_unavailable
from app.store.errors import NotReplicated, OutcomeUnknown
from app.store.index import ALL, Place, Span
from app.store.pace import Pacer, QueuePosition
from app.store.queue import JobQueue
from app.store.reserve import Reserve, Room
from app.store.writes import Note
from app.telemetry import counting
from app.web.cursor import Page
from app.web.listing import Filter, Listing
from app.web.quota import quota_error
from app.web.turns import in_pieces, piece

log = logging.getLogger(__name__)

# Seconds for which this process remembers whether a switch is unreachable.
_SWITCH_AGE = 0.1
# Nonces and places of calls that are read at once.
_NAMES = 100

_SIDES = ("source", "destination")
# The most calls that a request itself marks to be hung up.
MOST_AT_ONCE = 100
INVITE = "conferenceInvite"
_OTHER_REQUEST = "Another request with this nonce placed its calls. They are kept."
_OWN_LEGS = (
    "You may hang up only your own party of this call. To hang up others needs the right to "
    "supervise it."
)
_TYPES = {
    "simple": ExtensionType.PHONE_TERMINAL,
    "callback": ExtensionType.CALLBACK,
    INVITE: ExtensionType.CONFERENCE,
}


# A call, how to mark it, and the number of the party that is to be hung up, None for all.
Wanted = tuple[Call, Callable[[Call], Call], str | None]


class PhoneCalls:
    """The service that creates, finds and hangs up calls."""

    def __init__(self, settings: Settings, store: CallStore, queue: JobQueue, pacer: Pacer) -> None:
        self._settings = settings
        self._allow = parse_networks(settings.webhook_allow or "")
        self._store = store
        self._acceptor = Acceptor(store)
        self._queue = queue
        self._pacer = pacer
        self._reserve = Reserve(store.redis, store.keys, settings)
        self._homes = Homes(store, settings.home_wait)
        # When Redis last said whether a switch is unreachable, in seconds of the monotonic clock;
        # and since when unreachable switches are, in epoch seconds. Both by the switch's name.
        self._asked: dict[str, float] = {}
        self._unreachable_since: dict[str, float] = {}

    # Create

    def create(
        self,
        caller: Caller,
        user_name: str,
        kind: str,
        query: dict[str, Any],
        body: dict[str, Any],
        *,
        once: str | None = None,
    ) -> Accepted:
        """Accept one call for each view: all or none. Returns them, and whether this request placed
        them or an earlier one with the same nonce. Raises ApiError.

        ``once`` is the id of the RQ job that asks, which RQ may run again. It is the nonce of a
        request without one; and for programs written for VoipNow, whose nonces repeat, the calls
        are known by it.
        """
        if once is not None and not caller.voipnow:
            body = {"nonce": once, **body}
        user = caller.user(user_name)
        number, field = body.get("extension"), "/extension"
        if number is None:
            if kind != "simple":
                raise api_error("extension_invalid", cause="missing", field="/extension")
            number, field = body["phoneCallView"][0]["source"][0], "/phoneCallView/0/source/0"
        extension = _charged(caller, number, user, field)
        caller.check_suspended(extension.organization, "extension_invalid")
        if extension.type is not _TYPES[kind]:
            reason = f"{kind} needs a {_TYPES[kind].value}."
            about = {"field": field, "value": number}
            raise api_error("extension_invalid", reason, cause="type", **about)
        owner = caller.accounts.users[extension.owner]
        maxima.check(self._settings, query, body["phoneCallView"])
        if "statusCallback" in body and AppScope.EVENTS not in caller.app.granted:
            raise caller.lacks_scope(AppScope.EVENTS)
        extras.check_callback(body, self._allow, caller.app.id)
        guard = Guard.of(caller.accounts, extension.number, [owner.id], [caller.app.id])
        nonce, digest = body.get("nonce"), self._digest(caller, guard, extension, kind, query, body)
        organization = caller.accounts.organizations[owner.organization]
        parties = sum(len(v.get(s, ())) for v in body["phoneCallView"] for s in _SIDES)
        self._check_reserve(caller.accounts, organization, parties)
        holders = caps.holders(organization, owner, caller.app)
        counted = caps.counted(holders)
        calls = [
            self._new_call(
                *(caller, guard, organization, owner, extension, kind, query, view, at),
                counted=counted,
                extra=extras.stored(body, caller.app.id),
                nonce=nonce,
                digest=digest,
            )
            for at, view in enumerate(body["phoneCallView"])
        ]
        calls = self._homes.placed(calls, caller.accounts, organization)
        known_by = (f"job:{once}" if once else None) if caller.voipnow else nonce
        checks = [*caps.checks(holders, calls), *checks_of_calls(guard, calls)]
        who = caller.who(caller.asking_user(user_name))
        try:
            accepted = self._acceptor.accept(
                calls,
                self._queue.place_call,
                nonce=(caller.app.id, known_by) if known_by else None,
                checks=checks,
                who=who,
            )
        except QuotaExceeded as error:
            raise quota_error(error.refusal, self._store.now()) from error
        if not accepted.new and accepted.calls[0].request_digest != digest:
            about = {"field": "/nonce", "value": nonce}
            raise api_error("pc_nonce_invalid", _OTHER_REQUEST, cause="used", **about)
        return accepted

    def _check_reserve(self, accounts: Accounts, organization: Organization, parties: int) -> None:
        """Raise ApiError if Redis keeps what is left of its memory for other calls."""
        room = self._reserve.room(parties)
        if room is Room.NONE:
            raise api_error("service_unavailable", cause="full", retry_after=10)
        if room is not Room.FAIR:
            return
        numbers = list(accounts.organizations)
        if self._reserve.is_beyond_share(organization.number, numbers):
            holder = f"organization:{organization.id}"
            counting.cap_refused(holder, "memory")
            raise api_error(
                "quota_exceeded", cause="memory", retry_after=60, cap=f"{holder} memory"
            )

    def _digest(
        self,
        caller: Caller,
        guard: Guard,
        extension: Extension,
        kind: str,
        query: dict[str, Any],
        body: dict[str, Any],
    ) -> str:
        """The digest by which two requests are the same.

        It covers what the client asked for, in one form: numbers as they are compared, and nothing
        that is the default. So a retry is still the same after a route has changed.
        """
        longest = maxima.duration_of(self._settings, None)
        defaults = {"fields_": query.get("fields_"), "callDuration": longest}
        asked = {n: value for n, value in query.items() if defaults.get(n) != value}
        views = [dict(_same_view(caller, guard, extension, view)) for view in body["phoneCallView"]]
        whole = [kind, extension.number, asked, views, body.get("nonce")]
        if more := {name: body[name] for name in extras.NAMES if body.get(name)}:
            whole.append(more)
        text = json.dumps(whole, sort_keys=True, default=asdict)
        return hashlib.sha256(text.encode()).hexdigest()

    def _new_call(
        self,
        caller: Caller,
        guard: Guard,
        organization: Organization,
        user: User,
        extension: Extension,
        kind: str,
        query: dict[str, Any],
        view: dict[str, Any],
        at: int,
        *,
        counted: str | None,
        extra: Mapping[str, Any],
        nonce: str | None,
        digest: str,
    ) -> Call:
        caller_ids = {}
        for name in ("callerId", "callerIdDestination"):
            if name in view:
                field = f"/phoneCallView/{at}/{name}"
                caller_ids[name] = checked_caller_id(guard, extension, view[name], field)
        # 20 hex digits, as in VoipNow.
        call_id = secrets.token_hex(10)
        path = f"/phoneCallView/{at}"
        legs = tuple(self._sides(caller, guard, call_id, kind, view, path))
        accept, announce = _rules(caller.accounts, organization, view, path)
        hears = None
        if kind != INVITE:
            destination = next(leg for leg in legs if leg.role is Role.DESTINATION)
            chosen = _checked_ringback(
                caller.accounts.prompts_of(organization.number), view.get("ringback"), path
            )
            hears = ringback.heard(caller.accounts, organization, chosen, destination)
            if accept or announce:
                legs = tuple(_with_prompts(leg, accept, announce) for leg in legs)
        return Call(
            id=call_id,
            kind=kind,
            app=caller.app.id,
            user=user.id,
            organization=organization.id,
            organization_name=organization.name,
            extension=extension.number,
            accepted=self._store.now(),
            wait_for_pickup=maxima.wait_of(self._settings, query["waitForPickup"]),
            call_duration=maxima.duration_of(self._settings, query.get("callDuration")),
            queue_timeout=self._settings.queue_timeout,
            retention=self._settings.retention,
            cdr_retention=self._settings.cdr_retention,
            job_uuid=job_uuid(call_id),
            counted=counted,
            nonce=nonce,
            request_digest=digest,
            **extra,
            **extras.stored_headers(view),
            caller_id=caller_ids.get("callerId", extension.default_caller_id),
            caller_id_destination=caller_ids.get(
                "callerIdDestination", extension.default_caller_id
            ),
            allow_public_transfer=query.get("allowPublicTransfer", False),
            video=query.get("video", False),
            conference=_room(caller.accounts, extension, query) if kind == INVITE else None,
            ringback=hears,
            legs=legs,
        )

    def _sides(
        self, caller: Caller, guard: Guard, call_id: str, kind: str, view: dict[str, Any], path: str
    ) -> Iterable[Leg]:
        # In a conference the room is no leg, so the sources are the invited parties.
        sides = [(Role.SOURCE, "source"), (Role.DESTINATION, "destination")]
        for role, name in [(Role.SOURCE, "destination")] if kind == INVITE else sides:
            yield from self._legs(caller, guard, call_id, role, view[name], path, name)

    def _legs(
        self,
        caller: Caller,
        guard: Guard,
        call_id: str,
        role: Role,
        numbers: Sequence[str],
        path: str,
        name: str,
    ) -> Iterable[Leg]:
        code = f"pc_{name}_invalid"
        ways: dict[tuple[NumberKind, str], tuple[str, list[dict[str, str]]]] = {}
        for at, text in enumerate(numbers):
            found = self.ways(caller, guard, text, code, f"{path}/{name}/{at}")
            (kind, number), attempts = found
            # A number written twice, or in two forms, would ring one phone twice.
            ways.setdefault((kind, same(number)), (number, attempts))
        if sum(len(attempts) for _, attempts in ways.values()) > MAX_LEGS:
            reason = f"These numbers need more than {MAX_LEGS} legs with all their gateways."
            raise api_error(code, reason, cause="too_many", field=f"{path}/{name}")
        parties = [(kind, *found) for (kind, _), found in ways.items()]
        for party, (kind, number, attempts) in enumerate(parties, start=1):
            for attempt, way in enumerate(attempts, start=1):
                yield Leg(
                    id=leg_id(role, party, attempt),
                    role=role,
                    number=number,
                    kind=kind,
                    uuid=leg_uuid(call_id, role, party, attempt),
                    gateway=way.get("gateway"),
                    dial_string=way.get("dial_string"),
                    dialled=way.get("dialled"),
                    owner=way.get("owner"),
                    rate=guard.rate(number) if kind is NumberKind.PUBLIC else None,
                    progress_timeout=_progress_timeout(caller.accounts, attempts[:-1], way),
                )

    def ways(
        self, caller: Caller, guard: Guard, text: str, code: str, field: str
    ) -> tuple[tuple[NumberKind, str], list[dict[str, str]]]:
        """The kind and full form of a number, and the ways to reach it in order.

        Raises ApiError with ``code`` for what is no number that can be dialled, and for a number
        that a policy bars. ``field`` names the field of the request.
        """

        def invalid(reason: str, cause: str) -> ApiError:
            return api_error(code, reason, cause=cause, field=field, value=text)

        accounts = caller.accounts
        extension = accounts.extensions.get(caller.extended(text))
        own = caller.organization
        if "*" in text and own is not None and text.partition("*")[0] != own.number:
            # Never ring another organization's extension, nor tell whether it exists.
            raise invalid("There is no such extension.", "extension")
        if extension is not None and extension.type.rings:
            return (NumberKind.EXTENSION, extension.number), [
                {"dial_string": extension.dial_string or "", "owner": extension.owner}
            ]
        if accounts.is_sandbox(text):
            return (NumberKind.SANDBOX, text), [{}]
        if extension is not None:
            raise invalid("A callback extension pays for calls and has no phone.", "callback")
        if "*" in text:
            raise invalid("There is no such extension.", "extension")
        try:
            number = guard.canonical(text)
        except ValueError as error:
            raise invalid(str(error), "plan") from error
        gateways = accounts.gateways_to(number)
        if not gateways:
            raise invalid("No route of the accounts leads to this number.", "route")
        ways = []
        for name in gateways:
            way = {"gateway": name}
            if (digits := guard.dialled(name, number, text)) != number:
                way["dialled"] = digits
            ways.append(way)
        self._check_policy(caller, guard, number, code, field, text)
        return (NumberKind.PUBLIC, number), ways

    def _check_policy(
        self, caller: Caller, guard: Guard, number: str, code: str, field: str, text: str
    ) -> None:
        verdict = guard.judge(number)
        for each in verdict.reported:
            log.warning("%s of app %s would be barred: %s", field, caller.app.id, each.rule)
            counting.barred(each.policy, each.entry, enforced=False)
        if (rule := verdict.barred) is None:
            return
        log.info("%s of app %s is barred: %s", field, caller.app.id, rule.rule)
        counting.barred(rule.policy, rule.entry)
        raise caller.forbidden(
            "pc_source_barred" if code == "pc_source_invalid" else "pc_destination_barred",
            code,
            field=field,
            value=text,
            policy=rule.policy or "built-in",
            rule=rule.entry,
            reason=rule.reason,
        )

    # Find

    def find(
        self, caller: Caller, user_name: str, extension: str, call_id: str | None = None
    ) -> list[Call]:
        """The live calls of an extension, newest first; or one call, live or ended, while Redis
        keeps it. A call that the app may not see is not found."""
        scope = caller.scope(user_name, extension)
        if call_id is not None:
            return _visible(scope, [self._store.get(call_id)])
        found: list[Call] = []
        for some in index.walk_of(self._store.redis, scope.indexes(self._store.keys)):
            found += self._live(scope, [call_id for call_id, _ in some])
        return found

    def page(
        self,
        caller: Caller,
        user_name: str,
        extension: str,
        call_id: str | None,
        asked: Listing,
        search: Search | None = None,
    ) -> Page[Call]:
        """A page of the calls that :meth:`find` finds. What is named by id or nonce is found while
        it is kept, live or ended, and a search may ask for ended calls."""
        scope, search = caller.scope(user_name, extension), search or Search()
        named = self._named(caller, call_id, asked.filter, search)
        matches = _test(caller, search, asked.filter)
        if named is not None:
            calls = list(filter(matches, in_pieces(named, partial(_visible, scope))))
            calls.sort(key=_order, reverse=asked.newest_first)
            return Page(asked.cut(calls), len(calls))
        if search.is_needed:
            return self._search(scope, search, asked, matches)
        places, total = self._page_of_live(scope.indexes(self._store.keys), asked, search.span)
        more = asked.start + len(places) < total
        if asked.cursor is not None:
            # Calls that were listed before may have ended, so their number tells nothing.
            more, places = len(places) > asked.count, places[: asked.count]
        calls = self._live(scope, [call_id for call_id, _ in places])
        last = places[-1] if places and more else None
        # A call that ended after the index was read does not count.
        return Page(calls, total - (len(places) - len(calls)), last)

    def _search(
        self, scope: Scope, search: Search, asked: Listing, matches: Callable[[Call], bool]
    ) -> Page[Call]:
        since = self._store.now() - metadata_index.LONGEST - self._settings.retention
        with piece():
            places, more = searching.window(
                *(self._store, scope, search, since),
                newest_first=asked.newest_first,
                after=asked.after,
            )
        found: list[Call] = []
        for first in range(0, len(places), index.CHUNK):
            ids = [call_id for call_id, _ in places[first : first + index.CHUNK]]
            calls = self._shown(scope, ids)
            if not search.ended:
                calls = [call for call in calls if call.state is not State.ENDED]
            found += filter(matches, calls)
            if asked.cursor is not None and len(found) > asked.count:
                break
        last = places[-1] if more else None
        if asked.cursor is None:
            return Page(asked.cut(found), len(found), last)
        total = max(asked.start + len(found), asked.cursor.total)
        if len(found) > asked.count:
            # By the time in the index, which the call's own need not equal to the last bit.
            end = found[asked.count - 1].id
            last = end, dict(places)[end]
        return Page(found[: asked.count], total, last)

    def _named(
        self, caller: Caller, call_id: str | None, by: Filter | None, search: Search
    ) -> list[Call | None] | None:
        """The calls that the request names by id or nonce; None if it names none so."""
        if call_id is not None:
            return [self._store.get(call_id)]
        if by is not None and by.names and by.by == "id":
            return in_pieces(list(dict.fromkeys(by.values)), self._store.get_many)
        if caller.voipnow:
            return None
        nonces: Iterable[str] = () if search.nonce is None else (search.nonce,)
        if by is not None and by.names and by.by == "nonce":
            nonces = dict.fromkeys(by.values)
        elif search.nonce is None:
            return None
        return [call for n in nonces for call in self._store.by_nonce(caller.app.id, n)]

    def _page_of_live(
        self, keys: Sequence[str], asked: Listing, within: Span
    ) -> tuple[list[Place], int]:
        """A page of ids from the indexes, and their number; after a cursor one id more than the
        page has. It reads only what the request needs as far as the order of one index allows."""
        redis, by = self._store.redis, asked.filter
        count = asked.count + (asked.cursor is not None)
        span = ALL if by is None else by.span if by.by == "published" else None
        if span is None and by is not None and by.by == "id" and by.op == "present":
            span = ALL
        if span is not None:
            return index.page_of(
                *(redis, keys, span.cut(within), asked.start, count),
                newest_first=asked.newest_first,
                after=asked.after,
            )
        assert by is not None
        found: list[Place] = []
        for some in index.walk_of(redis, keys, newest_first=asked.newest_first, after=asked.after):
            values: Iterable[str | float | None] = [call_id for call_id, _ in some]
            if by.by == "nonce":
                ids = [call_id for call_id, _ in some]
                values = in_pieces(ids, self._store.nonces, _NAMES)
            elif by.by == "published":
                values = [at for _, at in some]
            found += [
                place
                for place, value in zip(some, values, strict=True)
                if by.matches(value) and within.low <= place[1] < within.high
            ]
        if asked.cursor is not None:
            return found[:count], asked.start + len(found)
        return asked.cut(found), len(found)

    def _live(self, scope: Scope, ids: Sequence[str]) -> list[Call]:
        return [call for call in self._shown(scope, ids) if call.state is not State.ENDED]

    def _shown(self, scope: Scope, ids: Sequence[str]) -> list[Call]:
        return in_pieces(ids, lambda some: _visible(scope, self._store.get_many(some)))

    def unreachable(self, calls: Sequence[Call]) -> dict[str, float]:
        """The times since when the switches of live calls are unreachable, in epoch seconds, by
        the call's id."""
        switches = {c.id: c.switch for c in calls if c.switch and c.state is not State.ENDED}
        now = time.monotonic()
        old = {n for n in switches.values() if now - self._asked.get(n, -math.inf) >= _SWITCH_AGE}
        if old:
            # This is set before the answer arrives, so that only one of many requests asks.
            self._asked.update(dict.fromkeys(old, now))
            found = self._store.unreachable(old)
            kept = {name: at for name, at in self._unreachable_since.items() if name not in old}
            self._unreachable_since = {**kept, **found}
        since = self._unreachable_since
        return {call_id: since[name] for call_id, name in switches.items() if name in since}

    def places(self, calls: Sequence[Call]) -> dict[str, QueuePosition]:
        """The queue positions of the calls that wait for their turn, by id."""
        queued = [call for call in calls if call.state is State.QUEUED]
        return dict(in_pieces(queued, lambda some: self._pacer.places(some).items(), _NAMES))

    # Hang up

    def hang_up(
        self,
        caller: Caller,
        calls: Sequence[Call],
        number: str | None,
        extension: str = SELF,
        *,
        user_name: str = OWNER,
    ) -> tuple[list[Call], bool]:
        """Hang up the calls, or only the party with ``number`` in them. Returns these calls and
        whether it is done, once the switch has done it, or after RINGBACK_ACTION_TIMEOUT. Of more
        than MOST_AT_ONCE calls it is not done yet.

        Of a call that the app does not supervise, this hangs up only its own legs, and of these
        only the ones of ``extension``. ``user_name`` is the user in the URI of the request. Raises
        ApiError if the app may hang up nothing.
        """
        end = time.monotonic() + self._settings.action_timeout
        found = {call.id: number and number_in(caller, number, call) for call in calls}
        if number is not None:
            calls = [call for call in calls if found[call.id] is not None]
        only = None if extension == SELF else caller.extended(extension)
        may = in_pieces(
            calls,
            lambda some: [c for c in some if _may_hang_up(caller, c, found[c.id], only)],
            MOST_AT_ONCE,
        )
        if calls and not may:
            raise caller.lacks_right(calls[0], _OWN_LEGS)
        who = caller.who(caller.asking_user(user_name))
        if len(may) > MOST_AT_ONCE:
            self._have_ended(caller, may, found, only, who)
            return may, False
        wanted = [
            (call, self._hang_up_by(caller, who, found[call.id], only), found[call.id])
            for call in may
        ]
        concerned, unwritten = self.request_hang_ups(wanted, who)
        # Redis cannot tell the end of what it could not write.
        if not unwritten:
            concerned = self._await_ended(concerned, end)
        return concerned, not any(map(is_hang_up_pending, concerned))

    def _have_ended(
        self,
        caller: Caller,
        calls: Sequence[Call],
        numbers: Mapping[str, str | None],
        extension: str | None,
        who: Who,
    ) -> None:
        """Have workers mark the calls and hang them up: this process would take too long."""

        def parties_of(some: Sequence[Call]) -> Iterator[tuple[str, Sequence[str]]]:
            for call in some:
                number = numbers[call.id]
                if call.hangup_requested is not None:
                    # An earlier request has it done.
                    continue
                if caller.supervises(call):
                    yield call.id, (number,) if number else ()
                elif own := _own_legs(caller, call, number, extension):
                    yield call.id, tuple(dict.fromkeys(leg.number for leg in own))

        parties = dict(in_pieces(calls, parties_of, MOST_AT_ONCE))
        at = self._store.now()
        self._queue.end_many(EndMany(secrets.token_hex(6), at, asdict(who), parties))

    def _hang_up_by(
        self,
        caller: Caller,
        who: Who,
        number: str | None,
        extension: str | None,
    ) -> Callable[[Call], Call]:
        """The transition by which an app hangs up what it may of a call."""
        at = self._store.now()
        asked = Asked(secrets.token_hex(6), HANG_UP, at, who.app, who.user, number=number)

        def transition(current: Call) -> Call:
            if caller.supervises(current):
                return actions.hang_up(current, number, asked)
            # The legs as they are now: one that has lost the race meanwhile is none of them.
            own = _own_legs(caller, current, number, extension)
            for each in dict.fromkeys(leg.number for leg in own):
                current = actions.hang_up(current, each, replace(asked, number=each))
            return current

        return transition

    def request_hang_ups(
        self, wanted: Sequence[Wanted], who: Who | None = None
    ) -> tuple[list[Call], bool]:
        """Note that a client (``who``) wants calls, or parties of them, hung up, and have workers
        do it, in a few round trips. Returns the calls after that, and whether Redis refused to
        write any of it, so that listeners do it."""
        changes = []
        for call, transition, number in wanted:
            note = Note("request", "hang up", data=number, who=who, audited=audit.HANG_UP)
            changes.append(Change(call, transition, (note,)))
        errors: dict[str, Exception] = {}
        try:
            # A client relies on this answer as on the acceptance of the call.
            changed = self._store.change_many(changes, replicated=True, errors=errors)
        except NotReplicated as error:
            raise OutcomeUnknown(str(error)) from error
        found = [
            # A call that Redis no longer keeps is over.
            after or self._without_redis(change, errors.get(change.call.id))
            for change, after in zip(changes, changed, strict=True)
        ]
        pending = [call for call in found if call.switch is not None and is_hang_up_pending(call)]
        if pending := [call for call in pending if call.id not in errors]:
            self._queue.hang_up(*pending)
        return found, bool(errors)

    def _without_redis(self, change: Change, error: Exception | None) -> Call:
        """The call of a change that was not written. If Redis refuses writes, the listeners are
        asked directly to hang up. Raises the error where nobody was asked."""
        if error is None:
            return change.call
        wanted = change.transition(change.call)
        if not is_unavailable(error) or not self._store.send_hang_up(change.call, wanted):
            raise error
        log.error("call %s: Redis refused the hang-up, the listener has it: %s", wanted.id, error)
        return wanted

    def _await_ended(self, calls: Sequence[Call], end: float) -> list[Call]:
        """The calls once the switch has hung them up, or as they stand at ``end`` (monotonic)."""
        found: list[Call] = []
        for at, call in enumerate(calls):
            if (left := end - time.monotonic()) <= 0:
                rest = calls[at:]
                now = self._store.get_many(call.id for call in rest)
                return [*found, *(new or old for new, old in zip(now, rest, strict=True))]
            found.append(self._await(call, left) if is_hang_up_pending(call) else call)
        return found

    def _await(self, call: Call, timeout: float) -> Call:
        def done(current: Call) -> bool:
            return not is_hang_up_pending(current)

        return self._store.wait(call.id, done, timeout) or call


def _visible(scope: Scope, calls: Iterable[Call | None]) -> list[Call]:
    return [call for call in calls if call is not None and scope.shows(call)]


def _own_legs(caller: Caller, call: Call, number: str | None, extension: str | None) -> list[Leg]:
    """The live legs of the app's own account, with the number and of the extension if given."""
    return [
        leg
        for leg in call.legs
        if caller.acts(call, leg)
        and number in (None, leg.number)
        and extension in (None, leg.number)
    ]


def _may_hang_up(caller: Caller, call: Call, number: str | None, extension: str | None) -> bool:
    return (
        caller.supervises(call)
        or call.state is State.ENDED
        or bool(_own_legs(caller, call, number, extension))
    )


def _value(by: Filter, call: Call) -> str | float | None:
    """The value of a call that a filter compares."""
    values: dict[str, str | float | None] = {
        "id": call.id,
        "published": call.accepted,
        "nonce": call.nonce,
    }
    return values[by.by]


def _charged(caller: Caller, number: str, user: User | None, field: str) -> Extension:
    """The extension that pays, which stands in ``field`` of the body. Raises ApiError."""
    try:
        return caller.extension(number, user)
    except ApiError as error:
        error.details["field"] = field
        raise


def _room(accounts: Accounts, extension: Extension, query: dict[str, Any]) -> str:
    """The conference's room on the switch. Raises ApiError for a wrong number or PIN."""
    name = f"ringback-{extension.number.replace('*', '-')}"
    number = query.get("number")
    if number is None:
        return name
    conference = accounts.conferences.get((extension.number, number))
    if conference is None:
        raise api_error("pc_number_invalid", field="number", value=number)
    if conference.pin not in (None, query.get("pin")):
        raise api_error("pc_pin_invalid", field="pin")
    return f"{name}-{number}"


def _rules(
    accounts: Accounts, organization: Organization, view: dict[str, Any], path: str
) -> tuple[AcceptRule | None, AnnounceRule | None]:
    """Who accepts a call by a key, and who hears an announcement: as the view says, or else the
    organization. Raises ApiError for a prompt that the accounts do not have."""
    accept: AcceptRule | None = view.get("accept", organization.accept) or None
    announce: AnnounceRule | None = view.get("announce", organization.announce) or None
    prompts = accounts.prompts_of(organization.number)
    for field, rule in (("accept", accept), ("announce", announce)):
        if (name := missing(prompts, rule)) is not None:
            reason = "The accounts have no prompt of this name."
            where = f"{path}/{field}/prompt"
            raise api_error(f"pc_{field}_invalid", reason, field=where, value=name)
    return accept, announce


def _with_prompts(leg: Leg, accept: AcceptRule | None, announce: AnnounceRule | None) -> Leg:
    return evolve(
        leg,
        accept=accept and accept.accept(leg.role, leg.kind),
        announce=announce and announce.announce(leg.role),
    )


def _same_view(
    caller: Caller, guard: Guard, extension: Extension, view: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """What a view asks for, in one form: without defaults, and without the order of numbers that
    ring at once."""
    defaults: dict[str, Any] = {"accept": False, "announce": False}
    if (organization := guard.organization) is not None:
        defaults["accept"] = organization.accept or False
        defaults["announce"] = organization.announce or False
        if not any(each.ringback for each in caller.accounts.gateways):
            defaults["ringback"] = organization.ringback or ringback.AUTO
    for name in ("callerId", "callerIdDestination"):
        defaults[name] = guard.shown(extension.default_caller_id)
    for name, value in view.items():
        if name in ("source", "destination"):
            yield name, sorted({_key(caller, guard, number) for number in value})
        elif name == "headers":
            # The names of SIP headers have no case.
            sides = extras.headers_of(view)
            if sides:
                yield name, {s: {n.lower(): v for n, v in of.items()} for s, of in sides.items()}
        else:
            form = guard.shown(value) if name.startswith("callerId") else value
            if form != defaults.get(name):
                yield name, form


def _key(caller: Caller, guard: Guard, number: str) -> str:
    """The text by which two ways to write a number are one."""
    if (extended := caller.extended(number)) in caller.accounts.extensions:
        return extended
    try:
        return same(guard.canonical(number))
    except ValueError:
        return same(number)


def number_in(caller: Caller, number: str, call: Call) -> str | None:
    """The number as a leg of the call has it: a short number may mean an extension, and a public
    number may be written in another way. None if no leg has it."""
    return _first_with(call, _spellings(caller, number, call.extension))


def _spellings(caller: Caller, number: str, extension: str) -> set[str]:
    """The ways in which the calls of an extension may have a number."""
    guard = Guard.of(caller.accounts, extension, [], [])
    return {caller.extended(number), same(number), _key(caller, guard, number)}


def _first_with(call: Call, wanted: set[str]) -> str | None:
    found = (leg.number for leg in call.legs if {leg.number, same(leg.number)} & wanted)
    return next(found, None)


def _test(caller: Caller, search: Search, by: Filter | None) -> Callable[[Call], bool]:
    """Whether a call is one that a list is asked for."""
    spellings = cache(partial(_spellings, caller, search.number or ""))

    def matches(call: Call) -> bool:
        return (
            search.matches(call)
            and (by is None or by.matches(_value(by, call)))
            and (search.number is None or _first_with(call, spellings(call.extension)) is not None)
        )

    return matches


def _order(call: Call) -> tuple[float, str]:
    return index.in_order((call.id, call.accepted))


def _checked_ringback(prompts: Mapping[str, Prompt], chosen: str | None, path: str) -> str | None:
    """The choice of a view. Raises ApiError."""
    if chosen is not None:
        try:
            ringback.check(chosen, prompts)
        except ValueError as error:
            about: dict[str, Any] = {"field": f"{path}/ringback", "value": chosen}
            raise api_error("pc_ringback_invalid", str(error), **about) from error
    return chosen


def _progress_timeout(
    accounts: Accounts, followed: Sequence[dict[str, str]], way: dict[str, str]
) -> int | None:
    """The progress_timeout of a way that another one follows, if it is not the default."""
    if way not in followed or "gateway" not in way:
        return None
    found = accounts.gateway(way["gateway"]).progress_timeout
    return None if found == PROGRESS_TIMEOUT else found


def checked_caller_id(guard: Guard, extension: Extension, text: str, field: str) -> str:
    """The caller id of a request, in the form that is shown. Raises ApiError if the charged
    extension may set none, or may not show this one."""
    reason = None
    if not extension.may_set_caller_id:
        reason = f"Extension {extension.number} may not set a caller id."
    elif not guard.may_show(text):
        reason = "The accounts' caller_ids do not list this number."
    if reason is not None:
        counting.barred(None, CALLER_ID_ENTRY)
        raise api_error("pc_callerid_invalid", reason, cause="barred", field=field, value=text)
    return guard.shown(text)
