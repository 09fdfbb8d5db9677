"""The monthly partitions of PostgreSQL, made on demand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, Table, text

from ....errors import TransientError
from .session import Session

LOCK = 0x6865616C_74680002
"""What is locked while partitions are made or dropped."""
_MAX_PARTITIONS = 120
"""How many partitions one call makes of a table; rows of further months wait in the default partition."""
_FIRST, _LAST = (1900 - 1970) * 12, (2201 - 1970) * 12
"""The months that get a partition, counted from January 1970: from 1900 to 2200."""
_LOCK_TIMEOUT = "3s"
"""How long readers of the default partition may hold it up."""


def months(times: Iterable[pa.Array]) -> list[int]:
    """Return the months in which most of the times are, counted from January 1970, the fullest first."""
    found: dict[int, int] = {}
    for each in times:
        moments = each.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
        for month, count in zip(
            *np.unique(moments.astype("datetime64[M]").astype(np.int64), return_counts=True), strict=True
        ):
            found[int(month)] = found.get(int(month), 0) + int(count)
    return sorted((month for month in found if _FIRST <= month < _LAST), key=lambda month: -found[month])


def name_of(table: Table, month: int) -> str:
    """Return the name of the partition of a month."""
    return f"{table.name}_{1970 + month // 12:04d}_{month % 12 + 1:02d}"


def begin_of(month: int) -> datetime:
    """Return when a month begins, in UTC."""
    return datetime(1970 + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def existing(connection: Connection, table: Table) -> set[str]:
    """Return the names of the partitions of ``table``, the default one not among them."""
    found = connection.scalars(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass(:parent)"
        ),
        {"parent": table.name},
    )
    return set(found) - {f"{table.name}_default"}


class Partitions:
    """Which partitions there are, as far as this session knows, and the making of others."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def missing(self, table: Table, wanted: list[int]) -> list[int]:
        """Return the months of which no partition is known."""
        known = self._known.get(table.name, set())
        return [month for month in wanted if name_of(table, month) not in known][:_MAX_PARTITIONS]

    def make(self, session: Session, table: Table, wanted: list[int]) -> None:
        """Make partitions, in a transaction of their own; another replica may be about to make the same.

        If readers hold the default partition for long, none is made: the rows then go to the default partition, and
        leave it when the partition of their month is made.
        """
        try:
            with session.transaction() as connection:
                there = _make_missing(connection, table, wanted)
        except TransientError:
            return
        self._known[table.name] = there


def _make_missing(connection: Connection, table: Table, wanted: list[int]) -> set[str]:
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    there = existing(connection, table)
    missing = [month for month in wanted if name_of(table, month) not in there]
    if missing:
        connection.execute(text(f"LOCK TABLE {table.name}_default IN ACCESS EXCLUSIVE MODE"))
    for month in missing:
        _make(connection, table, month)
    return there | {name_of(table, month) for month in missing}


def _make(connection: Connection, table: Table, month: int) -> None:
    """Make the partition of a month, with the rows of it that are in the default partition."""
    from psycopg import sql  # only PostgreSQL has partitions

    begin, end = begin_of(month), begin_of(month + 1)
    names = {"partition": sql.Identifier(name_of(table, month)), "parent": sql.Identifier(table.name)}
    ranged = {"begin": begin, "end": end}
    range_ = sql.SQL("FOR VALUES FROM ({}) TO ({})").format(
        sql.Literal(begin.isoformat()), sql.Literal(end.isoformat())
    )
    inside = f"FROM {table.name}_default WHERE time >= :begin AND time < :end"
    if connection.scalar(text(f"SELECT EXISTS (SELECT 1 {inside})"), ranged):
        statement = "CREATE TABLE {partition} (LIKE {parent} INCLUDING DEFAULTS INCLUDING GENERATED)"
        connection.exec_driver_sql(sql.SQL(statement).format(**names).as_string(None))
        columns = ", ".join(column.name for column in table.columns)
        connection.execute(
            text(f"INSERT INTO {name_of(table, month)} ({columns}) SELECT {columns} {inside}"),
            ranged,
        )
        connection.execute(text(f"DELETE {inside}"), ranged)
        statement = "ALTER TABLE {parent} ATTACH PARTITION {partition} {range}"
    else:
        statement = "CREATE TABLE {partition} PARTITION OF {parent} {range}"
    connection.exec_driver_sql(sql.SQL(statement).format(**names, range=range_).as_string(None))
