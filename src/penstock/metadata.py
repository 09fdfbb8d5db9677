"""Where rows came from: the ``__meta_*`` columns, made only for those who read them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

PREFIX = "__meta_"
VALUE = "__value__"
"""The Binary column of a batch that no codec has decoded: one payload a row."""

EXT = "__meta_ext"
"""What else the source told of a row: the table in the path of a request, the path of a file."""
ABSENT = "__meta_absent"
"""The columns that a row does not have, though the batch has them; see ``absence``."""

SCHEMA = pa.schema(
    [
        pa.field("__meta_source", pa.string()),
        pa.field("__meta_partition", pa.uint32()),
        pa.field("__meta_offset", pa.uint64()),
        pa.field("__meta_key", pa.binary()),
        pa.field("__meta_timestamp", pa.timestamp("ns")),
        pa.field("__meta_ingest_time", pa.timestamp("ns")),
        pa.field(EXT, pa.map_(pa.string(), pa.string())),
    ]
)
"""Names and types of the metadata columns. Times are UTC."""


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where the rows of one batch came from. A single value stands for every row."""

    source: str
    """The type of the input, for example ``kafka``."""
    partition: int = 0
    """The partition, where the source has them."""
    offset: int | pa.Array | None = None
    """The offset of the first row, the others counting up from it, or an array with one a row."""
    key: pa.Array | None = None
    """The message keys, Binary."""
    timestamp: pa.Array | None = None
    """When the source says each row was made, timestamp[ns]."""
    ext: Mapping[str, str] | Sequence[Mapping[str, str]] = field(default_factory=dict)
    """What else the source tells (topic, path, header), for all rows or for each."""
    ingest_time: int = field(default_factory=time.time_ns)
    """When it was read, in ns since 1970 UTC."""

    def columns(self, rows: int) -> list[pa.Array]:
        """Return the metadata of ``rows`` rows, in the order of ``SCHEMA``."""
        return [
            pa.repeat(pa.scalar(self.source), rows),
            pa.repeat(pa.scalar(self.partition, pa.uint32()), rows),
            self._offsets(rows),
            self.key.cast(pa.binary()) if self.key is not None else pa.nulls(rows, pa.binary()),
            self.timestamp if self.timestamp is not None else pa.nulls(rows, pa.timestamp("ns")),
            pa.repeat(pa.scalar(self.ingest_time, pa.timestamp("ns")), rows),
            self._exts(rows),
        ]

    def _offsets(self, rows: int) -> pa.Array:
        if self.offset is None:
            return pa.nulls(rows, pa.uint64())
        if isinstance(self.offset, int):
            return pa.array(range(self.offset, self.offset + rows), pa.uint64())
        return self.offset.cast(pa.uint64())

    def _exts(self, rows: int) -> pa.Array:
        kind = SCHEMA.field(EXT).type
        if isinstance(self.ext, Mapping):
            one = pa.array([list(self.ext.items())], kind)
            return one.take(pa.repeat(0, rows))
        return pa.array([list(ext.items()) for ext in self.ext], kind)


_PAYLOADS = pa.schema([pa.field(VALUE, pa.binary(), nullable=False)])


def payloads(values: Sequence[bytes] | pa.BinaryArray) -> pa.RecordBatch:
    """Return the batch of payloads that a codec is to decode, one a row."""
    array = values if isinstance(values, pa.Array) else pa.array(values, pa.binary())
    return pa.RecordBatch.from_arrays([array], schema=_PAYLOADS)


def attach(batch: pa.RecordBatch, origin: Origin | None) -> pa.RecordBatch:
    """Add the metadata columns of ``origin`` to a batch, unless it has them already."""
    if origin is None or any(name.startswith(PREFIX) and name != ABSENT for name in batch.schema.names):
        return batch
    arrays = [*batch.columns, *origin.columns(batch.num_rows)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([*batch.schema, *SCHEMA]))


def has_metadata(schema: pa.Schema) -> bool:
    """Tell whether any column carries metadata."""
    return any(name.startswith(PREFIX) for name in schema.names)


def without_metadata(batch: pa.RecordBatch, *, keep_absent: bool = False) -> pa.RecordBatch:
    """Return the batch without its metadata columns, as outputs write it.

    ``keep_absent``: but with the note of what its rows lack.
    """
    if not has_metadata(batch.schema):
        return batch
    kept = (ABSENT,) if keep_absent else ()
    return batch.select([name for name in batch.schema.names if not name.startswith(PREFIX) or name in kept])


def keep_metadata(source: pa.RecordBatch, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Copy the metadata columns of ``source`` to a batch of the same rows that lacks them."""
    missing = [n for n in source.schema.names if n.startswith(PREFIX) and n not in batch.schema.names]
    if not missing:
        return batch
    fields = [*batch.schema, *(source.schema.field(name) for name in missing)]
    return pa.RecordBatch.from_arrays(
        [*batch.columns, *(source.column(name) for name in missing)], schema=pa.schema(fields)
    )
