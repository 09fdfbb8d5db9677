"""From payloads to rows: each destination is decoded apart, and what else a payload has stays beside its rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..delivery import Batch, Decoder, Learning
from ..metadata import EXT, PREFIX, VALUE, keep_metadata


def decode(raw: Batch, decoder: Decoder) -> list[Batch]:
    """Decode the payloads of ``raw``, in order; neighbours of one destination come in one batch."""
    if not isinstance(decoder, Learning) or EXT not in raw.schema.names:
        return [_decode(raw, decoder)]
    return [_decode(part, decoder.apart(destination)) for destination, part in destinations(raw)]


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
