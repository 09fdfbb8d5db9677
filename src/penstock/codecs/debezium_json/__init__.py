"""Change events of databases, as Debezium writes them in JSON."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from ...component import Codec
from ...delivery import Batch, Decoder, Learning
from ...errors import PermanentError
from ..arrow import unite
from ..json import Json
from .schema import Schema, find_schema

_OWN = ("op", "ts_ms", "source_db", "source_table", "before", "source")


class Event(msgspec.Struct):
    """The envelope of a change."""

    op: str
    before: msgspec.Raw = msgspec.Raw(b"null")
    after: msgspec.Raw = msgspec.Raw(b"null")
    source: msgspec.Raw = msgspec.Raw(b"null")
    ts_ms: int | None = None


class Wrapped(msgspec.Struct):
    """An envelope beside the schema of its parts, if it has one."""

    payload: msgspec.Raw
    schema: msgspec.Raw = msgspec.Raw(b"null")


class Source(msgspec.Struct):
    """Where a change was made: databases name it in different ways."""

    db: str | None = None
    table: str | None = None
    collection: str | None = None


class DebeziumJson(Codec, type="debezium_json"):
    """Change events of databases, as Debezium writes them in JSON.

    Each event is a row: the row of the table after the change, or before it where there is none after, as in a delete.
    Beside its columns stand `op` (`c` created, `u` updated, `d` deleted, `r` read by a snapshot, `t` truncated),
    `ts_ms`, `source_db`, `source_table`, and `before` and `source` as JSON text. Where the table has a column of such a
    name, that of the event is called `__op` and so on. With `unwrap: false` there are `before` and `after` as structs
    instead of the columns.

    Events with a schema beside their payload have the types that it tells: decimals in base64 keep every digit,
    dates, times and timestamps are what they are, bytes are bytes. Without one the columns are inferred as those of
    `json`. A tombstone, which follows a delete, is a row of nulls; `__meta_key` says of what.

    Written, rows are JSON objects, as with `json`.

    Example::

        type: debezium_json
    """

    unwrap: bool = True
    """Whether the row of the table is promoted to columns."""

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return a row for each event; raises PermanentError for what is not one."""
        return _Decoder(self.unwrap, Json().decode)(payloads)

    def decoder(self, columns: frozenset[str] | None = None) -> Decoder:
        """Return a decoder whose inferred columns only ever grow."""
        return _Decoder(self.unwrap, Json().decoder())

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return one object for each row; raises PermanentError for a type that JSON cannot express."""
        return Json().encode(batch)

    def encode_lines(self, batch: Batch) -> pa.Buffer:
        """Return all rows as one text of lines, each ended by a newline."""
        return Json().encode_lines(batch)


class _Decoder:
    def __init__(self, unwrap: bool, infer: Decoder) -> None:
        self._unwrap, self._infer = unwrap, infer

    def apart(self, destination: Hashable) -> Decoder:
        """Return the decoder for one destination, such as a topic."""
        inner = self._infer
        return _Decoder(self._unwrap, inner.apart(destination) if isinstance(inner, Learning) else inner)

    def __call__(self, payloads: pa.BinaryArray) -> Batch:
        events = [_read(payload) for payload in payloads.to_pylist()]
        runs: list[tuple[Schema | None, list[Event]]] = []
        for event, schema in events:
            if not runs or runs[-1][0] is not schema:
                runs.append((schema, []))
            runs[-1][1].append(event)
        if len(runs) == 1:
            return self._rows(*runs[0])
        return unite([pa.Table.from_batches([self._rows(schema, some)]) for schema, some in runs])

    def _rows(self, schema: Schema | None, events: Sequence[Event]) -> Batch:
        if self._unwrap:
            whole = [event.before if bytes(event.after) == b"null" else event.after for event in events]
            table = self._columns(schema, whole)
        else:
            table = self._nested(schema, events)
        names = {name: f"__{name}" if name in table.schema.names else name for name in _OWN}
        told = {
            names[name]: column for name, column in _describe_change(events).items() if self._unwrap or name != "before"
        }
        return pa.RecordBatch.from_arrays(
            [*table.columns, *told.values()],
            schema=pa.schema([*table.schema, *(pa.field(name, column.type) for name, column in told.items())]),
        )

    def _columns(self, schema: Schema | None, rows: Sequence[msgspec.Raw]) -> Batch:
        if schema is not None:
            return schema.read([bytes(row) for row in rows])
        return self._infer(pa.array([b"{}" if bytes(row) == b"null" else bytes(row) for row in rows], pa.binary()))

    def _nested(self, schema: Schema | None, events: Sequence[Event]) -> Batch:
        if schema is None:
            texts = [b'{"before":%b,"after":%b}' % (bytes(one.before), bytes(one.after)) for one in events]
            return self._infer(pa.array(texts, pa.binary()))
        parts = {
            "before": schema.structs([bytes(event.before) for event in events]),
            "after": schema.structs([bytes(event.after) for event in events]),
        }
        return pa.RecordBatch.from_pydict(parts)


def _read(payload: bytes) -> tuple[Event, Schema | None]:
    try:
        wrapped = _is_wrapped(payload)
        text = payload if wrapped is None else bytes(wrapped.payload)
        event = msgspec.json.decode(text, type=Event)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PermanentError(f"this is not a change event of Debezium: {str(error)[:200]}") from error
    if any(bytes(row).lstrip()[:1] not in (b"{", b"n") for row in (event.before, event.after)):
        raise PermanentError("this is not a change event of Debezium: `before` and `after` are objects or null")
    if wrapped is None or bytes(wrapped.schema) == b"null":
        return event, None
    return event, find_schema(bytes(wrapped.schema))


def _is_wrapped(payload: bytes) -> Wrapped | None:
    """Return the envelope and its schema, if they stand in an object of their own."""
    try:
        return msgspec.json.decode(payload, type=Wrapped)
    except msgspec.ValidationError:
        return None


def _describe_change(events: Sequence[Event]) -> dict[str, pa.Array]:
    """Return what events tell besides the row."""
    sources = [_source(event) for event in events]
    columns: dict[str, tuple[list[Any], pa.DataType]] = {
        "op": ([event.op for event in events], pa.string()),
        "ts_ms": ([event.ts_ms for event in events], pa.int64()),
        "source_db": ([source.db for source in sources], pa.string()),
        "source_table": ([source.table or source.collection for source in sources], pa.string()),
        "before": ([_text(event.before) for event in events], pa.string()),
        "source": ([_text(event.source) for event in events], pa.string()),
    }
    try:
        return {name: pa.array(values, kind) for name, (values, kind) in columns.items()}
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise PermanentError(f"this is not a change event of Debezium: {str(error)[:200]}") from error


def _source(event: Event) -> Source:
    if bytes(event.source) == b"null":
        return Source()
    try:
        return msgspec.json.decode(bytes(event.source), type=Source)
    except msgspec.MsgspecError as error:
        raise PermanentError(f"the source of the change event: {str(error)[:200]}") from error


def _text(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text
