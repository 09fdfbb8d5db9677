"""Write tables of a PostgreSQL database, with COPY."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, LiteralString

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.types as is_

from ...clients import postgres
from ...clients.database import Postgres, redact
from ...delivery import Batch
from ...errors import PenstockError, RowsRejected
from .columns import Column, Years, fits, is_binary, is_number
from .conversions import is_exact
from .session import NO_POSITION, POSITIONS, Session, Table, listed, quoted

_COLUMNS = """
SELECT a.attname, CASE WHEN t.typcategory = 'A' THEN coalesce(e.typname, '') || '[]'
    WHEN t.typtype = 'b' THEN t.typname ELSE '' END, a.atttypmod,
    a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attnotnull
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type e ON e.oid = t.typelem
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_UNIQUE = """
SELECT array_agg(a.attname::text) FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid
"""
_SYSTEM_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = 'pg_class'::regclass AND attnum < 0"
_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "interval": pa.duration("us"),
}
_SETTINGS = """
SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
    CASE current_setting('lock_timeout') WHEN '0' THEN set_config('lock_timeout', '10s', false) END,
    CASE current_setting('idle_in_transaction_session_timeout') WHEN '0'
        THEN set_config('idle_in_transaction_session_timeout', '60s', false) END
"""
"""What was begun over a connection that has vanished must not hold its locks for as long as the server likes."""
_OF_A_ROW = ("22", "23")
"""Errors of which COPY names the line: data and constraints. Of a row that exceeds a page it names some later line."""
_CSV = csv.WriteOptions(include_header=False, quoting_style="needed", batch_size=8192)


