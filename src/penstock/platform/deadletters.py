"""Dead letters in the tables of error outputs: list, count and drop them, and send them again."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    RowMapping,
    Select,
    Table,
    Text,
    cast,
    delete,
    func,
    inspect,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)

from ..clients.database import Duckdb, Mysql
from ..component import Output
from ..outputs.sql import Sql
from ..stream import Stream
from .columns import Moment
from .database import Database

MAX_PAYLOAD_SIZE = 20_000
"""Characters of a payload that are shown in a list."""
MAX_GROUPS = 200
"""How many groups are counted, the largest first."""


_TID = re.compile(r"\(\d{1,10},\d{1,5}\)", re.ASCII)
_ROWID = re.compile(r"\d{1,18}", re.ASCII)


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was refused, with its reason and its origin."""

    id: str
    time: datetime | None
    stream: str
    stage: str
    reason: str
    payload: str | None
    encoding: str
    """How the payload is written: ``utf-8`` or ``base64``."""
    is_cut: bool
    """Whether only the beginning of the payload is shown."""
    metadata: Any
    """Where it came from: source, path, table and more."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters with the same reason."""

    stream: str
    stage: str
    reason: str
    count: int
    first: datetime | None
    last: datetime | None


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """An error output whose dead letters are not listed."""

    stream: str
    output: str
    """The type of the error output."""
    reason: str
    """Why they are not listed, and where they are."""


