"""Erases a person from Redis: looks at every key, a few hundred at a time, and changes what holds
the number.

A call that has ended is changed as any other change of a call, by change.lua, so that no process
writes back what it read before. Streams are written anew beside the old ones, with the same ids,
and take their place in one step. A live call goes on, and is remembered until it has ended.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
from redis import Redis
from redis.exceptions import WatchError

from app.accounts.model import Accounts
from app.calls import cdr, erasing
from app.calls.erasing import ERASED
from app.calls.model import Call, State, changed_fields, evolve
from app.privacy import jobs
from app.privacy.person import Person
from app.recording_files import RecordingFiles
from app.store import metadata_index, scripts, writes
from app.store.audit import Who
from app.store.index import Place
from app.store.keys import Keys
from app.store.reading import CallReader
from app.store.replies import from_reply, of_its_type, pairs, readable
from app.store.streams import rewrite, walk
from app.store.writes import Note

if TYPE_CHECKING:
    from app.records.archive import Archive

# Keys, or entries of a stream, that are read in one round trip.
_AT_ONCE = 200
# Seconds for which messages that are being sent are looked at again, and between two looks.
_SENDING, _PAUSE = 30.0, 0.5
# The name of a caller in a command of the switch.
_NAME = re.compile(rb"caller_id_name=(?:'(?:[^'\\]|\\.)*'|[^,\]}]*)")
# Fields of a waiting message by which it is delivered.
_ROUTING = frozenset({"id", "extension", "holder", "event", "for", "type", "test", "callback"})


@dataclass
class Report:
    """What holds the person: a number for each kind of thing."""

    found: Counter[str] = field(default_factory=Counter)
    # The ids of calls that go on.
    live: set[str] = field(default_factory=set)
    # How many RQ jobs wait or run.
    waiting_jobs: int = 0
    # The files of recordings that this host has not.
    elsewhere: set[str] = field(default_factory=set)
    # Whether the accounts hold the number.
    accounts: bool = False


def digest(person: Person, key: str | None) -> str:
    """What the audit has in place of a number: 32 hex digits of an HMAC with ``key``.

    Without a key it is random: nobody can find the number by trying all numbers.
    """
    secret = key.encode() if key else secrets.token_bytes(32)
    return hmac.new(secret, person.key.encode(), hashlib.sha256).hexdigest()[:32]


class Eraser:
    """Erases one person, or counts what it would erase."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        accounts: Accounts,
        person: Person,
        mark: str,
        files: RecordingFiles,
        who: Who,
        *,
        write: bool,
        archive: "Archive | None" = None,
    ) -> None:
        """``mark`` is the digest for the audit. Without ``write`` nothing changes. ``archive`` is
        the database of records, if there is one."""
        self._redis: Any = redis
        self._keys = keys
        self._reader = CallReader(redis, keys)
        self._countries = {number: o.country for number, o in accounts.organizations.items()}
        self._person = person
        self._mark = mark
        self._files = files
        self._who = who
        self._write = write
        self._archive = archive
        self.report = Report()
        # The calls whose records are counted, and the files of recordings.
        self._seen: set[str] = set()

    # All of Redis

    def run(self, tell: Callable[[int], None] = lambda _: None) -> Report:
        """Erase everything. ``tell`` is told how many keys have been looked at.

        Raises an error of Redis, or RecordsUnavailable. A run that ends early is carried on by
        another one.
        """
        report, keys = self.report, self._keys
        looked_at = 0
        for some in _parts(self._redis.scan_iter(match=f"{_plain(keys.prefix)}*", count=1000)):
            self._look(some)
            tell(looked_at := looked_at + len(some))
        # After Redis: an exporter that has read a record before exports it once more.
        self._archived()
        for key in (keys.audit, keys.audit_calls):
            report.found["audit"] += rewrite(self._redis, key, self._audited, write=self._write)
        done, report.waiting_jobs = jobs.erase(self._redis, keys, self._person, write=self._write)
        report.found["jobs"] += done
        # What these become is looked at after they are empty.
        report.found["messages"] += self._outbox()
        report.found["messages"] += self._waiting_messages()
        report.accounts = self._is_in_accounts()
        # The entries of calls that have ended meanwhile too.
        report.found["changes"] += self._changes()
        return report

    def _is_in_accounts(self) -> bool:
        """Whether the accounts hold the person. What would undo a change and holds the person is
        deleted: that change can be undone no more."""
        keys = self._keys
        for key in (keys.account_undo(""), keys.account_changes("")):
            for name in self._redis.scan_iter(match=f"{_plain(key)}*", count=1000):
                # A change that is not merged yet has no end. Its rows are needed.
                if self._write and self._redis.ttl(name) != -1 and self._hides(name):
                    self._redis.unlink(name)
        document = self._redis.hget(keys.accounts, "document")
        found = document is not None and self._person.hides(document.decode())
        return found or self._hides(keys.account_rows)

    def _hides(self, key: Any) -> bool:
        """Whether a hash of rows of the accounts holds the person."""
        return any(
            self._person.hides(f"{name.decode()} {text.decode()}")
            for name, text in self._redis.hscan_iter(key, count=1000)
        )

    def _look(self, names: Sequence[bytes]) -> None:
        calls: list[str] = []
        records: list[str] = []
        timelines: list[str] = []
        prefix = self._keys.prefix
        for each in names:
            # A key of another program may be any bytes.
            key = each.decode(errors="replace")
            name = key.removeprefix(prefix)
            if name.startswith("call:{"):
                call_id, _, more = name.removeprefix("call:{").partition("}")
                (timelines if more == ":timeline" else calls).append(call_id)
            elif name.startswith("cdr:{"):
                records.append(name.removeprefix("cdr:{").removesuffix("}"))
            elif name.startswith("webhooks:dead"):
                self.report.found["dead_letters"] += self._dead_letters(key)
            elif name == "alerts":
                rewrite(self._redis, key, self._plain_entry, write=self._write)
            elif name.startswith("nonce:") and self._person.hides(name):
                self._nonce(key)
            elif name.startswith(("quota:window:", "quota:alert:")) and self._person.hides(name):
                self.report.found["windows"] += 1
                if self._write:
                    self._redis.delete(key)
        self._calls(calls)
        self._timelines(timelines)
        self._records(records)

    # Calls

    def _calls(self, ids: Sequence[str]) -> None:
        for call_id, flat in zip(ids, self._hashes(ids), strict=True):
            if not flat or not self._mentions(flat):
                continue
            call = readable(call_id, flat)
            if call is None or self._erased(call) is call:
                continue
            if call.state is not State.ENDED:
                self._remember(call_id)
                continue
            self.report.found["calls"] += 1
            self._recordings(_files_of(call))
            if self._redis.exists(self._keys.record(call_id)):
                self._count_record(call_id)
            if self._write:
                self.erase_call(call)

    def _hashes(self, ids: Sequence[str]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipe:
            for call_id in ids:
                pipe.hgetall(self._keys.call(call_id))
            return of_its_type(pipe.execute(raise_on_error=False)) if ids else []

    def _mentions(self, flat: Mapping[bytes, bytes]) -> bool:
        person = self._person
        if person.user is not None and person.user.encode() in flat.values():
            return True
        text = "\n".join(v.decode(errors="replace") for v in flat.values())
        # JSON may have any character as \\u and its number.
        return "\\u" in text or person.hides(text)

    def _erased(self, call: Call) -> Call:
        organization = call.extension.partition("*")[0]
        return erasing.erased(call, self._person, self._countries.get(organization))

    def erase_call(self, call: Call) -> None:
        """Erase the person from a call that has ended, with its nonce and indexes. The timeline and
        the stream of changes are left to others."""
        keys = self._keys
        while True:
            new = self._erased(call)
            if new is call:
                return
            new = evolve(new, version=call.version + 1, stamp=writes.stamp())
            now = self._reader.now()
            names, arguments = writes.packed(call, list(self._commands(call, new, now)))
            words = (len(names), *names, *arguments)
            reply = scripts.run(self._redis, scripts.CHANGE, words)
            if reply == 1:
                break
            current = from_reply(pairs(reply))
            if current is None:
                return
            call = current
        with self._redis.pipeline(transaction=False) as pipe:
            if call.nonce is not None:
                # Of a call that a job placed, whose nonce is the job's id.
                pipe.delete(keys.request(call.nonce))
            if call.user != new.user:
                pipe.zrem(keys.user_records(call.user), call.id)
            for key in _metadata_keys(keys, call):
                if key not in _metadata_keys(keys, new):
                    pipe.zrem(key, call.id)
            pipe.execute()
        if call.nonce is not None and call.nonce != new.nonce:
            self._nonce(keys.nonce(call.app, call.nonce))

    def finish_call(self, call_id: str, call: Call | None) -> None:
        """Erase the person from everything of one call that has ended. ``call`` is None if Redis no
        longer keeps it."""
        since = "-"
        if call is not None:
            since = f"{int(call.accepted * 1000)}"
            self._recordings(_files_of(call))
            self.erase_call(call)
        self._timelines([call_id])
        self._records([call_id])
        self._archived(None if call is None else [(call_id, call.accepted)])
        self._changes(since, call_id)
        keys = self._keys
        for key in (keys.audit, keys.audit_calls):
            rewrite(self._redis, key, self._audited, since=since)
        apps = self._redis.hkeys(f"{keys.webhooks}sizes")
        for key in (keys.dead_letters, *map(keys.dead_letters_of, map(bytes.decode, apps))):
            self._dead_letters(key, since)
        self._outbox()
        for organization in self._redis.zrange(f"{keys.webhooks}incoming", 0, -1):
            self._lane(f"{keys.webhooks}in:".encode() + organization)
        # Those of an older version are in one set.
        targets = list(self._redis.zrange(keys.webhook_targets, 0, -1))
        for app in self._redis.zrange(keys.webhook_apps, 0, -1):
            targets += self._redis.zrange(keys.webhook_targets_of(app.decode()), 0, -1)
        for target in targets:
            for lane in self._redis.zrange(f"{keys.webhooks}due:{target.decode()}", 0, -1):
                if lane.startswith(f"{call_id}|".encode()):
                    self._lane(f"{keys.webhooks}lane:".encode() + lane)

    def _commands(self, old: Call, new: Call, now: float) -> Iterator[tuple[str, ...]]:
        """The commands of the change. They tell no receiver of call events, and keep what Redis
        keeps no longer than before."""
        keys, at = self._keys, f"{now:.6f}"
        fields = changed_fields(old, new)
        shown = {n: v for n, v in fields.items() if n not in ("status_callback", "sip_headers")}
        yield "HSET", keys.call(new.id), *_flat(fields)
        event = writes.change_event(new, at, orjson.dumps(shown).decode())
        yield "XADD", keys.events, "MAXLEN", "~", str(writes.EVENTS_MOST), "*", *_flat(event)
        note = writes.entry(Note("request", "erase", who=self._who), at)
        yield "XADD", keys.timeline(new.id), "NOMKSTREAM", "*", *_flat(note)
        text = orjson.dumps({**cdr.record(new), "saved": now}).decode()
        yield "SET", keys.record(new.id), text, "XX", "KEEPTTL"
        yield "XADD", keys.unexported, "NOMKSTREAM", "*", "id", new.id

    def _remember(self, call_id: str) -> None:
        """Have the call erased when it has ended (:func:`finish`)."""
        self.report.live.add(call_id)
        if self._write:
            text = orjson.dumps([self._mark, self._person.dumps()]).decode()
            self._redis.hset(self._keys.erasing, f"{call_id} {self._person.key}", text)

    # Timelines and the stream of changes

    def _timelines(self, ids: Sequence[str]) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for call_id in ids:
                pipe.xrange(self._keys.timeline(call_id))
            found = of_its_type(pipe.execute(raise_on_error=False)) if ids else []
        hold = [
            call_id
            for call_id, entries in zip(ids, found, strict=True)
            if any(self._plain_entry(entry) is not None for _, entry in entries or ())
        ]
        for call_id, flat in zip(hold, self._hashes(hold), strict=True):
            if flat and flat.get(b"state") != State.ENDED.encode():
                self._remember(call_id)
                continue
            self.report.found["timelines"] += 1
            self.erase_timeline(call_id)

    def erase_timeline(self, call_id: str) -> None:
        key = self._keys.timeline(call_id)
        rewrite(self._redis, key, self._plain_entry, write=self._write)

    def _changes(self, since: str = "-", only: str | None = None) -> int:
        """Delete the entries of the stream of changes that hold the number and are of no live call.
        Returns how many there are."""
        key, count = self._keys.events, 0
        while True:
            entries = self._redis.xrange(key, since, "+", count=_AT_ONCE)
            if not entries:
                return count
            gone = [i for i, entry in entries if entry and self._is_gone(entry, only)]
            count += len(gone)
            if gone and self._write:
                self._redis.xdel(key, *gone)
            since = f"({entries[-1][0].decode()}"

    def _is_gone(self, entry: Mapping[bytes, bytes], only: str | None) -> bool:
        call_id = entry.get(b"call", b"").decode()
        if (only is not None and call_id != only) or call_id in self.report.live:
            return False
        user = self._person.user
        text = entry.get(b"changed", b"").decode(errors="replace")
        if user is not None:
            owned = f':owner":"{user}"' in text or f':asked_user":"{user}"' in text
            if owned or entry.get(b"user") == user.encode():
                return True
        return self._plain_entry(entry) is not None

    # Records

    def _records(self, ids: Sequence[str]) -> None:
        texts = self._redis.mget(map(self._keys.record, ids)) if ids else []
        for call_id, text in zip(ids, texts, strict=True):
            if text is None:
                continue
            was = orjson.loads(text)
            if (new := self._record_if_held(was)) is None:
                continue
            self._count_record(call_id)
            self._recordings(_files_of_record(was))
            if not self._write:
                continue
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(self._keys.record(call_id), orjson.dumps(new), xx=True, keepttl=True)
                pipe.xadd(self._keys.unexported, {"id": call_id}, nomkstream=True)
                if new.get("user") != was.get("user"):
                    pipe.zrem(self._keys.user_records(was["user"]), call_id)
                pipe.execute()

    def _archived(self, places: Sequence[Place] | None = None) -> None:
        """Erase the person from the database of records, in all records or those at the places."""
        if self._archive is None:
            return
        if self._write:
            changed: Iterable[Mapping[str, Any]] = (
                was for was, _ in self._archive.rewrite(self._record_if_held, places)
            )
        else:
            held = self._archive.each() if places is None else self._archive.at(places)
            changed = (record for record in held if self._record_if_held(record) is not None)
        for was in changed:
            self._count_record(was["id"])
            self._recordings(_files_of_record(was))

    def _record_if_held(self, record: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record without the person; None if it does not hold the person, or is of a live
        call."""
        person, written = self._person, orjson.dumps(record).decode()
        if not person.hides(written) and not (person.user and f'"{person.user}"' in written):
            return None
        new = self._record(record)
        return None if new == record or record["id"] in self.report.live else new

    def _count_record(self, call_id: str) -> None:
        # A change of a call writes its record too.
        if call_id not in self._seen:
            self._seen.add(call_id)
            self.report.found["records"] += 1

    def _record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record without the person."""
        person = self._person
        organization = str(record.get("extension", "")).partition("*")[0]
        country = self._countries.get(organization)

        def number(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
            found = {n: person.word(row[n], organization) for n in names if n in row}
            return {**row, **found}

        new: dict[str, Any] = dict(record)
        for name in ("caller_id", "caller_id_destination"):
            if name in new:
                new[name] = erasing.caller_id(new[name], person, organization, country)
        for side in ("source", "destination"):
            new[side] = list(dict.fromkeys(person.word(n, organization) for n in new[side]))
        new = number(new, "extension")
        for name, numbers in (("legs", ["number"]), ("actions", ["party", "number"])):
            if name in new:
                new[name] = [number(row, *numbers) for row in new[name]]
        hidden: dict[str, Any] = erasing.in_value(new, person, country)
        return hidden

    # The audit, dead letters, messages

    def _audited(self, entry: Mapping[bytes, bytes]) -> dict[bytes, bytes] | None:
        row = {n.decode(): v.decode(errors="replace") for n, v in entry.items()}
        organization = row.get("organization")
        new = dict(row)
        for name in ("on", "data"):
            if name in row:
                hidden = self._person.hide(row[name], self._countries.get(organization or ""))
                words = hidden.split(" ")
                new[name] = " ".join(self._person.word(w, organization) for w in words)
        if self._person.user is not None and row.get("user") == self._person.user:
            new["user"] = ERASED
        # An entry may have the digest of another person already.
        marked = f"{ERASED}:{self._mark}"
        changed = {n: re.sub(f"{ERASED}(?!:)", marked, v) for n, v in new.items()}
        found = {n: (v if new[n] == row[n] else changed[n]) for n, v in new.items()}
        return _bytes(found) if new != row else None

    def _dead_letters(self, key: str, since: str = "-") -> int:
        """Erase the number from the dead letters of an app, and count their bytes anew."""
        more = 0
        for entry in walk(self._redis, key, since):
            if (new := self._letter(entry)) is not None:
                more += _bytes_of(new) - _bytes_of(entry)
        count = rewrite(self._redis, key, self._letter, write=self._write, since=since)
        # Those of an older version, of all apps together, have no count.
        if more and self._write and key != self._keys.dead_letters:
            app = key.removeprefix(f"{self._keys.dead_letters}:")
            self._redis.hincrby(f"{self._keys.webhooks}sizes", app, more)
        return count

    def _letter(self, entry: Mapping[bytes, bytes]) -> dict[bytes, bytes] | None:
        return self._hidden(entry, ())

    def _plain_entry(self, entry: Mapping[bytes, bytes]) -> dict[bytes, bytes] | None:
        new = self._hidden(entry, ("at", "call", "version"))
        if new is not None and b"data" in new:
            # A command has the name beside the number.
            new[b"data"] = _NAME.sub(f"caller_id_name={ERASED}".encode(), new[b"data"])
        return new

    def _hidden(
        self, entry: Mapping[bytes, bytes], but: Iterable[str]
    ) -> dict[bytes, bytes] | None:
        """The entry of a stream with the number erased; None if it has none."""
        row = {n.decode(): v.decode(errors="replace") for n, v in entry.items()}
        new = {n: v if n in but else self._text(v) for n, v in row.items()}
        if self._person.user is not None and row.get("user") == self._person.user:
            new["user"] = ERASED
        return _bytes(new) if new != row else None

    def _text(self, text: str) -> str:
        """A text, or a JSON document, with the number erased."""
        user = self._person.user
        if not (self._person.hides(text) or "\\u" in text or (user and f'"{user}"' in text)):
            return text
        return erasing.in_text(text, self._person)

    def _outbox(self) -> int:
        def change(entry: Mapping[bytes, bytes]) -> dict[bytes, bytes] | None:
            return self._hidden(entry, _ROUTING)

        return rewrite(self._redis, self._keys.outbox, change, write=self._write)

    def _waiting_messages(self) -> int:
        """Erase the number from messages that wait. One that is being sent may be written back as
        it was, so they are looked at again."""
        count, end = 0, time.monotonic() + _SENDING
        while True:
            found = 0
            # In lanes, and on their way from the outbox to these.
            for kind in ("lane", "in"):
                match = f"{_plain(self._keys.webhooks)}{kind}:*"
                for some in _parts(self._redis.scan_iter(match=match, count=1000)):
                    found += sum(map(self._lane, some))
            count = max(count, found)
            if not found or not self._write or time.monotonic() >= end:
                return count
            time.sleep(_PAUSE)

    def _lane(self, key: bytes) -> int:
        while True:
            with self._redis.pipeline() as pipe:
                pipe.watch(key)
                texts = pipe.lrange(key, 0, -1)
                new = [self._message(text.decode()) for text in texts]
                hold = [n for n, text in enumerate(texts) if new[n] != text.decode()]
                if not hold or not self._write:
                    return len(hold)
                pipe.multi()
                for place in hold:
                    pipe.lset(key, place, new[place])
                try:
                    pipe.execute()
                except WatchError:
                    continue
                return len(hold)

    def _message(self, text: str) -> str:
        message = orjson.loads(text)
        new = {
            name: value if name in _ROUTING else erasing.in_value(value, self._person)
            for name, value in message.items()
        }
        return text if new == message else orjson.dumps(new).decode()

    # Others

    def _nonce(self, key: str) -> None:
        """Remove a nonce whose name holds the number, once its calls have ended."""
        if (value := self._redis.get(key)) is None:
            return
        ids = value.decode().split(",")
        states = [flat.get(b"state") for flat in self._hashes(ids) if flat]
        if any(state != State.ENDED.encode() for state in states):
            return
        self.report.found["nonces"] += 1
        if self._write:
            self._redis.delete(key)

    def _recordings(self, paths: Iterable[str]) -> None:
        for path in dict.fromkeys(paths):
            if path in self._seen:
                continue
            self._seen.add(path)
            if self._files.find(path) is None:
                if not self._files.is_reachable():
                    self.report.elsewhere.add(path)
                continue
            self.report.found["recordings"] += 1
            if self._write:
                self._files.delete(path)


def finish(
    redis: Redis,
    keys: Keys,
    accounts: Accounts,
    files: RecordingFiles,
    who: Who,
    archive: "Archive | None" = None,
) -> int:
    """Erase the calls that were live when their person was erased, and have ended. Returns how many
    calls were erased. Raises an error of Redis, or RecordsUnavailable."""
    waiting: Any = redis.hgetall(keys.erasing)
    done = 0
    for name, text in waiting.items():
        call_id = name.decode().partition(" ")[0]
        mark, person = orjson.loads(text)
        call = CallReader(redis, keys).get(call_id)
        if call is not None and call.state is not State.ENDED:
            continue
        eraser = Eraser(
            *(redis, keys, accounts, Person.loads(person), mark, files, who),
            write=True,
            archive=archive,
        )
        eraser.finish_call(call_id, call)
        redis.hdel(keys.erasing, name.decode())
        done += 1
    return done


def _parts(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(names)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _plain(prefix: str) -> str:
    """The prefix as a pattern of SCAN that means nothing else."""
    return "".join(f"\\{c}" if c in "*?[]\\^" else c for c in prefix)


def _flat(fields: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(text for item in fields.items() for text in item)


def _bytes(row: Mapping[str, str]) -> dict[bytes, bytes]:
    return {n.encode(): v.encode() for n, v in row.items()}


def _bytes_of(entry: Mapping[bytes, bytes]) -> int:
    """The bytes of an entry as workers/webhooks/lanes.lua counts them."""
    return sum(len(name) + len(value) for name, value in entry.items())


def _files_of(call: Call) -> list[str]:
    paths = (*(leg.recording_file for leg in call.legs), *(asked.file for asked in call.actions))
    return [path for path in paths if path]


def _files_of_record(record: Mapping[str, Any]) -> list[str]:
    rows = (*record.get("legs", ()), *record.get("actions", ()))
    return [row["recording"] for row in rows if row.get("recording")]


def _metadata_keys(keys: Keys, call: Call) -> list[str]:
    found = orjson.loads(call.metadata) if call.metadata else {}
    return [
        metadata_index.key(keys, organization, name, value)
        for organization in call.organizations
        for name, value in found.items()
    ]
