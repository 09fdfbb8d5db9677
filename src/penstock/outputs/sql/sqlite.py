"""Write tables of a SQLite file."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ...clients import sqlite
from ...clients.disk import OpenedFile
from ...delivery import Batch
from ...errors import PenstockError, RowsRejected
from .columns import Column, fits, is_binary, is_text
from .session import POSITIONS, Session, Table, listed, quoted
from .texts import texts

_MAX_INTEGER = 2**63 - 1
_HIDDEN = 1
"""A column of a virtual table; those that are generated have other numbers."""


class SqliteSession(Session):
    """A SQLite file that is written; others may read it meanwhile, and write it in turn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite.connect(path)
        self._file = OpenedFile(path)
        limits = (sqlite3.SQLITE_LIMIT_COLUMN, sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        self.most_columns = min(map(self._database.getlimit, limits))

    def begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        if self._database.in_transaction:
            self._database.execute("COMMIT")
            self._file.check()

    def rollback(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def close(self) -> None:
        self._database.close()

    def interrupt(self) -> None:
        self._database.interrupt()

    def classify_error(self, error: Exception) -> PenstockError:
        return sqlite.classify_error(error, self._path, writing=True)

    def execute(self, statement: str, values: Sequence[str] = ()) -> None:
        self.begin()
        self._database.execute(statement, values)

    def describe(self, table: Table) -> Mapping[str, Column] | None:
        schema = quoted(table.schema or "main")
        rows = self._database.execute(f"PRAGMA {schema}.table_xinfo({quoted(table.name)})").fetchall()
        return {name: _described(name, *rest) for _, name, *rest, hidden in rows if hidden != _HIDDEN} or None

    def add(self, table: Table, columns: Sequence[Column]) -> None:
        self.begin()
        there = set(map(self.folded, self.describe(table) or ()))
        for column in columns:
            if self.folded(column.name) not in there:
                self.execute(f"ALTER TABLE {table.sql()} ADD COLUMN {quoted(column.name)} {column.declared}")

    def is_unique(self, table: Table, key: Sequence[str]) -> bool:
        schema, wanted = quoted(table.schema or "main"), {self.folded(name) for name in key}
        found = self._database.execute(f"PRAGMA {schema}.table_info({quoted(table.name)})").fetchall()
        keys = [{self.folded(row[1]) for row in found if row[5]}]
        for index in self._database.execute(f"PRAGMA {schema}.index_list({quoted(table.name)})").fetchall():
            if index[2] and not index[4]:
                info = self._database.execute(f"PRAGMA {schema}.index_info({quoted(index[1])})").fetchall()
                keys.append({self.folded(row[2] or "") for row in info})
        return wanted in keys

    def new_column(self, name: str, values: pa.Array) -> Column:
        return _column(name, _declared(values))

    def widen(
        self, table: Table, column: Column, values: pa.Array, *, change: bool, pending: Sequence[pa.Array] = ()
    ) -> Column:
        """SQLite keeps a value with its own type: a fraction may go into a column of whole numbers as it is."""
        if column.takes == "any" and not is_.is_null(values.type):
            return replace(_column(column.name, _declared(values)), takes="any")
        if column.takes == "number":
            return replace(column, type=pa.float64() if _is_fractional(values) else pa.int64())
        if is_.is_timestamp(column.type) and is_.is_timestamp(values.type):
            return replace(column, type=pa.timestamp(values.type.unit, column.type.tz))
        if is_.is_timestamp(column.type) and is_text(values.type) and _has_nanoseconds(values):
            return replace(column, type=pa.timestamp("ns", column.type.tz))
        return column

    def insert(
        self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str], *, update_first: bool = False
    ) -> None:
        self.begin()
        names = listed([column.name for column in columns])
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.sql()} ({names}) VALUES ({marks}){self.on_conflict(columns, key)}"  # noqa: S608
        numbers = itertools.count(1)  # the last row that was taken is the one that fails
        sent = itertools.compress(zip(*map(_cells, rows.columns), strict=True), numbers)
        try:
            if update_first:
                self._update_or_insert(table, columns, key, statement, sent)
            else:
                self._database.executemany(statement, sent)
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            raise RowsRejected({next(numbers) - 2: f"table {table}: {error}"}) from error

    def _update_or_insert(
        self, table: Table, columns: Sequence[Column], key: Sequence[str], insert: str, rows: Iterable[Sequence[Any]]
    ) -> None:
        folded = {self.folded(name) for name in key}
        keys = [index for index, column in enumerate(columns) if self.folded(column.name) in folded]
        others = [index for index in range(len(columns)) if index not in keys] or keys
        changes = ", ".join(f"{quoted(columns[index].name)} = ?" for index in others)
        found = " AND ".join(f"{quoted(columns[index].name)} = ?" for index in keys)
        update = f"UPDATE {table.sql()} SET {changes} WHERE {found}"  # noqa: S608
        for row in rows:
            if not self._database.execute(update, [row[index] for index in (*others, *keys)]).rowcount:
                self._database.execute(insert, row)

    def load(self, key: str) -> str | None:
        if self.describe(Table(POSITIONS)) is None:
            return None
        row = self._database.execute(f"SELECT position FROM {POSITIONS} WHERE key = ?", (key,)).fetchone()  # noqa: S608
        return row[0] if row else None

    def save(self, entries: Sequence[tuple[str, str]]) -> None:
        self.execute(f"CREATE TABLE IF NOT EXISTS {POSITIONS} (key TEXT PRIMARY KEY, position TEXT NOT NULL)")
        self._database.executemany(
            f"INSERT INTO {POSITIONS} VALUES (?, ?) "  # noqa: S608
            "ON CONFLICT (key) DO UPDATE SET position = excluded.position",
            entries,
        )


