"""Which columns a row does not have, though other rows of its batch do: absent is something else than null.

The column ``__meta_absent`` tells it: for each row the names of such columns, as a JSON list; null for a row that has
all of them. A batch whose rows are alike does not have the column. A name counts only where the value is null: what
was filled in meanwhile is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from .metadata import ABSENT, PREFIX

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Codes: TypeAlias = np.ndarray[Any, np.dtype[np.integer[Any]]]

_TYPE = pa.dictionary(pa.int32(), pa.string())
_FIELD = pa.field(ABSENT, _TYPE)
_MAX_BITS = 32
"""How many columns one number tells of, beside the rows told apart before."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """Which columns each row lacks: rows that lack the same have one shape."""

    codes: Codes
    """The shape of each row."""
    absent: Sequence[Collection[str]]
    """The names of the columns that rows of each shape lack."""

    def lacking(self, name: str) -> Mask | None:
        """Return which rows lack the column; None if none does."""
        each = [name in names for names in self.absent]
        return np.array(each)[self.codes] if any(each) else None


def told_apart(masks: Mapping[str, Mask], rows: int) -> Shapes | None:
    """Return the shapes of rows of which each mask says whether they lack the column of its name."""
    names = [name for name, mask in masks.items() if mask.any()]
    if not names:
        return None
    codes: Codes = np.zeros(rows, np.int64)
    absent: list[list[str]] = [[]]
    for start in range(0, len(names), _MAX_BITS):
        some = names[start : start + _MAX_BITS]
        for name in some:
            codes = codes << 1 | masks[name]
        found = pa.array(codes).dictionary_encode()
        bits = 1 << len(some)
        absent = [
            absent[code // bits] + [name for bit, name in enumerate(reversed(some)) if code >> bit & 1]
            for code in found.dictionary.to_pylist()
        ]
        codes = found.indices.to_numpy().astype(np.int64)
    return Shapes(codes, absent)


def mark(batch: pa.RecordBatch, shapes: Shapes | None) -> pa.RecordBatch:
    """Return the batch with what its rows lack noted."""
    if shapes is None or not any(shapes.absent):
        return batch
    texts = [msgspec.json.encode(list(names)).decode() if names else None for names in shapes.absent]
    codes = pa.array(shapes.codes, pa.int32())
    if None in texts:
        column = pa.array(texts, pa.string()).dictionary_encode().cast(_TYPE).take(codes)
    else:
        column = pa.DictionaryArray.from_arrays(codes, pa.array(texts, pa.string()))
    return pa.RecordBatch.from_arrays([*batch.columns, column], schema=batch.schema.append(_FIELD))


def mark_all(batch: pa.RecordBatch, names: Collection[str]) -> pa.RecordBatch:
    """Return the batch with these columns, which it does not have, noted as absent from every row."""
    missing = [name for name in names if name not in batch.schema.names and not name.startswith(PREFIX)]
    if not missing:
        return batch
    known = shapes_of(batch)
    if known is None:
        return mark(batch, Shapes(np.zeros(batch.num_rows, np.int64), [missing]))
    return mark(without(batch), Shapes(known.codes, [[*names, *missing] for names in known.absent]))


def without(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch without the column that tells what is absent."""
    return batch.drop_columns([ABSENT]) if ABSENT in batch.schema.names else batch


def shapes_of(batch: pa.RecordBatch) -> Shapes | None:
    """Return the shapes of the rows, leaving out what is there after all; None if no row lacks anything."""
    if ABSENT not in batch.schema.names or not batch.num_rows:
        return None
    column = batch.column(ABSENT)
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    texts = [*column.dictionary.to_pylist(), None]
    codes = column.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False).astype(np.int64)
    there = set(batch.schema.names)
    used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
    numbers = np.zeros(len(texts), np.int64)
    numbers[used] = np.arange(len(used))
    codes, absent = numbers[codes], [frozenset(_names(texts[code])) & there for code in used]
    shapes = Shapes(codes, absent)
    filled = {name: mask for name in frozenset().union(*absent) if (mask := _filled(batch, shapes, name)) is not None}
    if not filled:
        return shapes if any(absent) else None
    masks = {name: shapes.lacking(name) for name in frozenset().union(*absent)}
    left = {n: mask & ~filled[n] if n in filled else mask for n, mask in masks.items() if mask is not None}
    return told_apart(left, batch.num_rows)


def _filled(batch: pa.RecordBatch, shapes: Shapes, name: str) -> Mask | None:
    """Return in which rows there is a value that is said to be absent; None if in none."""
    column = batch.column(name)
    if column.null_count == len(column):
        return None
    mask = shapes.lacking(name)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return valid if mask is not None and (mask & valid).any() else None


def _names(text: str | None) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str]) if text else []
    except msgspec.DecodeError:
        return []
