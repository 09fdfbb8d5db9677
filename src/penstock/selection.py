"""Take rows out of a batch by index, whatever types its columns have: pyarrow takes no views."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def take(batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Return the rows of these indexes, in their order; a null index gives a row of nulls."""
    try:
        return batch.take(rows)
    except pa.ArrowNotImplementedError:
        columns = [take_values(column, rows) for column in batch.columns]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def keep(batch: pa.RecordBatch, mask: pa.BooleanArray) -> pa.RecordBatch:
    """Return the rows for which the mask is true."""
    try:
        return batch.filter(mask)
    except pa.ArrowNotImplementedError:
        return take(batch, pc.indices_nonzero(mask.fill_null(False)))


def take_values(column: pa.Array, rows: pa.Array) -> pa.Array:
    """Return the values of these indexes, in their order; a null index gives null."""
    try:
        return column.take(rows)
    except pa.ArrowNotImplementedError:
        return _concatenate_runs(column, rows)


def _concatenate_runs(column: pa.Array, rows: pa.Array) -> pa.Array:
    """Put together the runs of neighbours that are asked for: slower, and possible for every type."""
    places = rows.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    if not len(places):
        return column.slice(0, 0)
    breaks = np.flatnonzero((np.diff(places) != 1) | (places[:-1] < 0)) + 1
    edges = [0, *breaks.tolist(), len(places)]
    runs = [
        column.slice(int(places[first]), end - first) if places[first] >= 0 else pa.nulls(end - first, column.type)
        for first, end in pairwise(edges)
    ]
    return pa.concat_arrays(runs)
