"""The console's service without its HTTP."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from redis import Redis

from app.accounts.caller import OWNER, SELF, Caller
from app.accounts.model import Level
from app.accounts.scopes import AppScope
from app.calls.model import Call
from app.cdr.store import CdrStore
from app.console import access, trail
from app.console.charts import Charts
from app.console.queues import lines
from app.console.resource import detail, record_row, row
from app.console.sessions import Sessions
from app.errors import api_error
from app.numbers import is_digits, same, without_punctuation
from app.phone_calls.services import PhoneCalls
from app.records.model import Holder, Record
from app.store.calls import CallStore
from app.store.index import Span
from app.store.queue import JobQueue, workers
from app.store.queue import queues as job_queues
from app.store.switches import SwitchStore
from app.web.listing import MAX_VALUES, Filter, Kind, Listing, turn
from app.web.turns import LISTS, in_pieces

# The most live calls on one page, and the most live and ended calls that a search reads.
PAGE = 200
_LIVE_LOOKED_AT = 2000
_ENDED_LOOKED_AT = 3000
# The most ended calls that a search finds.
_FOUND = 50


@dataclass(frozen=True)
class Console:
    """The service that reads for the pages. Changes go through the services of the API."""

    redis: Redis
    store: CallStore
    queue: JobQueue
    phone_calls: PhoneCalls
    records: CdrStore
    sessions: Sessions
    charts: Charts
    switches: SwitchStore

    @classmethod
    def create(
        cls, store: CallStore, queue: JobQueue, phone_calls: PhoneCalls, records: CdrStore
    ) -> "Console":
        redis, keys = store.redis, store.keys
        return cls(
            redis,
            store,
            queue,
            phone_calls,
            records,
            Sessions(redis, keys),
            Charts(redis, keys),
            SwitchStore(redis, keys),
        )

    def live(self, caller: Caller) -> dict[str, Any]:
        """The newest live calls, and the number of all."""
        with LISTS.of(caller.app.id):
            page = self.phone_calls.page(caller, OWNER, SELF, None, Listing(count=PAGE))
            rows = self.rows(caller, page.rows)
        return {"calls": rows, "total": page.total, "now": self.store.now()}

    def named(self, caller: Caller, ids: Sequence[str]) -> dict[str, Any]:
        """The calls with these ids that Redis keeps and the app may see, and the number of live
        calls."""
        with turn(caller, Listing(count=len(ids))):
            rows = self.rows(caller, self._of(caller, "id", ids))
        total = self.phone_calls.page(caller, OWNER, SELF, None, Listing(count=0)).total
        return {"calls": rows, "total": total, "now": self.store.now()}

    def search(self, caller: Caller, text: str) -> dict[str, Any]:
        """The calls whose id or nonce is the text, and of the newest live and ended calls those
        with a number that contains the text. Raises ApiError if too many searches wait."""
        with LISTS.of(caller.app.id):
            return self._search(caller, text)

    def _search(self, caller: Caller, text: str) -> dict[str, Any]:
        named = self._of(caller, "id", [text]) + self._of(caller, "nonce", [text])
        live: list[Call] = []
        for start in range(0, _LIVE_LOOKED_AT, 500):
            asked = Listing(start=start, count=500)
            page = self.phone_calls.page(caller, OWNER, SELF, None, asked)
            live += [call for call in page.rows if _has(text, _words(call))]
            if start + 500 >= page.total:
                break
        known = {call.id: call for call in (*named, *live)}
        rows = self.rows(caller, list(known.values())[:PAGE])
        records = self._ended(caller, text) if AppScope.CDR_READ in caller.app.granted else ()
        ended = [record_row(r) for r in records if r["id"] not in known]
        return {"calls": [*rows, *ended], "now": self.store.now()}

    def detail(self, caller: Caller, call_id: str) -> dict[str, Any]:
        """The details of a call. Raises ApiError."""
        found = self.phone_calls.find(caller, OWNER, SELF, call_id)
        if not found:
            raise api_error("pc_phonecall_invalid", cause="unknown")
        unreachable, places = self.phone_calls.unreachable(found), self.phone_calls.places(found)
        shown = detail(
            *(
                found[0],
                unreachable.get(call_id),
                places.get(call_id),
                self.store.timeline(call_id),
            ),
            inside=_is_inside(caller),
        )
        # The page offers what the app may do: all with a call that it supervises, else something
        # with its own legs.
        acts = AppScope.CALLS_ACT in caller.app.granted
        own = [leg.id for leg in found[0].legs if acts and caller.acts(found[0], leg)]
        may = {"supervises": acts and caller.supervises(found[0]), "own": own}
        return shown | may | {"now": self.store.now()}

    def rows(self, caller: Caller, calls: Sequence[Call]) -> list[dict[str, Any]]:
        unreachable, places = self.phone_calls.unreachable(calls), self.phone_calls.places(calls)
        inside = _is_inside(caller)

        def make(some: Sequence[Call]) -> Iterator[dict[str, Any]]:
            return (row(c, unreachable.get(c.id), places.get(c.id), inside=inside) for c in some)

        return in_pieces(calls, make)

    def chart(self, caller: Caller, span: str) -> dict[str, Any]:
        keys, holder = self.store.keys, _holder(caller)
        live = keys.calls
        if holder.user is not None:
            live = keys.user_calls(holder.user)
        elif holder.organization is not None:
            live = keys.organization_calls(holder.organization)
        now = self.store.now()
        # A chart may be some seconds old; ``now`` never is.
        return self.charts.chart(holder.index(keys), live, span, now) | {"now": now}

    def queues(self, caller: Caller) -> dict[str, Any]:
        return {
            "queues": job_queues(self.redis, self.queue),
            "workers": workers(self.redis, self.store.keys),
            "lines": lines(self.redis, self.store.keys, caller.accounts),
            "now": self.store.now(),
        }

    def all_switches(self) -> dict[str, Any]:
        found = self.switches.get_many(self.switches.names())
        return {
            "switches": [{**asdict(each), "state": each.state} for each in found],
            "now": self.store.now(),
        }

    def access(self, caller: Caller) -> dict[str, Any]:
        """The organizations and the apps with their state."""
        return {**access.shown(caller.accounts), "now": self.store.now()}

    def change_access(
        self, caller: Caller, verb: str, name: str, why: str, *, hang_up: bool
    ) -> int:
        """Suspend, resume, disable or enable, and hang up. Returns how many calls that ended."""
        words = (self.store, self.phone_calls, caller, verb, name)
        return access.change(*words, why=why, hang_up=hang_up)

    def audit(self, query: Mapping[str, str], before: str) -> dict[str, Any]:
        """A page of the audit."""
        wanted = {name: query.get(name) or None for name in trail.FILTERS}
        return trail.page(self.redis, self.store.keys, wanted, before) | {"now": self.store.now()}

    def _of(self, caller: Caller, by: str, values: Sequence[str]) -> list[Call]:
        """The calls by id or by nonce, live or ended, that the app may see."""
        one_of = Filter(by, "inArray", tuple(values), Kind.TEXT)
        asked = Listing(count=MAX_VALUES, filter=one_of)
        return self.phone_calls.page(caller, OWNER, SELF, None, asked).rows

    def _ended(self, caller: Caller, text: str) -> list[Record]:
        found: list[Record] = []
        looked_at = 0
        for some in self.records.walk(_holder(caller), Span(), newest_first=True):
            found += [r for r in some if _has(text, _words_of_record(r))]
            looked_at += len(some)
            if looked_at >= _ENDED_LOOKED_AT or len(found) >= _FOUND:
                break
        return found[:_FOUND]


def _holder(caller: Caller) -> Holder:
    """Whose records and calls the app may see."""
    if caller.app.level is Level.USER:
        return Holder(user=caller.app.user or "")
    organization = caller.organization
    return Holder() if organization is None else Holder(organization.number)


def _is_inside(caller: Caller) -> bool:
    return caller.app.level is Level.ADMINISTRATOR


def _has(text: str, words: Iterable[str | None]) -> bool:
    """Whether one of the words has the text, or its number however it is written."""
    number = same(without_punctuation(text))
    wanted = {text, number} if is_digits(number) else {text}
    return any(word is not None and any(each in word for each in wanted) for word in words)


def _words(call: Call) -> Iterable[str | None]:
    return (call.id, call.nonce, call.extension, *(leg.number for leg in call.legs))


def _words_of_record(record: Record) -> Iterable[str | None]:
    numbers = (*record["source"], *record["destination"])
    return (record["id"], record.get("nonce"), record["extension"], *numbers)
