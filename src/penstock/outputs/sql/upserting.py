"""Which of the rows of one call are sent, and which of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as is_

from ...absence import Codes, Mask, told_apart
from ...delivery import Batch
from ...errors import RowsRejected
from .columns import Column
from .fitting import Rows
from .parts import Indexes

_MAX_RUNS = 100
"""Up to so many runs of rows that have the same columns are sent as they came; more of them are sorted by that."""


def last_of_each(rows: Rows, key: Sequence[int]) -> Rows:
    """Return one row for each key: of each column the last value that a row of the key has.

    ``key`` says which of the columns are the key. It is what writing the rows one after the other would leave. Raises
    RowsRejected for rows that the table would refuse alone, as they hold null where it allows none.
    """
    groups = np.zeros(len(rows.rows), np.int64)
    for index in key:
        values = rows.values[index]
        if is_.is_floating(values.type):
            values = pc.add(values, pa.scalar(0, values.type))  # 0.0 and -0.0 are one key
        found = values.dictionary_encode()
        groups = groups * (len(found.dictionary) + 1) + found.indices.fill_null(len(found.dictionary)).to_numpy()
        groups = pa.array(groups).dictionary_encode().indices.to_numpy().astype(np.int64)
    count = int(groups.max(initial=-1)) + 1
    if count == len(groups):
        return rows
    _refuse_nulls(rows, np.bincount(groups)[groups] > 1)
    everything = np.arange(len(groups))
    last = _last(groups, everything, count)
    order = np.argsort(last)
    values, there = [], []
    for array, mask in zip(rows.values, rows.there, strict=True):
        at = last if mask is None else _last(groups, everything[mask], count)
        at = at[order]
        has = at >= 0
        values.append(array.take(pa.array(at, mask=~has)))
        there.append(None if has.all() else has)
    several = (np.bincount(groups, minlength=count) > 1)[order]
    kept = rows.rows[last[order]]
    return replace(rows, values=values, there=there, rows=kept, merged=frozenset(kept[several].tolist()))


def _refuse_nulls(rows: Rows, several: Mask) -> None:
    """Raise RowsRejected for what would be hidden by the value of another row of the same key."""
    refused: dict[int, str] = {}
    for column, array, there in zip(rows.columns, rows.values, rows.there, strict=True):
        if column.refuses_null and array.null_count:
            bad = several & array.is_null().to_numpy(zero_copy_only=False)
            bad = bad if there is None else bad & there
            refused |= dict.fromkeys(rows.rows[bad].tolist(), f"column {column.name}: the table allows no null")
    if refused:
        raise RowsRejected(refused)


def _last(groups: Indexes, at: Indexes, count: int) -> Indexes:
    last = np.full(count, -1)
    last[groups[at]] = at  # Of equal indexes the last one stays.
    return last


def alike(rows: Rows, matters: Callable[[Column], bool]) -> Iterator[tuple[list[Column], Batch, Indexes]]:
    """Return the rows in groups that have the same columns; where it does not matter what is absent is null."""
    names = [f"c{index}" for index in range(len(rows.columns))]
    batch = pa.RecordBatch.from_arrays(rows.values, names=names) if names else _empty(len(rows.rows))
    masks = {
        name: ~mask
        for name, column, mask in zip(names, rows.columns, rows.there, strict=True)
        if mask is not None and matters(column)
    }
    shapes = told_apart(masks, len(rows.rows))
    if shapes is None:
        yield rows.columns, batch, rows.rows
        return
    for at in _groups(shapes.codes):
        absent = shapes.absent[int(shapes.codes[at[0]])]
        kept = [index for index, name in enumerate(names) if name not in absent]
        some = batch.take(pa.array(at)).select(kept) if kept else _empty(len(at))
        yield [rows.columns[index] for index in kept], some, rows.rows[at]


def _empty(rows: int) -> Batch:
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))


def _groups(codes: Codes) -> Iterator[Indexes]:
    starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    if len(starts) <= _MAX_RUNS:
        yield from (np.arange(start, end) for start, end in pairwise(starts))
        return
    order = np.argsort(codes, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(codes[order])) + 1).tolist(), len(codes)]
    parts = [order[start:end] for start, end in pairwise(bounds)]
    yield from sorted(parts, key=lambda part: int(part[0]))
