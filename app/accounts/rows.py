"""Rows: the accounts as Redis and processes hold them, one short JSON text for each row.

A row's name has its kind and its key, ``extensions 0003*210``. Its text has the other fields of the
accounts file that are not the default. A process keeps the texts and makes a value of one when it
looks at it: 100,000 extensions as values would take some hundred bytes more each.
"""

import json
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, ValuesView
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache, cached_property
from typing import Any, Generic, TypeVar

import orjson
from marshmallow import EXCLUDE, ValidationError

from app.accounts.credential_schemas import ClientSecretSchema, Moment, TokenSchema, moment_text
from app.accounts.model import (
    Accounts,
    App,
    Compatibility,
    Extension,
    ExtensionType,
    Level,
    Organization,
    User,
)
from app.accounts.prompt_schemas import AcceptSchema, AnnounceSchema
from app.accounts.schemas import row_schemas
from app.accounts.scopes import AppScope

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")
# Rows by kind and key.
Tables = dict[str, dict[str, bytes]]

# The fields that a row's key is made of, by kind.
KEYS = {
    "organizations": ("number",),
    "users": ("id",),
    "extensions": ("number",),
    "apps": ("id",),
    "routes": ("prefix",),
    "conferences": ("extension", "number"),
    "rates": ("prefix",),
    "gateways": ("name",),
    "policies": ("name",),
    "prompts": ("name",),
}
# The most values that a table keeps beside its texts.
_MADE = 1000


def texts_of(accounts: Accounts) -> dict[str, bytes]:
    """The texts of all rows, by name."""
    found: dict[str, bytes] = {}
    for kind in KEYS:
        rows = getattr(accounts, kind)
        if isinstance(rows, Table):
            found |= {f"{kind} {key}": text for key, text in rows.texts.items()}
        else:
            for row in rows.values() if isinstance(rows, Mapping) else rows:
                key, text = _text_of(kind, row)
                found[f"{kind} {key}"] = text
    return found


def document_of(texts: Mapping[str, bytes]) -> dict[str, list[dict[str, Any]]]:
    """The rows as the accounts file has them, in the order of their keys."""
    document: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KEYS}
    for name in sorted(texts):
        kind, _, key = name.partition(" ")
        if kind in KEYS:
            document[kind].append(_row(kind, key, texts[name]))
    return document


def _row(kind: str, key: str, text: bytes) -> dict[str, Any]:
    return {**dict(zip(KEYS[kind], key.split(" "), strict=True)), **orjson.loads(text)}


def _text_of(kind: str, row: Any) -> tuple[str, bytes]:
    made = {}
    for name, default in _fields_of(type(row)):  # type: ignore[arg-type]
        value = getattr(row, name)
        if value is not None and value != default:
            made[name] = value
    if isinstance(row, App):
        _as_file(row, made)
    for name, value in made.items():
        if is_dataclass(value):
            made[name] = {n: each for n, each in asdict(value).items() if each is not None}  # type: ignore[arg-type]
    key = " ".join(made.pop(name, "") for name in KEYS[kind])
    # Not by orjson: each of its short texts holds on to a kilobyte.
    return key, json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()


@cache
def _fields_of(of: Hashable) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (f.name, None if f.default is MISSING else f.default)
        for f in fields(of)  # type: ignore[arg-type]
    )


def _as_file(app: App, made: dict[str, Any]) -> None:
    if app.client_id == app.id:
        made.pop("client_id", None)
    if app.expires is not None:
        made["expires"] = moment_text(app.expires)
    for name, of in (("tokens", "token"), ("client_secrets", "client_secret")):
        if name in made:
            made[name] = [
                {f"{of}_sha256": each.sha256}
                | {
                    when: moment_text(at)
                    for when in ("not_before", "expires")
                    if (at := getattr(each, when)) is not None
                }
                for each in getattr(app, name)
            ]


