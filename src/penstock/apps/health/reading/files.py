"""Points as files: CSV, Parquet and JSON, written piece by piece in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Row, Text, type_coerce

from ....platform.columns import Moment
from ....platform.database import Database
from ....platform.web.paging import Key, Question
from ....platform.web.pieces import Pieces
from .points import Metric, payload, select_columns

CHUNK = 8192
"""How many rows are read, and held, at once."""
_TIME = pa.timestamp("us", "UTC")
COLUMNS = pa.schema(
    [
        ("record", pa.string()),
        ("metric", pa.string()),
        ("parent", pa.string()),
        ("time", _TIME),
        ("end_time", _TIME),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("ordinal", pa.int32()),
        ("value", pa.float64()),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
        ("unit", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("altitude", pa.float64()),
        ("fields", pa.string()),
        ("offset_minutes", pa.int32()),
        ("warnings", pa.string()),
    ]
)
"""The columns of a file: the same whatever is in it."""
RECEIVED = pa.schema([("original", pa.string()), ("original_unit", pa.string())])
"""The columns of what was received."""
_FORMULA = r"^[=+\-@\t\r\n]"


class Part:
    """Some rows of one metric, as they came from the database."""

    def __init__(self, metric: Metric, names: Sequence[str], rows: Sequence[Row[Any]]) -> None:
        self.metric, self.names, self.rows = metric, names, rows

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """Return the rows as columns; what the table has not is null."""
        values = dict(zip(self.names, zip(*self.rows, strict=True), strict=True)) if self.rows else {}
        count = len(self.rows)
        fixed = {"record": self.metric.record, "metric": self.metric.name}
        arrays = []
        for field in schema:
            if field.name in fixed:
                arrays.append(pa.repeat(pa.scalar(fixed[field.name]), count))
            elif field.name not in values:
                arrays.append(pa.nulls(count, field.type))
            elif field.type == _TIME and isinstance(values[field.name][0], str):
                arrays.append(pa.array(values[field.name], pa.string()).cast(_TIME))
            else:
                arrays.append(pa.array(values[field.name], field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def objects(self, schema: pa.Schema) -> list[dict[str, Any]]:
        """Return the rows as objects."""
        wanted = set(schema.names)
        fixed = {"record": self.metric.record, "metric": self.metric.name}
        return [
            fixed | {name: value for name, value in row.items() if name in wanted}
            for row in payload(self.names, self.rows)
        ]


class Encoder(Protocol):
    """Makes a file of parts."""

    media_type: str
    extension: str
    text_times: bool
    """Whether times may stay as SQLite keeps them."""

    def write(self, part: Part) -> bytes:
        """Return the next bytes of the file."""
        ...

    def end(self) -> bytes:
        """Return the last bytes of the file."""
        ...


class Csv:
    """Comma-separated values, RFC 4180, with a line of names.

    A text that a spreadsheet would take for a formula gets an apostrophe before it: it begins with ``=``, ``+``,
    ``-``, ``@``, a tab or a line break. The other formats keep it as it is.
    """

    media_type, extension, text_times = "text/csv", "csv", True

    def __init__(self, schema: pa.Schema) -> None:
        from pyarrow import csv

        self._schema, self._write_csv = schema, csv.write_csv
        self._options = csv.WriteOptions(include_header=False)
        self._head = (",".join(f'"{name}"' for name in schema.names) + "\n").encode()

    def write(self, part: Part) -> bytes:
        """Return the lines of ``part``, after those of the head where they are the first."""
        batch = part.batch(self._schema)
        arrays = [_harmless(array) if pa.types.is_string(array.type) else array for array in batch.columns]
        sink = io.BytesIO(self._head)
        sink.seek(0, io.SEEK_END)
        self._write_csv(pa.RecordBatch.from_arrays(arrays, schema=self._schema), sink, self._options)
        self._head = b""
        return sink.getvalue()

    def end(self) -> bytes:
        """Return the head if there was no row."""
        return self._head


def _harmless(array: pa.Array) -> pa.Array:
    risky = pc.match_substring_regex(array, _FORMULA)
    return pc.if_else(risky, pc.binary_join_element_wise("'", array, ""), array)


class Parquet:
    """Apache Parquet with the types of the columns, compressed with zstd."""

    media_type, extension, text_times = "application/vnd.apache.parquet", "parquet", True

    def __init__(self, schema: pa.Schema) -> None:
        from pyarrow import parquet

        self._schema = schema
        self._sink = Pieces()
        self._writer = parquet.ParquetWriter(self._sink, schema, compression="zstd")

    def write(self, part: Part) -> bytes:
        """Write ``part`` as a group of rows."""
        self._writer.write_batch(part.batch(self._schema))
        return self._sink.take()

    def end(self) -> bytes:
        """Write what closes the file."""
        self._writer.close()
        return self._sink.take()


class Json:
    """One JSON object: what ``about`` says, ``data`` with the rows, and ``record_count``."""

    media_type, extension, text_times = "application/json", "json", False

    def __init__(self, schema: pa.Schema, about: dict[str, Any]) -> None:
        self._schema = schema
        self._before = msgspec.json.encode(about)[:-1] + b',"data":['
        self._count = 0

    def write(self, part: Part) -> bytes:
        """Return the rows of ``part``."""
        rows = msgspec.json.encode(part.objects(self._schema))[1:-1]
        before, self._before = self._before, b"," if rows else self._before
        self._count += len(part.rows)
        return before + rows if rows else b""

    def end(self) -> bytes:
        """Return the end of the object."""
        before = b"" if self._count else self._before
        return before + b'],"record_count":' + str(self._count).encode() + b"}"


Asked = tuple[Metric, Question]


def parts(
    database: Database, asked: Sequence[Asked], *, text_times: bool, limit: int | None = None, after: Key | None = None
) -> Iterator[Part]:
    """Read the rows of several metrics, one after the other, in chunks.

    No connection is held between chunks, however slowly the file is taken. Rows that are inserted meanwhile may be
    among them or not; none comes twice. To be called in a thread.
    """
    for metric, question in asked:
        while limit is None or limit > 0:
            size = CHUNK if limit is None else min(CHUNK, limit)
            part, following = _read(database, metric, question, size, after, text_times)
            if part.rows:
                yield part
            if limit is not None:
                limit -= len(part.rows)
            after = following
            if following is None:
                break


def _read(
    database: Database, metric: Metric, question: Question, size: int, after: Key | None, text_times: bool
) -> tuple[Part, Key | None]:
    columns = select_columns(question.table, "ordinal")
    as_text = text_times and not database.is_postgres
    wanted = [
        type_coerce(column, Text) if as_text and isinstance(column.type, Moment) else column
        for column in columns.values()
    ]
    statement = question.statement(wanted, size, after, with_key=False)
    rows = database.call(lambda connection: connection.execute(statement).all())
    names = list(columns)
    if len(rows) < size:
        return Part(metric, names, rows), None
    places = {column.name: place for place, column in enumerate(columns.values())}
    last = (rows[-1][places[name]] for name in question.key)
    key = tuple(
        datetime.fromisoformat(value) if as_text and isinstance(column.type, Moment) else value
        for value, column in zip(last, question.ordered, strict=True)
    )
    return Part(metric, names, rows), key
