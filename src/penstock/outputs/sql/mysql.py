"""Write tables of MySQL or MariaDB, many rows in one statement."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_
import pymysql

from ...clients import mysql
from ...clients.database import Mysql
from ...delivery import Batch
from ...errors import PenstockError, PermanentError, RowsRejected
from .columns import Column, Years, fits, is_binary, is_number
from .conversions import is_exact
from .session import NO_POSITION, POSITIONS, Session, Table, listed, quoted

MAX_STATEMENT_SIZE = 4 << 20
"""Bytes of a statement: a server takes 16 MB of one, unless it is told otherwise."""
KEY_SIZE = 191
"""Characters of a text that is a key, of which several make an index."""
_COLUMNS = (
    "SELECT column_name, data_type, column_type, numeric_precision, numeric_scale, column_default, is_nullable, extra "
    "FROM information_schema.columns WHERE table_schema = COALESCE(NULLIF(%s, ''), DATABASE()) AND table_name = %s "
    "ORDER BY ordinal_position"
)
_UNIQUE = (
    "SELECT index_name, GROUP_CONCAT(column_name), SUM(sub_part IS NOT NULL) FROM information_schema.statistics "
    "WHERE table_schema = COALESCE(NULLIF(%s, ''), DATABASE()) AND table_name = %s AND non_unique = 0 "
    "GROUP BY index_name"
)
_INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 32, "int": 32, "bigint": 64}
_TYPES = {
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", "UTC"),
    "json": pa.string(),
    "year": pa.int16(),
}


class MysqlSession(Session):
    """A MySQL or MariaDB database that is written.

    A table that is made or changed ends a transaction there, so that is done over a connection of its own, before any
    row of the transaction is written.
    """

    longest_name = 64
    most_columns = 1017
    years: Years = (1, 9999)

    def __init__(self, database: Mysql) -> None:
        self._database = database
        self._connection = mysql.connect(database)
        self._changes: Any = None
        self._collation = "utf8mb4_nopad_bin" if mysql.is_mariadb(self._connection) else "utf8mb4_0900_bin"
        self._several: dict[Table, bool] = {}

    def begin(self) -> None:
        """Do nothing: the first statement begins it."""

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._several.clear()
        self._connection.rollback()

    def close(self) -> None:
        for connection in (self._connection, self._changes):
            if connection is not None:
                with suppress(Exception):
                    connection.close()

    def interrupt(self) -> None:
        for connection in (self._connection, self._changes):
            if connection is not None and connection._sock is not None:
                with suppress(OSError):
                    connection._sock.shutdown(socket.SHUT_RDWR)

    def classify_error(self, error: Exception) -> PenstockError:
        return mysql.classify_error(error, self._database, writing=True)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        self._run(statement, values)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def _change(self, statement: str) -> None:
        """Run a statement that ends transactions."""
        self._ask_beside(statement)

    def _ask_beside(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement over the other connection: what it locks is not locked by this transaction."""
        if self._changes is None:
            self._changes = mysql.connect(self._database)
        with self._changes.cursor() as cursor:
            cursor.execute(statement)
            found = list(cursor.fetchall())
        self._changes.commit()
        return found

    def describe(self, table: Table) -> Mapping[str, Column] | None:
        rows = self._run(_COLUMNS, (table.schema, table.name))
        return {name: _described(name, *rest) for name, *rest in rows} or None

    def new_column(self, name: str, values: pa.Array) -> Column:
        declared, kind = _declared(values.type)
        return Column(name, kind, declared, json=declared == "JSON")

    def widen(
        self, table: Table, column: Column, values: pa.Array, *, change: bool, pending: Sequence[pa.Array] = ()
    ) -> Column:
        """Make whole numbers ``DOUBLE`` for a fraction, and ``DECIMAL`` for what exceeds 64 bits."""
        if not (change and is_.is_integer(column.type) and is_number(values.type)) or fits(values, column.type):
            return column
        name, wider = quoted(column.name), column
        if fits(values, pa.int64()) and not is_.is_uint64(column.type):
            wider = replace(column, type=pa.int64(), declared="BIGINT")
        elif is_.is_integer(values.type):
            wider = replace(column, type=pa.decimal128(20, 0), declared="DECIMAL(20,0)")
        elif all(is_exact(each, column, pa.float64()) for each in pending):
            query = (
                f"SELECT COALESCE(MAX(ABS(CAST({name} AS DECIMAL(20,0)))), 0) <= 9007199254740992 FROM {table.sql()}"  # noqa: S608
            )
            if self._ask_beside(query) == [(1,)]:
                wider = replace(column, type=pa.float64(), declared="DOUBLE")
        if wider is not column:
            self._change(f"ALTER TABLE {table.sql()} MODIFY COLUMN {name} {wider.declared}")
        return wider

    def create(self, table: Table, columns: Sequence[Column], key: Sequence[str]) -> None:
        parts = [f"{quoted(one.name)} {self._type(one, one.name in key)}" for one in columns]
        if key:
            parts.append(f"PRIMARY KEY ({listed(key)})")
        self._change(
            f"CREATE TABLE IF NOT EXISTS {table.sql()} ({', '.join(parts)}) ENGINE = InnoDB ROW_FORMAT = DYNAMIC "
            f"DEFAULT CHARSET = utf8mb4 COLLATE = {self._collation}"
        )

    def _type(self, column: Column, is_key: bool) -> str:
        """Texts and bytes that are a key have a length; texts are compared letter by letter."""
        if is_key and column.declared == "LONGTEXT":
            return f"VARCHAR({KEY_SIZE})"
        return f"VARBINARY({4 * KEY_SIZE})" if is_key and column.declared == "LONGBLOB" else column.declared

    def add(self, table: Table, columns: Sequence[Column]) -> None:
        there = set(map(self.folded, self.describe(table) or ()))
        parts = [
            f"ADD COLUMN {quoted(one.name)} {one.declared}"
            + (f" CHARACTER SET utf8mb4 COLLATE {self._collation}" if one.declared == "LONGTEXT" else "")
            for one in columns
            if self.folded(one.name) not in there
        ]
        if parts:
            self._change(f"ALTER TABLE {table.sql()} {', '.join(parts)}")

    def is_unique(self, table: Table, key: Sequence[str]) -> bool:
        wanted = {self.folded(name) for name in key}
        return any(wanted == {self.folded(name) for name in names} for names in self._unique_sets(table))

    def _unique_sets(self, table: Table) -> list[set[str]]:
        rows = self._run(_UNIQUE, (table.schema, table.name))
        return [set(names.split(",")) for _, names, parts in rows if not parts]

    def make_unique(self, table: Table, key: Sequence[str]) -> None:
        name = f"{table.name}_key"
        if len(name) > self.longest_name:
            name = f"penstock_{hashlib.sha256(table.sql().encode()).hexdigest()[:20]}_key"
        self._change(f"ALTER TABLE {table.sql()} ADD UNIQUE INDEX {quoted(name)} ({listed(key)})")

    def insert(
        self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str], *, update_first: bool = False
    ) -> None:
        if key and (update_first or self._has_several(table)):
            self._merge(table, columns, rows, key)
            return
        self._insert(table.sql(), columns, rows, self._on_duplicate(columns, key))

    def insert_defaults(self, table: Table, rows: int) -> None:
        self.execute(f"INSERT INTO {table.sql()} () VALUES {', '.join(['()'] * rows)}")  # noqa: S608

    def _has_several(self, table: Table) -> bool:
        """Tell whether rows may collide by something else than the key, which must not replace another row."""
        if table not in self._several:
            self._several[table] = len(self._unique_sets(table)) > 1
        return self._several[table]

    def _on_duplicate(self, columns: Sequence[Column], key: Sequence[str]) -> str:
        if not key:
            return ""
        names = {self.folded(name) for name in key}
        others = [quoted(one.name) for one in columns if self.folded(one.name) not in names] or [quoted(key[0])]
        return " ON DUPLICATE KEY UPDATE " + ", ".join(f"{name} = VALUES({name})" for name in others)

    def _merge(self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str]) -> None:
        """Update the rows that are there and insert the others, by a temporary table."""
        names = [column.name for column in columns]
        stage = quoted("_penstock_stage")
        self.execute(f"DROP TEMPORARY TABLE IF EXISTS {stage}")
        self.execute(f"CREATE TEMPORARY TABLE {stage} SELECT {listed(names)} FROM {table.sql()} LIMIT 0")  # noqa: S608
        self._insert(stage, columns, rows, "")
        folded = {self.folded(name) for name in key}
        same = " AND ".join(f"t.{quoted(n)} = s.{quoted(n)}" for n in names if self.folded(n) in folded)
        changes = ", ".join(f"t.{quoted(n)} = s.{quoted(n)}" for n in names if self.folded(n) not in folded)
        marks = ", ".join(f"s.{quoted(name)}" for name in names)
        # A temporary table can be read once in a statement: what is there already is deleted from it.
        if changes:
            self.execute(f"UPDATE {table.sql()} AS t JOIN {stage} AS s ON {same} SET {changes}")  # noqa: S608
        self.execute(f"DELETE s FROM {stage} AS s JOIN {table.sql()} AS t ON {same}")
        # Where none is left, what a new row needs is not to be asked for.
        if self._run(f"SELECT EXISTS (SELECT 1 FROM {stage})") == [(1,)]:  # noqa: S608
            self.execute(f"INSERT INTO {table.sql()} ({listed(names)}) SELECT {marks} FROM {stage} AS s")  # noqa: S608
        self.execute(f"DROP TEMPORARY TABLE {stage}")

    def _insert(self, place: str, columns: Sequence[Column], rows: Batch, ending: str) -> None:
        _refuse_no_numbers(columns, rows)
        into = f"INSERT INTO {place} ({listed([one.name for one in columns])}) VALUES "  # noqa: S608
        start = 0
        for chunk in _chunks(_tuples(rows)):
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(f"{into}{','.join(chunk)}{ending}")
            except pymysql.Error as error:
                row = mysql.row_of(error)
                known = self.classify_error(error)
                if row is None or row >= len(chunk) or not isinstance(known, PermanentError):
                    raise
                raise RowsRejected({start + row: str(known)}) from error
            start += len(chunk)

    def load(self, key: str) -> str | None:
        if not self._run(_COLUMNS, ("", POSITIONS)):
            self._connection.rollback()
            return None
        found = self._run(f'SELECT position FROM {POSITIONS} WHERE "key" = %s', (key,))  # noqa: S608
        self._connection.rollback()
        return found[0][0] if found else None

    def claim(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        """Lock the positions and return them.

        A transaction whose connection was cut may still commit: what it has locked makes this wait for its end.
        """
        self._make_positions()
        found: dict[str, str | None] = {}
        for key in sorted(keys):
            self.execute(f"INSERT IGNORE INTO {POSITIONS} VALUES (%s, %s)", (key, NO_POSITION))  # noqa: S608
            rows = self._run(f'SELECT position FROM {POSITIONS} WHERE "key" = %s FOR UPDATE', (key,))  # noqa: S608
            found[key] = rows[0][0] if rows else None
        return found

    def _make_positions(self) -> None:
        if not self._run(_COLUMNS, ("", POSITIONS)):
            self._change(
                f'CREATE TABLE IF NOT EXISTS {POSITIONS} ("key" VARCHAR(512) COLLATE {self._collation} PRIMARY KEY, '
                f"position LONGTEXT NOT NULL) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = {self._collation}"
            )

    def save(self, entries: Sequence[tuple[str, str]]) -> None:
        self._make_positions()
        for entry in sorted(entries):
            self.execute(
                f"INSERT INTO {POSITIONS} VALUES (%s, %s) "  # noqa: S608
                "ON DUPLICATE KEY UPDATE position = VALUES(position)",
                entry,
            )


def _refuse_no_numbers(columns: Sequence[Column], rows: Batch) -> None:
    """Raise RowsRejected for fractions that MySQL has not: infinity, and what is not a number."""
    refused: dict[int, str] = {}
    for column, values in zip(columns, rows.columns, strict=True):
        if is_.is_floating(values.type):
            bad = pc.invert(pc.is_finite(values)).fill_null(False)
            reason = f"column {column.name}: MySQL has no infinity and no NaN"
            refused |= dict.fromkeys(pc.indices_nonzero(bad).to_pylist(), reason)
    if refused:
        raise RowsRejected(refused)


def _tuples(rows: Batch) -> list[str]:
    """Return each row as it stands behind VALUES."""
    cells = [_literals(column) for column in rows.columns]
    separated = [part for cell in cells for part in (cell, pa.scalar(",", pa.large_string()))][:-1]
    empty = pa.scalar("", pa.large_string())
    inside = pc.binary_join_element_wise(*separated, empty) if len(separated) > 1 else separated[0]
    opening, closing = pa.scalar("(", pa.large_string()), pa.scalar(")", pa.large_string())
    found: list[str] = pc.binary_join_element_wise(opening, inside, closing, empty).to_pylist()
    return found


def _literals(values: pa.Array) -> pa.Array:
    """Return the values as literals of SQL; a backslash escapes in texts."""
    kind = values.type
    if is_binary(kind):
        hexed = [None if each is None else f"X'{each.hex()}'" for each in values.to_pylist()]
        texts = pa.array(hexed, pa.large_string())
    elif is_.is_boolean(kind):
        texts = values.cast(pa.int8()).cast(pa.large_string())
    elif is_number(kind):
        texts = values.cast(pa.string()).cast(pa.large_string())
    else:
        texts = values.cast(pa.timestamp(kind.unit)) if is_.is_timestamp(kind) else values
        texts = texts.cast(pa.string()).cast(pa.large_string())
        texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), "'", "''")
        quote, empty = pa.scalar("'", pa.large_string()), pa.scalar("", pa.large_string())
        texts = pc.binary_join_element_wise(quote, texts, quote, empty)
    return pc.fill_null(texts, "NULL")


