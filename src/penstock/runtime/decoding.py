"""From payloads to rows: each destination is decoded apart, and what else a payload has stays beside its rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..delivery import Batch, Decoder, learns
from ..metadata import EXT, PREFIX, VALUE, keep_metadata


def decode(raw: Batch, decoder: Decoder) -> list[Batch]:
    """Decode the payloads of ``raw``, in order; neighbours of one destination come in one batch."""
    if raw.column(VALUE).null_count:
        return _decode_around_nulls(raw, decoder)
    if EXT not in raw.schema.names or not learns(decoder):
        return [_decode(raw, decoder)]
    return [_decode(part, decoder.apart(destination)) for destination, part in destinations(raw)]


def _decode_around_nulls(raw: Batch, decoder: Decoder) -> list[Batch]:
    """Decode the payloads there are; a row without one, such as a tombstone, becomes a row of nulls in its place."""
    is_null = raw.column(VALUE).is_null()
    changes = pc.indices_nonzero(pc.not_equal(is_null.slice(1), is_null.slice(0, len(is_null) - 1))).to_pylist()
    starts = [0, *(at + 1 for at in changes)]
    runs = [raw.slice(start, end - start) for start, end in zip(starts, [*starts[1:], raw.num_rows], strict=True)]
    found = [None if run.column(VALUE).null_count else decode(run, decoder) for run in runs]
    decoded = next((part[0] for part in found if part), None)
    decoded = decoder(pa.array([], pa.binary())) if decoded is None else decoded
    fields = [field for field in decoded.schema if not field.name.startswith(PREFIX)]
    return [
        batch
        for run, part in zip(runs, found, strict=True)
        for batch in ([_nulls(run, fields)] if part is None else part)
    ]


def _nulls(raw: Batch, fields: list[pa.Field]) -> Batch:
    """Return rows of nulls with the metadata of ``raw``, which keeps its own column where no other is known."""
    if not fields:
        return raw
    fields = [field.with_nullable(True) for field in fields]
    arrays = [pa.nulls(raw.num_rows, field.type) for field in fields]
    return keep_metadata(raw, pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)))


def destinations(batch: Batch) -> Iterator[tuple[Hashable, Batch]]:
    """Find the runs of rows with the same metadata of the input, by which an output may route them."""
    told = batch.column(EXT)
    if _is_constant(told):
        yield _key(told[0].as_py() if len(told) else None), batch
        return
    keys = [_key(each) for each in told.to_pylist()]
    starts = [0, *(row for row in range(1, len(keys)) if keys[row] != keys[row - 1])]
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        yield keys[start], batch.slice(start, end - start)


def _key(told: list[tuple[str, str]] | None) -> Hashable:
    return tuple(sorted((name, value or "") for name, value in told or []))


def _is_constant(told: pa.MapArray) -> bool:
    if len(told) < 2:
        return True
    lengths = np.diff(told.offsets.to_numpy())
    if told.null_count or (lengths != lengths[0]).any():
        return bool(told.null_count == len(told))
    size, start = int(lengths[0]), told.offsets[0].as_py()
    for values in (told.keys, told.items):
        values = values.slice(start, size * len(told))
        if not pc.all(pc.equal(values.slice(size), values.slice(0, len(values) - size)).fill_null(False)).as_py():
            return False
    return True


def _decode(raw: Batch, decoder: Decoder) -> Batch:
    payloads = raw.column(VALUE)
    decoded = decoder(payloads)
    if raw.num_columns == 1:
        return decoded
    if forged := [n for n in decoded.schema.names if n.startswith(PREFIX) and n in raw.schema.names]:
        decoded = decoded.drop_columns(forged)  # Where rows came from is not for them to say.
    if decoded.num_rows == raw.num_rows:
        return keep_metadata(raw, decoded)
    counts = [decoder(payloads.slice(index, 1)).num_rows for index in range(raw.num_rows)]
    owners = pa.array([index for index, count in enumerate(counts) for _ in range(count)], pa.int64())
    return keep_metadata(raw.take(owners), decoded)