class Table(Mapping[str, R], Generic[R]):
    """A table of rows: it makes the value of a row when it is looked at. A row that this version
    cannot read, as a newer one may write it, is as none."""

    __slots__ = ("_made", "_make", "texts")

    def __init__(self, texts: dict[str, bytes], make: Callable[[str, bytes], R]) -> None:
        self.texts = texts
        self._make = make
        self._made: dict[str, R] = {}

    def __getitem__(self, key: str) -> R:
        found = self._made.get(key)
        if found is not None:
            return found
        text = self.texts[key]
        try:
            made = self._make(key, text)
        except (ValueError, TypeError, ValidationError) as error:
            log.error("the row of %r in the accounts cannot be read: %s", key, error)
            raise KeyError(key) from None
        if len(self._made) >= _MADE:
            self._made.clear()
        self._made[key] = made
        return made

    def __contains__(self, key: object) -> bool:
        return key in self.texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def values(self) -> ValuesView[R]:
        return _Values(self)

    def some(self, keys: Iterable[str]) -> Iterator[R]:
        """The values of these keys, without those that cannot be read. It keeps none of them."""
        for key in keys:
            try:
                yield self._made.get(key) or self._make(key, self.texts[key])
            except (ValueError, TypeError, ValidationError) as error:
                log.error("the row of %r in the accounts cannot be read: %s", key, error)


class _Values(ValuesView[R]):
    """The values of a table."""

    def __init__(self, table: Table[R]) -> None:
        super().__init__(table)
        self._table = table

    def __iter__(self) -> Iterator[R]:
        return self._table.some(self._table.texts)


class Named(Mapping[str, R], Generic[R]):
    """Rows of a table by other names, such as apps by the hashes of their tokens."""

    __slots__ = ("_keys", "_table")

    def __init__(self, keys: dict[str, str], table: Mapping[str, R]) -> None:
        self._keys = keys
        self._table = table

    def __getitem__(self, name: str) -> R:
        return self._table[self._keys[name]]

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _maker(of: Callable[..., T], key: str, **read: Callable[[Any], Any]) -> Any:
    """What makes a value of a row: an importer has checked it, so it is read alone. ``read`` has
    what reads a field that is no text, number or boolean."""
    known = {name for name, _ in _fields_of(of)}

    def make(name: str, text: bytes) -> T:
        row = orjson.loads(text)
        row[key] = name
        return of(**{n: read[n](v) if n in read else v for n, v in row.items() if n in known})

    return make


def _schema(schema: Any) -> Callable[[Any], Any]:
    made = schema(unknown=EXCLUDE)
    return lambda row: made.load(row)


def _credentials(schema: Any) -> Callable[[Any], Any]:
    made = schema(unknown=EXCLUDE)
    return lambda rows: tuple(made.load(rows, many=True))


_organization = _maker(
    Organization,
    "number",
    caller_ids=tuple,
    tags=tuple,
    accept=_schema(AcceptSchema),
    announce=_schema(AnnounceSchema),
)
_user = _maker(User, "id", caller_ids=tuple, supervise=tuple)
_extension = _maker(Extension, "number", type=ExtensionType, caller_ids=tuple, tags=tuple)
_app = _maker(
    App,
    "id",
    level=Level,
    compatibility=Compatibility,
    caller_ids=tuple,
    supervise=tuple,
    scopes=lambda names: tuple(map(AppScope, names)),
    tokens=_credentials(TokenSchema),
    client_secrets=_credentials(ClientSecretSchema),
    expires=Moment().deserialize,
)


def _app_of(key: str, text: bytes) -> App:
    app: App = _app(key, text)
    if not app.client_id:
        object.__setattr__(app, "client_id", key)
    return app


# The kinds whose values are made when they are looked at.
_LAZY: dict[str, Callable[[str, bytes], Any]] = {
    "organizations": _organization,
    "users": _user,
    "extensions": _extension,
    "apps": _app_of,
}