def _chunks(tuples: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for each in tuples:
        if chunk and size + len(each) > MAX_STATEMENT_SIZE // 4:  # a letter has up to four bytes
            yield chunk
            chunk, size = [], 0
        chunk.append(each)
        size += len(each) + 1
    if chunk:
        yield chunk


def _declared(kind: pa.DataType) -> tuple[str, pa.DataType]:
    if is_.is_decimal(kind) and kind.precision <= 65 and 0 <= kind.scale <= 30:
        return f"DECIMAL({kind.precision},{kind.scale})", kind
    tests: list[tuple[bool, str, pa.DataType]] = [
        (is_.is_boolean(kind), "BOOLEAN", pa.bool_()),
        (is_.is_uint64(kind), "BIGINT UNSIGNED", pa.uint64()),
        (is_.is_integer(kind), "BIGINT", pa.int64()),
        (is_.is_floating(kind), "DOUBLE", pa.float64()),
        (is_binary(kind), "LONGBLOB", pa.binary()),
        (is_.is_date(kind), "DATE", pa.date32()),
        (is_.is_time(kind), "TIME(6)", pa.time64("us")),
        (is_.is_timestamp(kind), "DATETIME(6)", pa.timestamp("us")),
        (is_.is_nested(kind), "JSON", pa.string()),
    ]
    return next(((name, to) for fits_it, name, to in tests if fits_it), ("LONGTEXT", pa.string()))


def _described(
    name: str, kind: str, declared: str, precision: int | None, scale: int | None, default: Any, null: str, extra: str
) -> Column:
    found = _arrow_type(kind, declared.lower(), precision, scale)
    has_default = (default is not None and str(default).upper() != "NULL") or "auto_increment" in extra.lower()
    required = null != "YES"
    return Column(
        name,
        found,
        declared,
        json=kind == "json",
        has_default=has_default or "generated" in extra.lower(),
        is_required=required and not has_default,
        refuses_null=required and "auto_increment" not in extra.lower(),
    )


def _arrow_type(kind: str, declared: str, precision: int | None, scale: int | None) -> pa.DataType:
    """Return the type of what is sent; of types unknown here the server itself reads the text."""
    if declared.startswith("tinyint(1)") and "unsigned" not in declared:
        return pa.bool_()
    if kind in _INTEGERS:
        unsigned = "unsigned" in declared
        return (
            {8: pa.uint8, 16: pa.uint16, 32: pa.uint32, 64: pa.uint64}[_INTEGERS[kind]]()
            if unsigned
            else ({8: pa.int8, 16: pa.int16, 32: pa.int32, 64: pa.int64}[_INTEGERS[kind]]())
        )
    if kind == "decimal" and precision is not None:
        return (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale or 0)
    if "blob" in kind or "binary" in kind:
        return pa.binary()
    return _TYPES.get(kind, pa.string())