def _described(name: str, declared: str, required: int, default: str | None, key: int) -> Column:
    refuses_null = bool(required) and not key
    return replace(
        _column(name, declared),
        has_default=default is not None,
        is_required=refuses_null and default is None,
        refuses_null=refuses_null,
    )


def _declared(values: pa.Array) -> str:
    """Name the column's type such that SQLite keeps each value as it is given and readers know what it was."""
    kind = values.type
    if is_.is_uint64(kind) and (pc.max(values).as_py() or 0) > _MAX_INTEGER:
        return "DECIMAL TEXT(20,0)"
    tests = [
        (is_.is_boolean(kind), "BOOLEAN"),
        (is_.is_integer(kind), "INTEGER"),
        (is_.is_floating(kind), "REAL"),
        (is_.is_decimal(kind), f"DECIMAL TEXT({getattr(kind, 'precision', 0)},{getattr(kind, 'scale', 0)})"),
        (is_binary(kind), "BLOB"),
        (is_.is_date(kind), "DATE"),
        (is_.is_time(kind), "TIME"),
        (is_.is_timestamp(kind), "TIMESTAMP" if getattr(kind, "tz", None) is None else "TIMESTAMPTZ"),
        (is_.is_duration(kind), "DURATION_NS INTEGER"),
        (is_.is_nested(kind), "JSON TEXT"),
    ]
    return next((name for fits, name in tests if fits), "TEXT")


def _column(name: str, declared: str) -> Column:
    """Read a declared type; a column of numbers takes whole and fractional ones, one of no known type anything."""
    upper, kind = declared.upper(), sqlite.arrow_type(declared)
    if kind is None:
        anything = upper == "" or "BLOB" in upper
        return Column(name, pa.binary() if anything else pa.int64(), declared, takes="any" if anything else "number")
    kind = pa.time64("ns") if is_.is_time(kind) else kind  # A text holds every digit.
    return Column(name, kind, declared, json="JSON" in upper, takes="number" if kind == pa.int64() else "")


def _has_nanoseconds(values: pa.Array) -> bool:
    """Whether a text has more than six digits of a second, and all are times that nanoseconds can count."""
    finer = pc.match_substring_regex(values.cast(pa.string()), r"\.[0-9]{7,9}")
    return bool(pc.any(finer).as_py()) and any(fits(values, pa.timestamp("ns", zone)) for zone in ("UTC", None))


def _is_fractional(values: pa.Array) -> bool:
    """Whether any of the numbers, or of the texts that should be numbers, is not whole."""
    kind = values.type
    if is_.is_floating(kind):
        return True
    if is_.is_decimal(kind):
        return not fits(values, pa.decimal256(76, 0))
    return is_text(kind) and not fits(values.cast(pa.string()), pa.int64())


def _cells(values: pa.Array) -> list[Any]:
    """Return what SQLite is given for each row."""
    kind = values.type
    if is_.is_duration(kind):
        values = values.cast(pa.int64())
    elif is_.is_boolean(kind):
        values = values.cast(pa.int8())
    elif is_.is_floating(kind):
        return _floats(values)
    elif is_.is_timestamp(kind) or is_.is_time64(kind):
        values = _moments(values)
    elif is_.is_temporal(kind) or is_.is_decimal(kind):
        values = values.cast(pa.string())
    if is_.is_integer(values.type) and not values.null_count:
        return list(values.to_numpy().tolist())
    return list(values.to_pylist())


def _floats(values: pa.Array) -> list[Any]:
    """SQLite would keep "not a number" as NULL: it is kept as a text."""
    cells = values.to_numpy().tolist() if not values.null_count else values.to_pylist()
    if pc.any(pc.is_nan(values)).as_py():
        return ["NaN" if cell is not None and cell != cell else cell for cell in cells]
    return list(cells)


def _moments(values: pa.Array) -> pa.Array:
    """Print times with as many digits as they need, at least microseconds, so that texts sort by time."""
    kind = values.type
    with contextlib.suppress(pa.ArrowInvalid):  # Some have nanoseconds.
        values = values.cast(pa.time64("us") if is_.is_time64(kind) else pa.timestamp("us", kind.tz))
    return texts(values)