class PostgresSession(Session):
    """A PostgreSQL database that is written; what it said was committed is on its disk."""

    folds_case = False
    longest_name = 63
    most_columns = 1600
    years: Years = (1, 9999)

    def __init__(self, database: Postgres, schema: str | None = None) -> None:
        self._database = database
        self._staged: set[str] = set()
        self._system_columns: frozenset[str] | None = None
        self._connection = postgres.connect(database, _SETTINGS)
        if schema:
            self._enter(schema)

    def _enter(self, schema: str) -> None:
        """Make the schema unless it is there, and look for tables in it alone."""
        found = self._connection.execute("SELECT to_regnamespace(quote_ident(%s))", (schema,)).fetchone()
        if found is None or found[0] is None:
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}".encode())
        self._connection.execute("SELECT set_config('search_path', %s, false)", (quoted(schema),))
        self._connection.commit()

    def begin(self) -> None:
        """Do nothing: the first statement begins it."""

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._staged.clear()
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        self._connection.is_interrupted = True

    def classify_error(self, error: Exception) -> PenstockError:
        return postgres.classify_error(error, self._database, writing=True)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._connection.execute(_sql(statement), values or None)

    def describe(self, table: Table) -> Mapping[str, Column] | None:
        rows = self._connection.execute(_COLUMNS, (table.sql(),)).fetchall()
        return {
            name: replace(
                _column(name, kind, modifier),
                has_default=default,
                is_required=required and not default,
                refuses_null=required,
            )
            for name, kind, modifier, default, required in rows
        } or None

    def why_no_column(self, name: str) -> str | None:
        if self._system_columns is None:
            rows = self._connection.execute(_SYSTEM_COLUMNS).fetchall()
            self._system_columns = frozenset(system for (system,) in rows)
        if name in self._system_columns:
            return "is the name of a system column of PostgreSQL"
        return self.why_no_name(name)

    def add(self, table: Table, columns: Sequence[Column]) -> None:
        parts = (f"ADD COLUMN IF NOT EXISTS {quoted(column.name)} {column.declared}" for column in columns)
        self.execute(f"ALTER TABLE {table.sql()} {', '.join(parts)}")

    def is_unique(self, table: Table, key: Sequence[str]) -> bool:
        found = self._connection.execute(_UNIQUE, (table.sql(),)).fetchall()
        return any(set(names) == set(key) for (names,) in found)

    def new_column(self, name: str, values: pa.Array) -> Column:
        declared, kind = _declared(values)
        return Column(name, kind, declared, json=declared == "jsonb")

    def widen(
        self, table: Table, column: Column, values: pa.Array, *, change: bool, pending: Sequence[pa.Array] = ()
    ) -> Column:
        """Make whole numbers ``double precision`` for a fraction, and ``numeric`` for what exceeds 64 bits."""
        if is_.is_duration(column.type) and not is_.is_duration(values.type):
            return replace(column, type=pa.string(), takes="interval")  # The server reads the text.
        if not (change and is_.is_integer(column.type) and is_number(values.type)) or fits(values, column.type):
            return column
        name, wider = quoted(column.name), column
        if fits(values, pa.int64()):
            wider = replace(column, type=pa.int64(), declared="bigint")
        elif is_.is_uint64(values.type):
            wider = replace(column, type=pa.decimal128(20, 0), declared="numeric(20,0)")
        elif all(is_exact(each, column, pa.float64()) for each in pending):
            query = f"SELECT coalesce(max(abs({name}::numeric)), 0) <= 9007199254740992 FROM {table.sql()}"  # noqa: S608
            if self._connection.execute(_sql(query)).fetchone() == (True,):
                wider = replace(column, type=pa.float64(), declared="double precision")
        if wider is not column:
            self.execute(f"ALTER TABLE {table.sql()} ALTER COLUMN {name} TYPE {wider.declared}")
            self._staged.clear()
        return wider

    @contextmanager
    def nested(self) -> Iterator[None]:
        try:
            with super().nested():
                yield
        except Exception:
            self._staged.clear()
            raise

    def insert(
        self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str], *, update_first: bool = False
    ) -> None:
        if not key:
            self._copy(table.sql(), columns, rows)
            return
        stage = self._stage(table, columns)
        self._copy(stage, columns, rows)
        names = [column.name for column in columns]
        for statement in self.inserting(table, columns, stage, names, key, update_first=update_first):
            self.execute(statement)
        self.execute(f"TRUNCATE {stage}")

    def _stage(self, table: Table, columns: Sequence[Column]) -> str:
        """Return an empty temporary table with these columns, of the types they have in the table."""
        names = listed([column.name for column in columns])
        digest = hashlib.sha256(f"{table.sql()} {names}".encode()).hexdigest()[:20]
        stage = f"pg_temp.{quoted(f'penstock_stage_{digest}')}"
        if stage not in self._staged:
            self.execute(f"DROP TABLE IF EXISTS {stage}")
            source = f"SELECT {names} FROM {table.sql()}"  # noqa: S608
            self.execute(f"CREATE TEMP TABLE {quoted(f'penstock_stage_{digest}')} AS {source} WITH NO DATA")
            self._staged.add(stage)
        return stage

    def _copy(self, target: str, columns: Sequence[Column], rows: Batch) -> None:
        names = listed([column.name for column in columns])
        printable = pa.record_batch([_printable(values) for values in rows.columns], names=list(rows.schema.names))
        buffer = io.BytesIO()
        csv.write_csv(printable, buffer, _CSV)
        try:
            with (
                self._connection.cursor() as cursor,
                cursor.copy(_sql(f"COPY {target} ({names}) FROM STDIN (FORMAT csv)")) as copy,
            ):
                copy.write(buffer.getbuffer())
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith(_OF_A_ROW):
                raise
            raise self._refused(error, printable) or error from error

    def _refused(self, error: psycopg.Error, rows: Batch) -> RowsRejected | None:
        """Return which row it was, if the line that the server names is a row."""
        context = error.diag.context or ""
        line = context.partition(", line ")[2].partition(",")[0].partition(":")[0].strip()
        if not line.isdigit() or not 0 < int(line) <= rows.num_rows or _has_line_breaks(rows, int(line)):
            return None
        column = context.partition(", column ")[2].partition(":")[0]
        message = redact(error.diag.message_primary or str(error), self._database)
        return RowsRejected({int(line) - 1: f"column {column}: {message}" if column else message})

    def load(self, key: str) -> str | None:
        if self._connection.execute(f"SELECT to_regclass('{POSITIONS}')").fetchone() == (None,):
            self._connection.rollback()
            return None
        query = f"SELECT position FROM {POSITIONS} WHERE key = %s"  # noqa: S608
        row = self._connection.execute(_sql(query), (key,)).fetchone()
        self._connection.rollback()
        return row[0] if row else None

    def claim(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        """Lock the positions and return them.

        A transaction whose connection was cut may still commit: what it has locked makes this wait for its end.
        """
        self._make_positions()
        found = self._connection.execute(
            _sql(
                f"INSERT INTO {POSITIONS} SELECT unnest(%s::text[]), '{NO_POSITION}' "
                f"ON CONFLICT (key) DO UPDATE SET position = {POSITIONS}.position RETURNING key, position"
            ),
            (sorted(keys),),
        )
        return dict(found.fetchall())

    def _make_positions(self) -> None:
        if self._connection.execute(f"SELECT to_regclass('{POSITIONS}')").fetchone() == (None,):
            self.execute(f"CREATE TABLE IF NOT EXISTS {POSITIONS} (key text PRIMARY KEY, position text NOT NULL)")

    def save(self, entries: Sequence[tuple[str, str]]) -> None:
        self._make_positions()
        ordered = sorted(entries)
        self.execute(
            f"INSERT INTO {POSITIONS} SELECT * FROM unnest(%s::text[], %s::text[]) "  # noqa: S608
            "ON CONFLICT (key) DO UPDATE SET position = excluded.position",
            ([key for key, _ in ordered], [position for _, position in ordered]),
        )


def _sql(statement: str) -> LiteralString:
    """Every name in it is quoted by this package."""
    return statement


def _declared(values: pa.Array) -> tuple[str, pa.DataType]:
    kind = values.type
    if is_.is_uint64(kind) and not fits(values, pa.int64()):
        return "numeric(20,0)", pa.decimal128(20, 0)
    if is_.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})", kind
    if is_.is_timestamp(kind):
        aware = kind.tz is not None
        return ("timestamptz" if aware else "timestamp"), pa.timestamp("us", "UTC" if aware else None)
    tests: list[tuple[bool, str, pa.DataType]] = [
        (is_.is_boolean(kind), "boolean", pa.bool_()),
        (is_.is_integer(kind), "bigint", pa.int64()),
        (is_.is_floating(kind), "double precision", pa.float64()),
        (is_binary(kind), "bytea", pa.binary()),
        (is_.is_date(kind), "date", pa.date32()),
        (is_.is_time(kind), "time", pa.time64("us")),
        (is_.is_duration(kind), "interval", pa.duration("us")),
        (is_.is_nested(kind), "jsonb", pa.string()),
    ]
    return next(((name, to) for fits, name, to in tests if fits), ("text", pa.string()))


