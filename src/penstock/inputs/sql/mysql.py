"""Read a MySQL or MariaDB database, row by row as it sends them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.types as is_
from pymysql.constants import FIELD_TYPE, FLAG
from pymysql.converters import encoders
from pymysql.cursors import SSCursor

from ...clients import mysql
from ...clients.database import Mysql
from ...errors import PenstockError
from .references import Names
from .source import Fetched, Field, Source, quoted, text

_SETTINGS = ("SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SET SESSION TRANSACTION READ ONLY")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_BINARY_CHARSET = 63
_SIGNED = {
    FIELD_TYPE.TINY: pa.int8(),
    FIELD_TYPE.SHORT: pa.int16(),
    FIELD_TYPE.INT24: pa.int32(),
    FIELD_TYPE.LONG: pa.int32(),
    FIELD_TYPE.LONGLONG: pa.int64(),
}
_UNSIGNED = {
    FIELD_TYPE.TINY: pa.uint8(),
    FIELD_TYPE.SHORT: pa.uint16(),
    FIELD_TYPE.INT24: pa.uint32(),
    FIELD_TYPE.LONG: pa.uint32(),
    FIELD_TYPE.LONGLONG: pa.uint64(),
}
_TYPES = {
    FIELD_TYPE.FLOAT: pa.float32(),
    FIELD_TYPE.DOUBLE: pa.float64(),
    FIELD_TYPE.DATE: pa.date32(),
    FIELD_TYPE.NEWDATE: pa.date32(),
    FIELD_TYPE.TIME: pa.time64("us"),
    FIELD_TYPE.DATETIME: pa.timestamp("us"),
    FIELD_TYPE.TIMESTAMP: pa.timestamp("us", "UTC"),
    FIELD_TYPE.YEAR: pa.int16(),
    FIELD_TYPE.BIT: pa.uint64(),
}
_BYTES = (
    FIELD_TYPE.VARCHAR,
    FIELD_TYPE.VAR_STRING,
    FIELD_TYPE.STRING,
    FIELD_TYPE.TINY_BLOB,
    FIELD_TYPE.MEDIUM_BLOB,
    FIELD_TYPE.LONG_BLOB,
    FIELD_TYPE.BLOB,
    FIELD_TYPE.GEOMETRY,
)


class MysqlSource(Source):
    """A MySQL or MariaDB database that is only read."""

    def __init__(self, database: Mysql) -> None:
        self._database = database
        # Without conversions values come as the server prints them, which Arrow reads by column.
        self._connection = mysql.connect(database, _SETTINGS, conv=dict(encoders))

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        if self._connection._sock is not None:
            with suppress(OSError):
                self._connection._sock.shutdown(socket.SHUT_RDWR)

    def classify_error(self, error: Exception) -> PenstockError:
        return mysql.classify_error(error, self._database)

    def names(self) -> Names:
        return Names(self._schemas, self._tables)

    def _schemas(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT schema_name FROM information_schema.schemata")]

    def _tables(self) -> list[tuple[str, str]]:
        query = (
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = DATABASE() "
            "AND LEFT(table_name, 9) <> '_penstock' ORDER BY 1, 2"
        )
        return self._rows(query)

    def _rows(self, statement: str) -> list[Any]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            self._connection.rollback()

    def describe(self, query: str) -> Sequence[Field]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SELECT * FROM ({query}\n) AS penstock LIMIT 0")  # noqa: S608
                return [_field(each) for each in cursor._result.fields]
        finally:
            self._connection.rollback()

    def stream(self, statement: str, fields: Sequence[Field], rows: int) -> Iterator[Fetched]:
        names = [field.name for field in fields]
        cursor = self._connection.cursor(SSCursor)
        try:
            cursor.execute(statement)
            while found := cursor.fetchmany(rows):
                columns = zip(*found, strict=True)
                arrays = [_typed(list(cells), field.type) for cells, field in zip(columns, fields, strict=True)]
                yield Fetched(pa.RecordBatch.from_arrays(arrays, names=names), partial(_stored, found))
        finally:
            # What was not fetched would have to be read to its end: the connection is given up, unless it is at it.
            if cursor._result is not None and cursor._result.unbuffered_active:
                self._connection._force_close()
                self._connection = mysql.connect(self._database, _SETTINGS, conv=dict(encoders))
            else:
                cursor.close()
                self._connection.rollback()

    def count(self, statement: str) -> int:
        return int(self._rows(statement)[0][0])

    def printed(self, field: Field) -> str:
        return f"CAST(penstock.{quoted(field.name)} AS CHAR)"

    def literal(self, field: Field, value: str) -> str:
        kind = field.type
        if _NUMBER.fullmatch(value) and (is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind)):
            return value
        if is_.is_timestamp(kind):
            return f"CAST({text(value)} AS DATETIME(6))"
        return f"CAST({text(value)} AS DATE)" if is_.is_date(kind) else text(value)

    def start(self, field: Field, value: str | float) -> str:
        return self.literal(field, str(value))


def _stored(rows: Sequence[tuple[Any, ...]], index: int) -> bytes:
    return repr(rows[index]).encode("utf-8", "backslashreplace")


def _field(column: Any) -> Field:
    kind, unsigned = column.type_code, bool(column.flags & FLAG.UNSIGNED)
    arrow = _TYPES.get(kind, pa.string())
    if kind in _SIGNED:
        is_flag = kind == FIELD_TYPE.TINY and column.length == 1 and not unsigned
        arrow = pa.bool_() if is_flag else (_UNSIGNED if unsigned else _SIGNED)[kind]
    elif kind in (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL):
        precision = column.length - (not unsigned) - (column.scale > 0)
        arrow = (pa.decimal128 if precision <= 38 else pa.decimal256)(max(precision, 1), column.scale)
    elif kind in _BYTES and column.charsetnr == _BINARY_CHARSET:
        arrow = pa.binary()
    return Field(column.name, arrow, quoted(column.name))


def _typed(cells: list[Any], kind: pa.DataType) -> pa.Array:
    """What Arrow has no value for, such as the zero date or a time of 30 hours, comes as the server prints it."""
    if is_.is_uint64(kind) and any(isinstance(cell, bytes) for cell in cells):  # BIT
        return pa.array([None if cell is None else int.from_bytes(cell, "big") for cell in cells], kind)
    if is_.is_binary(kind):
        return pa.array([cell.encode() if isinstance(cell, str) else cell for cell in cells], kind)
    texts = pa.array([cell.decode() if isinstance(cell, bytes) else cell for cell in cells], pa.string())
    try:
        if is_.is_timestamp(kind):
            return texts.cast(pa.timestamp(kind.unit)).cast(kind)
        if is_.is_time(kind):
            moments = pa.array([None if text is None else f"1970-01-01 {text}" for text in texts.to_pylist()])
            return moments.cast(pa.timestamp("us")).cast(kind)
        return texts.cast(pa.int8()).cast(kind) if is_.is_boolean(kind) else texts.cast(kind)
    except pa.ArrowInvalid:
        return texts
