"""Write tables of a DuckDB file, straight from Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.types as is_

from ...clients import duckdb
from ...clients.disk import OpenedFile
from ...delivery import Batch
from ...errors import PenstockError, RowsRejected
from .columns import Column, Years, fits, is_binary, is_number
from .conversions import is_exact
from .nested import is_same_json
from .session import POSITIONS, Session, Table, quoted

_TYPES: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "HUGEINT": pa.decimal128(38, 0),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIME_NS": pa.time64("ns"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "INTERVAL": pa.duration("us"),
}
_ROWS = "_penstock_rows"
_TRANSFORM = (
    "SELECT value, CAST(to_json(value) AS VARCHAR) "
    "FROM (SELECT json_transform(CAST(written AS JSON), ?) AS value FROM _penstock_rows)"
)
"""What it cannot read it makes null, which the second column tells."""


class DuckdbSession(Session):
    """A DuckDB file that is written by this process alone."""

    years: Years = (-290_307, 294_246)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = duckdb.connect(path)
        self._file = OpenedFile(path)
        self._begun = False

    def begin(self) -> None:
        if not self._begun:
            self._database.execute("BEGIN")
            self._begun = True

    def commit(self) -> None:
        if self._begun:
            self._begun = False
            self._database.execute("COMMIT")
            self._file.check()

    def rollback(self) -> None:
        if self._begun:
            self._begun = False
            self._database.execute("ROLLBACK")
            self._database.unregister(_ROWS)

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Undo all, as there are no savepoints: that is as good for what is only tried."""
        try:
            yield
        except Exception:
            self.rollback()
            self.begin()
            raise

    def close(self) -> None:
        self._database.close()

    def interrupt(self) -> None:
        self._database.interrupt()

    def classify_error(self, error: Exception) -> PenstockError:
        return duckdb.classify_error(error, self._path, writing=True)

    def execute(self, statement: str, values: Sequence[str] = ()) -> None:
        self.begin()
        self._database.execute(statement, list(values))

    def describe(self, table: Table) -> Mapping[str, Column] | None:
        query = (
            "SELECT column_name, data_type, column_default, is_nullable FROM duckdb_columns() "
            "WHERE database_name = current_database() AND lower(schema_name) = lower(?) "
            "AND lower(table_name) = lower(?) ORDER BY column_index"
        )
        rows = self._database.execute(query, [table.schema or "main", table.name]).fetchall()
        return {
            name: replace(
                _column(name, declared),
                has_default=default is not None,
                is_required=not nullable and default is None,
                refuses_null=not nullable,
            )
            for name, declared, default, nullable in rows
        } or None

    def is_unique(self, table: Table, key: Sequence[str]) -> bool:
        query = (
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE database_name = current_database() "
            "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?) "
            "AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')"
        )
        found = self._database.execute(query, [table.schema or "main", table.name]).fetchall()
        return any({self.folded(name) for name in names} == {self.folded(name) for name in key} for (names,) in found)

    def new_column(self, name: str, values: pa.Array) -> Column:
        declared = _declared(values.type)
        return _column(name, declared)

    def widen(
        self, table: Table, column: Column, values: pa.Array, *, change: bool, pending: Sequence[pa.Array] = ()
    ) -> Column:
        """Make whole numbers ``DOUBLE`` for a fraction, and ``HUGEINT`` for what exceeds 64 bits."""
        if not (change and is_.is_integer(column.type) and is_number(values.type)) or fits(values, column.type):
            return column
        name, wider = quoted(column.name), ""
        if fits(values, pa.int64()) and not is_.is_uint64(column.type):
            wider = "BIGINT"
        elif is_.is_integer(values.type):
            wider = "HUGEINT"
        elif all(is_exact(each, column, pa.float64()) for each in pending):
            query = f"SELECT coalesce(max(abs({name}::HUGEINT)), 0) <= 9007199254740992 FROM {table.sql()}"  # noqa: S608
            if self._database.execute(query).fetchone() == (True,):
                wider = "DOUBLE"
        if not wider:
            return column
        self.execute(f"ALTER TABLE {table.sql()} ALTER COLUMN {name} SET DATA TYPE {wider}")
        return replace(column, type=_TYPES[wider])

    def insert(
        self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str], *, update_first: bool = False
    ) -> None:
        self.begin()
        rows = self._with_nested_types(columns, rows)
        self._database.register(_ROWS, pa.Table.from_batches([rows]))
        for statement in self.inserting(table, columns, _ROWS, rows.schema.names, key, update_first=update_first):
            self._database.execute(statement)
        self._database.unregister(_ROWS)

    def _with_nested_types(self, columns: Sequence[Column], rows: Batch) -> Batch:
        """Return the rows with JSON as the lists, structs and maps of the columns; raises RowsRejected.

        Read as text, as DuckDB does by itself, a list would lose its escapes, and its numbers would be rounded.
        """
        refused: dict[int, str] = {}
        for at, column in enumerate(columns):
            if not column.json or column.declared == "JSON":
                continue
            texts = rows.column(at)
            self._database.register(_ROWS, pa.table({"written": texts}))
            kind = msgspec.json.encode(column.declared).decode()
            found = self._database.sql(_TRANSFORM, params=[kind]).to_arrow_table().combine_chunks()
            self._database.unregister(_ROWS)
            values, read = (each.chunk(0) for each in found.columns)
            rows = rows.set_column(at, rows.schema.names[at], values)
            for row, (text, other) in enumerate(zip(texts.to_pylist(), read.to_pylist(), strict=True)):
                if text is not None and not is_same_json(text, other):
                    refused[row] = f"column {column.name}: expected {column.declared}, got {text[:80]}"
        if refused:
            raise RowsRejected(refused)
        return rows

    def load(self, key: str) -> str | None:
        if self.describe(Table(POSITIONS)) is None:
            return None
        row = self._database.execute(f"SELECT position FROM {POSITIONS} WHERE key = ?", [key]).fetchone()  # noqa: S608
        return row[0] if row else None

    def save(self, entries: Sequence[tuple[str, str]]) -> None:
        self.execute(f"CREATE TABLE IF NOT EXISTS {POSITIONS} (key VARCHAR PRIMARY KEY, position VARCHAR NOT NULL)")
        for entry in entries:
            self.execute(
                f"INSERT INTO {POSITIONS} VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET position = excluded.position",  # noqa: S608
                entry,
            )


