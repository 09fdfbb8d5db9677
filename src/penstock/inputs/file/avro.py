"""Read Avro files: the blocks they consist of, and the rows of a block."""

from __future__ import annotations

import io
import uuid
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
from fastavro.schema import SchemaParseException

from ...delivery import Batch, Decoder
from ...errors import PermanentError
from .content import Content
from .payloads import LONGEST, Cut

_MAGIC = b"Obj\x01"
_SYNC = 16
_HEAD = 64 << 10
_PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
}
_WIDTH = {pa.int32(): 0, pa.int64(): 1, pa.float32(): 2, pa.float64(): 3}
_LOGICAL = {
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
}


class Blocks:
    """The blocks of an Avro file, each a payload; one that is damaged ends at the next synchronisation marker."""

    def __init__(self) -> None:
        self.decoder: Decoder | None = None
        self._sync = b""

    def begin(self, content: Content, final: bool) -> int | None:
        """Return where the first block starts; raises PermanentError if this is no Avro file."""
        size = _HEAD
        while True:
            head = content.read_at(0, size)
            end = _header_end(head)
            if end is not None:
                break
            if len(head) < size or size >= LONGEST:
                raise PermanentError("the header is incomplete")
            size *= 2
        self._sync = head[end - _SYNC : end]
        self.decoder = BlockDecoder(head[:end])
        return end

    def split(self, data: bytes, within: int, final: bool) -> Cut:
        """Return the complete blocks and how many rows they say they hold."""
        starts, at, rows = [0], 0, 0
        while at < len(data):
            end, count = self._block(data, at, final)
            if end is None:
                break
            at, rows = end, rows + count
            starts.append(at)
        buffers = [None, pa.py_buffer(np.array(starts, np.int32)), pa.py_buffer(data)]
        return Cut(pa.BinaryArray.from_buffers(pa.binary(), len(starts) - 1, buffers), at, rows=rows)

    def _block(self, data: bytes, at: int, final: bool) -> tuple[int | None, int]:
        """Where the block at ``at`` ends, and its rows; None while it is not complete."""
        count, after = _number(data, at)
        size, start = _number(data, after)
        end = start + size + _SYNC
        believable = start > after > at and 0 <= size <= LONGEST and count >= 0
        if believable and end <= len(data) and data[end - _SYNC : end] == self._sync:
            return end, count
        if believable and end > len(data) and not final:
            return None, 0
        if (marker := data.find(self._sync, at + 1)) >= 0:
            return marker + _SYNC, 0  # its decoder refuses it
        if final and at == 0:
            raise PermanentError("the file ends within a block")
        return None, 0


def _header_end(head: bytes) -> int | None:
    if head[: len(_MAGIC)] != _MAGIC[: len(head)]:
        raise PermanentError("this is no Avro file: it does not begin with 'Obj'")
    at = len(_MAGIC)
    while at < len(head):
        count, at = _number(head, at)
        if count < 0:
            _, at = _number(head, at)
        if count == 0:
            return at + _SYNC if at + _SYNC <= len(head) else None
        for _ in range(2 * abs(count)):
            length, start = _number(head, at)
            if start == at or length < 0:
                return None
            at = start + length
    return None


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length number; returns where it ends, ``at`` itself if it does not."""
    value = shift = 0
    for index in range(at, min(at + 10, len(data))):
        value |= (data[index] & 0x7F) << shift
        shift += 7
        if data[index] < 0x80:
            return (value >> 1) ^ -(value & 1), index + 1
    return 0, at


class BlockDecoder:
    """Decodes blocks of one Avro file, by its header, with the column types of its schema."""

    def __init__(self, header: bytes) -> None:
        self._header = header
        try:
            self._types = _Types()
            self._schema = self._types.schema(fastavro.reader(io.BytesIO(header)).writer_schema)
        except (ValueError, EOFError, KeyError, TypeError, SchemaParseException) as error:
            raise PermanentError(f"the schema of this Avro file cannot be read: {error!r}") from error

    def __call__(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all blocks; raises PermanentError if any of them cannot be read."""
        rows: list[Any] = []
        for payload in payloads:
            try:
                for block in fastavro.block_reader(io.BytesIO(self._header + payload.as_py())):
                    rows.extend(block)
            except Exception as error:  # whatever a damaged block makes of the reader's structures
                raise PermanentError(f"an Avro block cannot be read: {type(error).__name__}: {error}") from error
        columns = []
        for field in self._schema:
            values = [row[field.name] for row in rows] if self._types.is_record else rows
            try:
                columns.append(pa.array([_plain(value) for value in values], field.type))
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                raise PermanentError(f"the column {field.name!r} of an Avro block: {error}") from error
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _plain(value: Any) -> Any:
    if isinstance(value, uuid.UUID):
        return str(value)
    return value


class _Types:
    """The Arrow types of an Avro schema; a union of several numbers is the widest of them."""

    is_record = True

    def __init__(self) -> None:
        self._named: dict[str, pa.DataType] = {}

    def schema(self, schema: Any) -> pa.Schema:
        kind = self.type(schema)
        self.is_record = pa.types.is_struct(kind)
        return pa.schema(kind.fields if self.is_record else [pa.field("value", kind)])

    def type(self, schema: Any) -> pa.DataType:
        if isinstance(schema, str):
            return _PRIMITIVES.get(schema) or self._named[schema]
        if isinstance(schema, list):
            kinds = [self.type(kind) for kind in schema if kind != "null"]
            if len(set(kinds)) <= 1:
                return kinds[0] if kinds else pa.null()
            if all(kind in _WIDTH for kind in kinds):
                return max(kinds, key=_WIDTH.__getitem__)
            raise PermanentError(f"a union of {', '.join(map(str, kinds))} has no column type")
        kind = schema["type"]
        logical = schema.get("logicalType")
        if logical == "decimal":
            return pa.decimal128(schema["precision"], schema.get("scale", 0))
        if logical == "uuid":
            return pa.string()
        if logical in _LOGICAL:
            return _LOGICAL[logical]
        found = self._composite(kind, schema)
        if "name" in schema:
            self._named[schema["name"]] = self._named[f"{schema.get('namespace', '')}.{schema['name']}"] = found
        return found

    def _composite(self, kind: Any, schema: Any) -> pa.DataType:
        if kind == "record":
            return pa.struct([pa.field(field["name"], self.type(field["type"])) for field in schema["fields"]])
        if kind == "array":
            return pa.list_(self.type(schema["items"]))
        if kind == "map":
            return pa.map_(pa.string(), self.type(schema["values"]))
        if kind == "fixed":
            return pa.binary(schema["size"])
        return self.type(kind)
