"""Avro: object container files, or single datums of a known schema."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import fastavro
import pyarrow as pa
from fastavro.schema import SchemaParseException
from pydantic import Field, field_validator

from ...component import Codec
from ...delivery import Batch
from ...errors import PermanentError
from ..arrow import single, unite
from .types import as_arrow, as_items, from_arrow, writable

_SYNC = 16


class Avro(Codec, type="avro"):
    """Avro: object container files, or single datums of a known schema.

    Without ``schema`` a payload is a whole container file, which tells its own schema, and may hold any number of
    rows; written, a whole batch is ONE payload. With ``schema`` a payload is one datum, one row, in both directions.

    Records become columns, unions with null nullable columns, unions of numbers the widest of them. A union of several
    kinds becomes a struct with a field for each, ``member0``, ``member1`` and so on, of which a row fills one; records
    in it are told apart by the names of their fields. A schema that contains itself has no columns: the whole file is
    refused. Other values than records become the column ``value``. Written, every column is nullable, times are in
    milliseconds or microseconds, and what Avro has no type for is refused: durations, and integers and times beyond
    its own.

    Example::

        type: avro
        compression: deflate
    """

    extra: ClassVar[str] = "avro"

    schema_: Any = Field(default=None, alias="schema")
    """The Avro schema of each payload, as a mapping or as JSON text."""
    compression: Literal["deflate", "none"] = "deflate"
    """How the container files that are written are compressed."""

    @field_validator("schema_")
    @classmethod
    def _check_schema(cls, schema: Any) -> Any:
        if schema is None:
            return None
        try:
            found = json.loads(schema) if isinstance(schema, str) and schema.lstrip()[:1] in ("{", "[") else schema
            as_arrow(fastavro.parse_schema(found))
        except (SchemaParseException, PermanentError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"this is no Avro schema that has columns: {error!r}") from error
        return found

    def decode(self, payloads: pa.BinaryArray) -> Batch:
        """Return the rows of all payloads; raises PermanentError if one is damaged or cut off."""
        if self.schema_ is not None:
            return _build(self._parsed, [_guarded(self._read_datum, payload) for payload in payloads.to_pylist()])
        files = [_guarded(_read_file, payload) for payload in payloads.to_pylist()]
        return unite([pa.Table.from_batches([_build(schema, rows)]) for schema, rows in files])

    def encode(self, batch: Batch) -> pa.BinaryArray:
        """Return one payload for all rows, or with `schema` for each; raises PermanentError for what does not fit."""
        rows = _rows_of(writable(batch))
        if self.schema_ is not None:
            return pa.array([self._write_datum(row) for row in rows], pa.binary())
        schema = from_arrow(batch.schema)
        codec = "null" if self.compression == "none" else self.compression
        # The marker between blocks is told by the schema, so that the same rows always give the same bytes.
        marker = hashlib.sha256(json.dumps(schema).encode()).digest()[:_SYNC]
        sink = io.BytesIO()
        _written(lambda: fastavro.writer(sink, schema, rows, codec=codec, sync_marker=marker))
        return single(pa.py_buffer(sink.getvalue()), batch)

    @cached_property
    def _parsed(self) -> Any:
        return fastavro.parse_schema(self.schema_)

    def _read_datum(self, payload: bytes) -> Any:
        source = io.BytesIO(payload)
        datum = fastavro.schemaless_reader(source, self._parsed, None)
        if source.tell() < len(payload):
            raise ValueError(f"{len(payload) - source.tell()} bytes follow the datum")
        return datum

    def _write_datum(self, row: dict[str, Any]) -> bytes:
        sink = io.BytesIO()
        datum = row if _is_record(self._parsed) else row.get("value")
        _written(lambda: fastavro.schemaless_writer(sink, self._parsed, datum))
        return sink.getvalue()


def _is_record(schema: Any) -> bool:
    return isinstance(schema, dict) and "fields" in schema


def _read_file(payload: bytes) -> tuple[Any, list[Any]]:
    reader = fastavro.reader(io.BytesIO(payload))
    return reader.writer_schema, list(reader)


def _rows_of(batch: Batch) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist(maps_as_pydicts="strict")  # type: ignore[no-any-return]
    except (KeyError, ValueError, OverflowError) as error:
        raise PermanentError(f"the rows cannot be written as Avro: {str(error)[:240]}") from error


def _guarded(read: Callable[[bytes], Any], payload: bytes) -> Any:
    try:
        return read(payload)
    except PermanentError:
        raise
    except Exception as error:  # a damaged payload makes the reader fail in any way
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        raise PermanentError(f"the payload is no Avro of the kind expected, or is cut off: {reason}") from error


def _written(write: Callable[[], Any]) -> None:
    try:
        write()
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise PermanentError(f"the rows cannot be written as Avro: {str(error)[:240]}") from error


def _build(schema: Any, rows: Sequence[Any]) -> Batch:
    """Rows as columns; values that are not records stand in the only column."""
    records = rows if _is_record(schema) else [{"value": row} for row in rows]
    arrays, fields = [], as_arrow(schema)
    for field in fields:
        try:
            arrays.append(pa.array([as_items(record[field.name], field.type) for record in records], field.type))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise PermanentError(f"column `{field.name}` of the payload: {str(error)[:240]}") from error
    if not arrays:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(rows), pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, schema=fields)
