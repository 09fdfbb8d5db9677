"""Where streams keep their dead letters, and those that are in tables: list, count and drop them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
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
from ..outputs.file import File
from ..outputs.sql import Sql
from ..stream import Stream
from .columns import Moment
from .database import Database
from .letterfiles import LetterFile, why_unlisted
from .letters import MAX_GROUPS, Address, Cursor, Group, Letter, Place, digest_of, letter_of

_TID = re.compile(r"\(\d{1,10},\d{1,5}\)", re.ASCII)
_ROWID = re.compile(r"\d{1,18}", re.ASCII)


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """An error output whose dead letters are not listed."""

    stream: str
    output: str
    """The type of the error output."""
    reason: str
    """Why they are not listed, and where they are."""


class LetterTable:
    """A table of dead letters."""

    def __init__(self, output: Sql, table: str) -> None:
        schema, dot, name = table.rpartition(".")
        database = output.database()
        assert not isinstance(database, Mysql | Duckdb)
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

    async def page(self, wanted: Mapping[str, str], after: Cursor | None, limit: int) -> list[Letter]:
        """Return at most ``limit`` dead letters, the newest first."""
        return await self.database.run(partial(read_page, self, wanted=wanted, after=after, limit=limit))

    async def count(self, wanted: Mapping[str, str]) -> int:
        """Return how many dead letters there are."""
        return await self.database.run(partial(count, self, wanted=wanted))

    async def groups(self) -> list[Group]:
        """Return how many dead letters there are, by stream, stage and reason."""
        return await self.database.run(partial(count_groups, self))

    async def find(self, address: Address) -> Mapping[str, Any] | None:
        """Return the row at an address, whole; None if it is gone."""
        return await self.database.run(partial(find, self, address=address))

    async def drop(self, address: Address) -> bool:
        """Delete the row at an address; return whether it was there."""
        return await self.database.run(partial(drop, self, address=address), changes=True)

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

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
    """Return the tables and files to which streams send dead letters, by their names."""
    found: dict[str, Place] = {}
    for stream in streams:
        output = stream.error_output
        if output is not None and not _why_unlisted(output):
            place = _place_of(output)
            found.setdefault(place.name, place)
    return found


def _place_of(output: Output) -> Place:
    if isinstance(output, File):
        return LetterFile(output)
    assert isinstance(output, Sql)
    assert output.table_name.constant
    where, table = output.database(), output.table_name.constant
    if isinstance(where, Duckdb):
        from .letterduckdb import LetterDuckdb

        return LetterDuckdb(where, output.schema_name, table)
    return LetterTable(output, table)


def elsewhere(streams: Iterable[Stream]) -> list[Elsewhere]:
    """Return the error outputs that are not listed, each with the reason; who diverts no rows has none."""
    return [
        Elsewhere(stream=stream.id, output=output.type_name, reason=reason)
        for stream in streams
        if (output := stream.error_output) is not None and (reason := _why_unlisted(output))
    ]


def _why_unlisted(output: Output) -> str:
    if isinstance(output, File):
        return why_unlisted(output)
    if not isinstance(output, Sql):
        return f"the output `{output.type_name}` only writes: its rows are where its options say"
    if isinstance(output.database(), Mysql):
        return "tables of MySQL are not listed here: look at them with its own client"
    if not output.table_name.constant:
        return "each row names its table: they are in the tables of the database"
    return ""


def read_page(
    place: LetterTable, connection: Connection, wanted: Mapping[str, str], after: Cursor | None, limit: int
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
    return [letter_of(place.name, row["row"], dict(row)) for row in connection.execute(query).mappings()]


def _conditions(place: LetterTable, wanted: Mapping[str, str]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [place.table.c[name] == wanted[name] for name in wanted if name != "search"]
    if text := wanted.get("search"):
        holds = func.strpos if place.database.is_postgres else func.instr
        columns = [place.table.c.reason, place.table.c.payload]
        found.append(or_(*(holds(func.lower(column), text.lower()) > 0 for column in columns)))
    return found


def count(place: LetterTable, connection: Connection, wanted: Mapping[str, str]) -> int:
    """Return how many dead letters there are."""
    if not place.exists(connection):
        return 0
    query = select(func.count()).select_from(place.table).where(*_conditions(place, wanted))
    return connection.scalar(query) or 0


def count_groups(place: LetterTable, connection: Connection) -> list[Group]:
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


def find(place: LetterTable, connection: Connection, address: Address) -> Mapping[str, Any] | None:
    """Return the row at an address, whole; None if it is gone."""
    if not place.exists(connection):
        return None
    found = connection.execute(place.select().where(_at(place, address))).mappings().first()
    row = dict(found) if found is not None else None
    return row if row is not None and digest_of(row) == address.digest else None


def drop(place: LetterTable, connection: Connection, address: Address) -> bool:
    """Delete the row at an address; return whether it was there."""
    if find(place, connection, address) is None:
        return False
    return bool(connection.execute(delete(place.table).where(_at(place, address))).rowcount)


def _at(place: LetterTable, address: Address) -> Any:
    return place.row == place.bound(address.row)
