"""Read a PostgreSQL database, with COPY."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import LiteralString

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from ...clients import postgres
from ...clients.database import Postgres
from ...clients.postgres_types import ARROW_TYPES
from ...delivery import Batch
from ...errors import PenstockError, PermanentError
from .references import Names
from .source import Fetched, Field, Source, quoted, text

_KINDS = "SELECT oid::int8, typname::text, typcategory::text, oid::regtype::text FROM pg_type WHERE oid = ANY(%s)"
_SETTINGS = (
    "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false), "
    "set_config('IntervalStyle', 'iso_8601', false), set_config('bytea_output', 'hex', false), "
    "set_config('extra_float_digits', '1', false), set_config('default_transaction_read_only', 'on', false)"
)
_CONVERT = {
    "strings_can_be_null": True,
    "quoted_strings_can_be_null": False,
    "null_values": [""],
    "true_values": ["t"],
    "false_values": ["f"],
}


class PostgresSource(Source):
    """A PostgreSQL database that is only read."""

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._connection = postgres.connect(database, _SETTINGS)

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        self._connection.is_interrupted = True

    def classify_error(self, error: Exception) -> PenstockError:
        return postgres.classify_error(error, self._database)

    def names(self) -> Names:
        return Names(self._schemas, self._tables)

    def _schemas(self) -> list[str]:
        return [row[0] for row in self._connection.execute("SELECT nspname::text FROM pg_namespace").fetchall()]

    def _tables(self) -> list[tuple[str, str]]:
        query = (
            "SELECT table_schema::text, table_name::text FROM information_schema.tables "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') "
            "AND NOT starts_with(table_name, '_penstock') ORDER BY 1, 2"
        )
        return self._connection.execute(query).fetchall()

    def describe(self, query: str) -> Sequence[Field]:
        try:
            columns = self._connection.execute(_sql(f"SELECT * FROM ({query}\n) AS penstock LIMIT 0")).description or []  # noqa: S608
            oids = list({column.type_code for column in columns})
            found = self._connection.execute(_KINDS, (oids,)).fetchall()
        finally:
            self._connection.rollback()
        kinds = {oid: (name, category, shown) for oid, name, category, shown in found}
        names = [column.name for column in columns]
        if twice := [name for name in names if names.count(name) > 1]:
            raise PermanentError(f"two columns of the query are called {twice[0]!r}: give one another name with AS")
        return [_field(column, *kinds[column.type_code]) for column in columns]

    def stream(self, statement: str, fields: Sequence[Field], rows: int) -> Iterator[Fetched]:
        """Stream the result: each message is a row, which may hold line breaks; they are parsed many at once."""
        try:
            with (
                self._connection.cursor() as cursor,
                cursor.copy(_sql(f"COPY ({statement}\n) TO STDOUT (FORMAT csv)")) as copy,
            ):
                lines: list[bytes] = []
                for line in copy:
                    lines.append(bytes(line))
                    if len(lines) >= rows:
                        yield Fetched(_parsed(b"".join(lines), fields), lines.__getitem__)
                        lines = []
                if lines:
                    yield Fetched(_parsed(b"".join(lines), fields), lines.__getitem__)
        finally:
            self._connection.rollback()

    def count(self, statement: str) -> int:
        try:
            row = self._connection.execute(_sql(statement)).fetchone()
        finally:
            self._connection.rollback()
        return int(row[0]) if row else 0

    def printed(self, field: Field) -> str:
        return f"CAST(penstock.{quoted(field.name)} AS text)"

    def literal(self, field: Field, value: str) -> str:
        return f"CAST({text(value)} AS {field.declared})"

    def start(self, field: Field, value: str | float) -> str:
        return self.literal(field, str(value))


def _sql(statement: str) -> LiteralString:
    """The query is the configuration's own; every name that is added to it is quoted."""
    return statement


def _field(column: psycopg.Column, kind: str, category: str, shown: str) -> Field:
    """What Arrow has no type for comes as text: arrays and records as JSON, numbers without a scale digit by digit."""
    arrow, expression = ARROW_TYPES.get(kind, pa.string()), quoted(column.name)
    if category in "AC":
        expression = f"CAST(to_json(penstock.{expression}) AS text)"
    precision, scale = column.precision, column.scale
    if (
        kind == "numeric"
        and precision is not None
        and scale is not None
        and precision <= 76
        and 0 <= scale <= precision
    ):
        arrow = (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
    return Field(column.name, arrow, expression, shown)


def _parsed(data: bytes, fields: Sequence[Field]) -> Batch:
    """What Arrow's type cannot hold, such as an infinite date, makes the column a text in this batch."""
    types = {field.name: pa.string() if _is_read_as_text(field.type) else field.type for field in fields}
    try:
        table = _read(data, types)
    except pa.ArrowInvalid:
        table = _read(data, dict.fromkeys(types, pa.string()))
    arrays = [_typed(_whole(column), field.type) for column, field in zip(table.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(types))


def _is_read_as_text(kind: pa.DataType) -> bool:
    """Whether Arrow's reader of CSV does not know the type."""
    return bool(kind == pa.binary() or pa.types.is_decimal256(kind))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _read(data: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    return csv.read_csv(
        io.BytesIO(data),
        csv.ReadOptions(column_names=list(types), use_threads=False, block_size=len(data) + 1),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(column_types=types, **_CONVERT),
    )


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if values.type == kind:
        return values
    if kind == pa.binary():
        return _bytes(values)
    if pa.types.is_boolean(kind):
        return pc.equal(values, "t")
    try:
        return _times(values, kind) if pa.types.is_time(kind) else values.cast(kind)
    except pa.ArrowInvalid:
        return values


def _times(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Read times of day, which Arrow does not cast from texts; raises ArrowInvalid for 24:00:00."""
    moments = pc.binary_join_element_wise(pa.scalar("1970-01-01 "), values, pa.scalar(""))
    return moments.cast(pa.timestamp("us")).cast(kind)


def _bytes(values: pa.Array) -> pa.Array:
    """Read ``\\x6162``, all values at once."""
    digits = pc.utf8_slice_codeunits(values.fill_null("\\x"), 2).cast(pa.large_string())
    offsets = np.frombuffer(digits.buffers()[1], np.int64)[digits.offset : digits.offset + len(digits) + 1]
    start, end = int(offsets[0]), int(offsets[-1])
    data = digits.buffers()[2]
    raw = bytes.fromhex(memoryview(data)[start:end].tobytes().decode()) if data is not None else b""
    moved = pa.py_buffer(((offsets - start) // 2).astype(np.int64).tobytes())
    found = pa.Array.from_buffers(pa.large_binary(), len(values), [None, moved, pa.py_buffer(raw)]).cast(pa.binary())
    return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.binary()))