class AccountRows:
    """The accounts as a process holds them. A change makes new rows, which share the tables that
    stay the same: whoever has the old ones goes on with them."""

    def __init__(
        self, tables: Tables, tokens: dict[str, str], clients: dict[str, str], made: Any = None
    ) -> None:
        self.tables = tables
        self._tokens = tokens
        self._clients = clients
        # The values of the small tables, by kind.
        self._small: dict[str, dict[str, Any]] = made or {}

    @classmethod
    def none(cls) -> "AccountRows":
        return cls({kind: {} for kind in KEYS}, {}, {})

    def __bool__(self) -> bool:
        return any(self.tables.values())

    @property
    def texts(self) -> dict[str, bytes]:
        return {
            f"{kind} {key}": text
            for kind, rows in self.tables.items()
            for key, text in rows.items()
        }

    def text(self, name: str) -> bytes:
        """The text of a row by its name; empty if there is none."""
        kind, _, key = name.partition(" ")
        return self.tables.get(kind, {}).get(key, b"")

    def differences(self, texts: Mapping[str, bytes]) -> dict[str, bytes]:
        """What makes these rows those of ``texts``: the new text of each, empty for none."""
        found = {name: text for name, text in texts.items() if self.text(name) != text}
        for kind, rows in self.tables.items():
            for key in rows:
                if (name := f"{kind} {key}") not in texts:
                    found[name] = b""
        return found

    def changed(self, differences: Mapping[str, bytes]) -> "AccountRows":
        """The rows after a change."""
        tables, small = dict(self.tables), dict(self._small)
        tokens, clients = self._tokens, self._clients
        if any(name.startswith("apps ") for name in differences):
            tokens, clients = dict(tokens), dict(clients)
        given: dict[str, dict[str, bytes]] = {}
        for name, text in differences.items():
            kind, _, key = name.partition(" ")
            # A newer version may have more kinds.
            if kind in KEYS:
                given.setdefault(kind, {})[key] = text
        for kind, rows in given.items():
            table = dict(tables[kind])
            small.pop(kind, None)
            if kind == "apps":
                for key in rows.keys() & table.keys():
                    own_tokens, client = _names_of(key, table[key])
                    for each in own_tokens:
                        tokens.pop(each, None)
                    clients.pop(client, None)
            for key, text in rows.items():
                if text:
                    table[key] = text
                else:
                    table.pop(key, None)
            if kind == "apps":
                for key in rows.keys() & table.keys():
                    own_tokens, client = _names_of(key, table[key])
                    tokens.update(dict.fromkeys(own_tokens, key))
                    if client:
                        clients[client] = key
            tables[kind] = table
        return AccountRows(tables, tokens, clients, small)

    @cached_property
    def accounts(self) -> Accounts:
        """The accounts, with nothing suspended."""
        lazy: Any = {kind: Table(self.tables[kind], make) for kind, make in _LAZY.items()}
        for kind in KEYS.keys() - _LAZY.keys() - self._small.keys():
            self._small[kind] = _values(kind, self.tables[kind])
        small = self._small
        return Accounts(
            **lazy,
            # The longest prefix comes first.
            routes=tuple(
                sorted(small["routes"].values(), key=lambda r: len(r.prefix), reverse=True)
            ),
            gateways=tuple(small["gateways"].values()),
            rates=small["rates"],
            tokens=Named(self._tokens, lazy["apps"]),
            clients=Named(self._clients, lazy["apps"]),
            conferences={(c.extension, c.number): c for c in small["conferences"].values()},
            policies=small["policies"],
            prompts=small["prompts"],
        )


def _names_of(key: str, text: bytes) -> tuple[list[str], str]:
    """The hashes of an app's tokens, and its client id; "" if it may request no token."""
    row: dict[str, Any] = orjson.loads(text)
    tokens = [token["token_sha256"] for token in row.get("tokens", ())]
    tokens += [row["token_sha256"]] if "token_sha256" in row else []
    requests = row.get("client_secrets") or row.get("client_secret_sha256")
    return tokens, row.get("client_id", key) if requests else ""


def _values(kind: str, texts: dict[str, bytes]) -> dict[str, Any]:
    schema = _schemas()[kind]
    found = {}
    for key, text in texts.items():
        try:
            found[key] = schema.load(_row(kind, key, text), unknown=EXCLUDE)
        except (ValueError, ValidationError) as error:
            log.error("the row of %r in the accounts cannot be read: %s", key, error)
    return found


_schemas = cache(row_schemas)