def _declared(kind: pa.DataType) -> str:
    if is_.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})" if kind.precision <= 38 and kind.scale >= 0 else "VARCHAR"
    if is_.is_timestamp(kind):
        if kind.tz is not None:
            return "TIMESTAMP WITH TIME ZONE"
        return "TIMESTAMP_NS" if kind.unit == "ns" else "TIMESTAMP"
    tests = [
        (is_.is_boolean(kind), "BOOLEAN"),
        (is_.is_uint64(kind), "UBIGINT"),
        (is_.is_integer(kind), "BIGINT"),
        (is_.is_floating(kind), "DOUBLE"),
        (is_binary(kind), "BLOB"),
        (is_.is_date(kind), "DATE"),
        (kind.equals(pa.time64("ns")), "TIME_NS"),
        (is_.is_time(kind), "TIME"),
        (is_.is_duration(kind), "INTERVAL"),
        (is_.is_nested(kind), "JSON"),
    ]
    return next((name for fits, name in tests if fits), "VARCHAR")


def _column(name: str, declared: str) -> Column:
    """Read a declared type; of types unknown here DuckDB itself reads the text."""
    nested = declared == "JSON" or declared.endswith("]") or declared.startswith(("STRUCT(", "MAP("))
    if declared.startswith("DECIMAL(") and not nested:
        precision, scale = declared.removeprefix("DECIMAL(").rstrip(")").split(",")
        return Column(name, pa.decimal128(int(precision), int(scale)), declared)
    return Column(name, _TYPES.get(declared, pa.string()), declared, json=nested)
