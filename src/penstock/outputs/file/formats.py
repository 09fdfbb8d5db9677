"""The formats of files: how each is told from a path, and how rows are written in it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ... import iso8601
from ...component import Codec
from ...delivery import Batch
from ...errors import PermanentError


class Format(StrEnum):
    """How rows are written."""

    AUTO = "auto"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    AVRO = "avro"
    ARROW = "arrow"
    TEXT = "text"


class Compression(StrEnum):
    """How the bytes are made fewer."""

    AUTO = "auto"
    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    SNAPPY = "snappy"


GROWING = {Format.JSON, Format.CSV, Format.TEXT}
"""Formats of which a file stays readable when rows are appended to it."""
_ENDINGS = {
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), Format.JSON),
    ".csv": Format.CSV,
    **dict.fromkeys((".parquet", ".pq"), Format.PARQUET),
    ".avro": Format.AVRO,
    **dict.fromkeys((".arrow", ".feather", ".ipc"), Format.ARROW),
    **dict.fromkeys((".txt", ".log", ".bin", ""), Format.TEXT),
}
_PACKED = {".gz": Compression.GZIP, ".zst": Compression.ZSTD}
_ALLOWED = {
    **dict.fromkeys(GROWING, (Compression.NONE, Compression.GZIP, Compression.ZSTD)),
    Format.PARQUET: (Compression.ZSTD, Compression.NONE, Compression.GZIP, Compression.SNAPPY),
    Format.AVRO: (Compression.GZIP, Compression.NONE),
    Format.ARROW: (Compression.NONE, Compression.ZSTD),
}


def tell(name: str, format: Format, compression: Compression, *, payloads: bool) -> tuple[Format, Compression, str]:
    """Return format, compression and the ending of a file's name; raises ValueError where they do not agree."""
    stem, packing = _without_ending(name, _PACKED)
    _, ending = _without_ending(stem, _ENDINGS)
    dotted = ending or ("." + stem.rsplit(".", 1)[1] if "." in stem[1:] else "")
    if format is Format.AUTO and dotted not in _ENDINGS and not payloads:
        raise ValueError(f"cannot tell the format of {name!r} from {dotted!r}: set `format`")
    if format is Format.AUTO:
        format = _ENDINGS.get(dotted, Format.TEXT)
    if payloads and format not in (Format.JSON, Format.TEXT):
        raise ValueError(f"a {format} file holds rows, not the payloads of a codec: leave out `codec` or use `text`")
    allowed = _ALLOWED[format]
    if compression is Compression.AUTO:
        compression = _PACKED.get(packing, allowed[0])
    if compression not in allowed:
        raise ValueError(f"{format} cannot be compressed with {compression}: expected {', '.join(sorted(allowed))}")
    return format, compression, ending + packing


def _without_ending(name: str, known: Any) -> tuple[str, str]:
    for ending in known:
        if ending and name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)], name[-len(ending) :]
    return name, ""


def packed(data: pa.Buffer, compression: Compression) -> pa.Buffer:
    """Compress into a member of its own, so that members may follow one another."""
    if compression is Compression.NONE:
        return data
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, compression.value) as stream:
        stream.write(data)
    return sink.getvalue()


def _refuse_local_times_beyond_their_type(column: pa.Array) -> None:
    """Raise PermanentError for a time within a day of the limits of its type: in its zone it would wrap around."""
    kind = column.type
    if not pa.types.is_timestamp(kind) or kind.tz in (None, "UTC") or column.null_count == len(column):
        return
    day = 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    least, greatest = pc.min_max(column.cast(pa.int64())).as_py().values()
    if greatest > 2**63 - 1 - day or least < day - 2**63:
        raise PermanentError(f"csv cannot hold the rows: the local time in {kind.tz} is out of range of {kind}")


def csv(batch: Batch, *, header: bool) -> pa.Buffer:
    """Write rows as CSV: texts quoted, so that null and empty differ; lists and structs as JSON, durations as texts."""
    from pyarrow import csv as writing

    sink = pa.BufferOutputStream()
    for column in batch.columns:
        _refuse_local_times_beyond_their_type(column)
    columns = [_flat(column) for column in batch.columns]
    batch = pa.RecordBatch.from_arrays(columns, batch.schema.names)
    try:
        writing.write_csv(batch, sink, writing.WriteOptions(include_header=header))
    except pa.ArrowException as error:
        raise PermanentError(f"csv cannot hold the rows: {error}") from error
    return sink.getvalue()


def _flat(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.large_binary())
    if not pa.types.is_nested(kind):
        return iso8601.plain(column)
    lines = Codec.find("json")().encode(pa.RecordBatch.from_arrays([column], ["v"])).cast(pa.string())
    texts = pc.replace_substring_regex(lines, r'(?s)^\s*\{\s*"v"\s*:\s*(.*)\}\s*$', r"\1")
    return pc.if_else(column.is_valid(), texts, pa.scalar(None, pa.string()))


def encode(table: pa.Table, format: Format, compression: Compression) -> pa.Buffer:
    """Write a whole file of a format that is complete only at its end; PermanentError for what it cannot hold."""
    sink = pa.BufferOutputStream()
    try:
        if format is Format.PARQUET:
            from pyarrow import parquet

            parquet.write_table(table, sink, compression=compression.value)
        elif format is Format.ARROW:
            name = "zstd" if compression is Compression.ZSTD else None
            with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=name)) as writer:
                writer.write_table(table)
        else:
            return _avro(table, compression)
    except (pa.ArrowException, PermanentError) as error:
        raise PermanentError(f"{format} cannot hold the rows: {str(error).splitlines()[0]}") from error
    return sink.getvalue()


def _avro(table: pa.Table, compression: Compression) -> pa.Buffer:
    columns = [_avro_column(column.combine_chunks()) for column in table.columns]
    codec = Codec.parse({"type": "avro", "compression": "none" if compression is Compression.NONE else "deflate"})
    batch = pa.table(columns, table.schema.names).combine_chunks().to_batches()[0]
    return pa.py_buffer(codec.encode(batch)[0].as_buffer())


def _avro_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """What is finer than Avro's microseconds is an error, and durations are texts, as their unit has no place."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return iso8601.plain(array) if pa.types.is_duration(array.type) else array.cast(_avro_type(array.type))


_AVRO_TYPES = {
    **dict.fromkeys((pa.int8(), pa.int16(), pa.uint8(), pa.uint16()), pa.int32()),
    **dict.fromkeys((pa.uint32(), pa.uint64()), pa.int64()),
    pa.float16(): pa.float32(),
    pa.null(): pa.string(),
    pa.string_view(): pa.string(),
    pa.binary_view(): pa.binary(),
}


def _avro_type(kind: pa.DataType) -> pa.DataType:
    """The nearest type that Avro has: times in microseconds of UTC, small integers as ``int``."""
    types = pa.types
    if types.is_dictionary(kind):
        return _avro_type(kind.value_type)
    if types.is_timestamp(kind):
        return pa.timestamp("ms" if kind.unit in ("s", "ms") else "us")
    if types.is_duration(kind):
        return pa.int64()
    if types.is_time(kind):
        return pa.string()
    if types.is_map(kind):
        entry = pa.struct([("key", _avro_type(kind.key_type)), ("value", _avro_type(kind.item_type))])
        return pa.list_(entry)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_avro_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_avro_type(field.type)) for field in kind])
    return _AVRO_TYPES.get(kind, kind)