class Address(NamedTuple):
    """Which row of which table is meant, and a digest of it: rows may move, and then it is not acted upon."""

    place: str
    row: str
    digest: bytes

    def written(self) -> str:
        """Return it as an id."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).rstrip(b"=").decode()

    @classmethod
    def read(cls, id: str) -> Address | None:
        """Return the address of an id; None if it is none."""
        try:
            content = base64.b64decode(id + "=" * (-len(id) % 4), altchars=b"-_", validate=True)
            return cls(*msgspec.msgpack.decode(content, type=tuple[str, str, bytes]))
        except (binascii.Error, msgspec.DecodeError, ValueError):
            return None


class Place:
    """A table of dead letters."""

    def __init__(self, output: Sql, table: str) -> None:
        schema, dot, name = table.rpartition(".")
        database = output.database()
        assert not isinstance(database, Mysql)  # which is not listed
        self.database = Database(database, schema=schema if dot else output.schema_name)
        self.table = Table(
            name,
            MetaData(),
            Column("time", Moment),
            *(Column(one, Text) for one in ("stream", "stage", "reason", "payload", "encoding", "metadata")),
            schema=self.database.schema,
        )
        where = self.database.where
        self.name = hashlib.sha256(f"{where!r} {self.table.fullname}".encode()).hexdigest()[:12]
        """What tells it apart; it tells nothing of the database."""

    @property
    def row(self) -> Any:
        """The column that addresses a row: PostgreSQL and SQLite have one that no table declares."""
        return literal_column("ctid" if self.database.is_postgres else "rowid")

    def has(self, row: str) -> bool:
        """Tell whether ``row`` is written like the address of a row of this table."""
        return bool((_TID if self.database.is_postgres else _ROWID).fullmatch(row))

    def bound(self, row: str) -> Any:
        """Return the value to compare with ``row``."""
        return text("CAST(:row AS tid)").bindparams(row=row) if self.database.is_postgres else int(row)

    def exists(self, connection: Connection) -> bool:
        """Tell whether the table is there: it is made with the first dead letter."""
        return inspect(connection).has_table(self.table.name, self.table.schema)

    def select(self) -> Select[Any]:
        """Return a query for all columns, and for the address of each row as text."""
        return select(self.table, cast(self.row, Text).label("row"))


def places_of(streams: Iterable[Stream]) -> dict[str, Place]:
    """Return the tables to which streams send dead letters, by their names."""
    found: dict[str, Place] = {}
    for stream in streams:
        output = stream.error_output
        if isinstance(output, Sql) and output.table_name.constant and not _why_unlisted(output):
            place = Place(output, output.table_name.constant)
            found.setdefault(place.name, place)
    return found


def elsewhere(streams: Iterable[Stream]) -> list[Elsewhere]:
    """Return the error outputs that are not listed, each with the reason; who diverts no rows has none."""
    return [
        Elsewhere(stream=stream.id, output=output.type_name, reason=reason)
        for stream in streams
        if (output := stream.error_output) is not None and (reason := _why_unlisted(output))
    ]


def _why_unlisted(output: Output) -> str:
    if not isinstance(output, Sql):
        return f"the output `{output.type_name}` only writes: its rows are where its options say"
    if isinstance(output.database(), Duckdb):
        return (
            "DuckDB lets one process open a file, for as long as the stream writes: read it when the stream has stopped"
        )
    if isinstance(output.database(), Mysql):
        return "tables of MySQL are not listed here: look at them with its own client"
    if not output.table_name.constant:
        return "each row names its table: they are in the tables of the database"
    return ""


class Cursor(NamedTuple):
    """Behind which row each table goes on."""

    time: datetime | None
    row: str


def read_page(
    place: Place, connection: Connection, wanted: Mapping[str, str], after: Cursor | None, limit: int
) -> list[Letter]:
    """Return at most ``limit`` dead letters, the newest first.

    ``wanted`` are values of stream, stage and reason, and a text ``search`` in the reason or the payload.
    """
    if not place.exists(connection):
        return []
    order = (place.table.c.time, place.row)
    query = place.select().where(*_conditions(place, wanted))
    if after is not None:
        query = query.where(tuple_(*order) < tuple_(literal(after.time, Moment), place.bound(after.row)))
    query = query.order_by(*(one.desc() for one in order)).limit(limit)
    return [_letter(place, row) for row in connection.execute(query).mappings()]


def _conditions(place: Place, wanted: Mapping[str, str]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [place.table.c[name] == wanted[name] for name in wanted if name != "search"]
    if text := wanted.get("search"):
        holds = func.strpos if place.database.is_postgres else func.instr
        columns = [place.table.c.reason, place.table.c.payload]
        found.append(or_(*(holds(func.lower(column), text.lower()) > 0 for column in columns)))
    return found


def count(place: Place, connection: Connection, wanted: Mapping[str, str]) -> int:
    """Return how many dead letters there are."""
    if not place.exists(connection):
        return 0
    query = select(func.count()).select_from(place.table).where(*_conditions(place, wanted))
    return connection.scalar(query) or 0


def count_groups(place: Place, connection: Connection) -> list[Group]:
    """Return how many dead letters there are, by stream, stage and reason."""
    if not place.exists(connection):
        return []
    by = [place.table.c[name] for name in ("stream", "stage", "reason")]
    time = place.table.c.time
    counted = func.count().label("count")
    query = select(*by, counted, func.min(time).label("first"), func.max(time).label("last")).group_by(*by)
    rows = connection.execute(query.order_by(counted.desc()).limit(MAX_GROUPS)).mappings()
    return [
        Group(
            stream=row["stream"] or "",
            stage=row["stage"] or "",
            reason=row["reason"] or "",
            count=row["count"],
            first=row["first"],
            last=row["last"],
        )
        for row in rows
    ]


def find(place: Place, connection: Connection, address: Address) -> RowMapping | None:
    """Return the row at an address, whole; None if it is gone."""
    if not place.exists(connection):
        return None
    row = connection.execute(place.select().where(_at(place, address))).mappings().first()
    return row if row is not None and _digest(row) == address.digest else None


def drop(place: Place, connection: Connection, address: Address) -> bool:
    """Delete the row at an address; return whether it was there."""
    if find(place, connection, address) is None:
        return False
    return bool(connection.execute(delete(place.table).where(_at(place, address))).rowcount)


def _at(place: Place, address: Address) -> Any:
    return place.row == place.bound(address.row)


def _letter(place: Place, row: RowMapping) -> Letter:
    payload = row["payload"]
    return Letter(
        id=Address(place.name, row["row"], _digest(row)).written(),
        time=row["time"],
        stream=row["stream"] or "",
        stage=row["stage"] or "",
        reason=row["reason"] or "",
        payload=payload[:MAX_PAYLOAD_SIZE] if payload is not None else None,
        encoding=row["encoding"] or "utf-8",
        is_cut=payload is not None and len(payload) > MAX_PAYLOAD_SIZE,
        metadata=metadata_of(row),
    )


def metadata_of(row: RowMapping) -> dict[str, Any]:
    """Return where a row came from; nothing where that is not JSON."""
    try:
        return msgspec.json.decode(row["metadata"] or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _digest(row: RowMapping) -> bytes:
    content = repr([row[name] for name in ("time", "stream", "stage", "reason", "payload", "metadata")])
    return hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=8).digest()
