"""Write tables of a SQLite file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ...clients import sqlite
from ...delivery import Batch
from ...errors import PenstockError
from .columns import Column, is_binary, is_number, is_text, texts
from .session import POSITIONS, Session, Table, listed, quoted

_MAX_INTEGER = 2**63 - 1


class SqliteSession(Session):
    """A SQLite file that is written; others may read it meanwhile, and write it in turn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite.connect(path)

    def begin(self) -> None:
        if not self._database.in_transaction:
            self._database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        if self._database.in_transaction:
            self._database.execute("COMMIT")

    def rollback(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    def close(self) -> None:
        self._database.close()

    def classify_error(self, error: Exception) -> PenstockError:
        return sqlite.classify_error(error, self._path, writing=True)

    def execute(self, statement: str, values: Sequence[str] = ()) -> None:
        self.begin()
        self._database.execute(statement, values)

    def describe(self, table: Table) -> Mapping[str, Column] | None:
        schema = quoted(table.schema or "main")
        rows = self._database.execute(f"PRAGMA {schema}.table_info({quoted(table.name)})").fetchall()
        return {row[1]: _column(row[1], row[2]) for row in rows} or None

    def add(self, table: Table, column: Column) -> None:
        self.begin()
        if self.folded(column.name) not in map(self.folded, self.describe(table) or ()):
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

    def widen(self, table: Table, column: Column, values: pa.Array, *, change: bool) -> Column:
        """SQLite keeps a value with its own type: a fraction may go into a column of whole numbers as it is."""
        if column.takes == "any" and not is_.is_null(values.type):
            return replace(_column(column.name, _declared(values)), takes="any")
        if column.takes == "number":
            return replace(column, type=pa.float64() if _is_fractional(values) else pa.int64())
        if is_.is_timestamp(column.type) and is_.is_timestamp(values.type):
            return replace(column, type=pa.timestamp(values.type.unit, column.type.tz))
        return column

    def insert(self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str]) -> None:
        self.begin()
        names = listed([column.name for column in columns])
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.sql()} ({names}) VALUES ({marks}){self.on_conflict(columns, key)}"  # noqa: S608
        cells = (_cells(values) for values in rows.columns)
        self._database.executemany(statement, zip(*cells, strict=True))

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
    return Column(name, kind, declared, json="JSON" in upper, takes="number" if kind == pa.int64() else "")


def _is_fractional(values: pa.Array) -> bool:
    """Whether any of the numbers, or of the texts that should be numbers, is not whole."""
    kind = values.type
    if is_.is_floating(kind):
        return True
    if not (is_number(kind) or is_text(kind)):
        return False
    try:
        values.cast(pa.string() if is_text(kind) else kind).cast(pa.int64())
    except pa.ArrowInvalid:
        return not is_.is_integer(kind)
    return False


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