def _column(name: str, kind: str, modifier: int) -> Column:
    """Read what the catalogue says; of types unknown here the server itself reads the text."""
    if kind == "numeric" and modifier >= 4:
        precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
        scale = scale - 0x800 if scale > 1000 else scale
        if precision <= 76 and 0 <= scale <= precision:
            return Column(name, (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale))
    element = kind.removesuffix("[]")
    if element != kind:
        inner = _column(name, element, modifier)
        number = inner.type if is_number(inner.type) else None
        return Column(name, pa.string(), json=inner.json, takes="array", element=number)
    return Column(name, _TYPES.get(kind, pa.string()), json=kind in ("json", "jsonb"))


def _printable(values: pa.Array) -> pa.Array:
    """Return the values as COPY reads them, where Arrow would print them otherwise."""
    if is_.is_binary(values.type):
        return _hexadecimal(values)
    if is_.is_duration(values.type):
        return _intervals(values)
    if is_.is_timestamp(values.type):
        return values.cast(pa.timestamp(values.type.unit))  # The session's zone is UTC.
    return values


def _hexadecimal(values: pa.Array) -> pa.Array:
    values = pa.concat_arrays([values.cast(pa.large_binary())])
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    start, end = int(offsets[0]), int(offsets[-1])
    data = values.buffers()[2]
    text = (memoryview(data)[start:end].hex() if data is not None else "").encode()
    moved = pa.py_buffer(((offsets - start) * 2).astype(np.int64).tobytes())
    digits = pa.Array.from_buffers(pa.large_string(), len(values), [None, moved, pa.py_buffer(text)])
    printed = pc.binary_join_element_wise(pa.scalar("\\x", pa.large_string()), digits, pa.scalar("", pa.large_string()))
    return pc.if_else(values.is_valid(), printed, pa.scalar(None, pa.large_string()))


def _intervals(values: pa.Array) -> pa.Array:
    """Print durations as ``[-]hours:minutes:seconds``, which holds each microsecond exactly."""
    counts = values.cast(pa.int64())
    sign = pc.if_else(pc.less(counts, 0), "-", "")
    size = pc.abs_checked(counts)
    hours = pc.divide(size, 3_600_000_000)
    rest = pc.subtract(size, pc.multiply(hours, 3_600_000_000))
    clock = rest.cast(pa.time64("us")).cast(pa.string())
    minutes = pc.utf8_slice_codeunits(clock, 2)
    return pc.binary_join_element_wise(sign, hours.cast(pa.string()), minutes, pa.scalar(""))


def _has_line_breaks(rows: Batch, line: int) -> bool:
    """Whether any text before the line has line breaks, so that lines are not rows."""
    return any(
        bool(pc.any(pc.match_substring_regex(values.slice(0, line), r"[\r\n]")).as_py())
        for values in rows.columns
        if is_.is_string(values.type) or is_.is_large_string(values.type)
    )
