"""Which columns a row does not have, though other rows of its batch do: absent is something else than null.

The column ``__meta_absent`` tells it: for each row the names of such columns, as a JSON list; null for a row that has
all of them. A batch whose rows are alike does not have the column. A name counts only where the value is null: what
was filled in meanwhile is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .metadata import ABSENT, PREFIX

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Codes: TypeAlias = np.ndarray[Any, np.dtype[np.integer[Any]]]

_TYPE = pa.dictionary(pa.int32(), pa.string())
_FIELD = pa.field(ABSENT, _TYPE)
_MAX_BITS = 32
"""How many columns one number tells of, beside the rows told apart before."""
_FEW = 512
"""Up to so many rows are looked at one by one."""
_BITS = 8
"""How many names have their lists looked up at once."""
_END = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Shapes:
    """Which columns each row lacks: rows that lack the same have one shape."""

    codes: Codes
    """The shape of each row."""
    absent: Sequence[Collection[str]]
    """The names of the columns that rows of each shape lack."""

    @property
    def names(self) -> frozenset[str]:
        """Return the columns that any row lacks."""
        return frozenset().union(*self.absent)

    def lacking(self, name: str) -> Mask | None:
        """Return which rows lack the column; None if none does."""
        each = [name in names for names in self.absent]
        return np.array(each)[self.codes] if any(each) else None


def told_apart(masks: Mapping[str, Mask], rows: int) -> Shapes | None:
    """Return the shapes of rows of which each mask says whether they lack the column of its name."""
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if not masks:
        return None
    codes, each = _shapes(list(masks.values()), rows)
    names = np.array(list(masks), object)
    return Shapes(codes, [names[lacks].tolist() for lacks in each])


def _shapes(masks: Sequence[Mask], rows: int) -> tuple[Codes, Mask]:
    """Number the shapes of rows; return the number of each row, and for each number which of the masks it has set."""
    codes: Codes = np.zeros(rows, np.int64)
    for start in range(0, len(masks), _MAX_BITS):
        for mask in masks[start : start + _MAX_BITS]:
            codes = codes << 1 | mask
        codes = pa.array(codes).dictionary_encode().indices.to_numpy().astype(np.int64)
    examples = np.empty(codes.max(initial=-1) + 1, np.int64)
    examples[codes] = np.arange(rows)
    return codes, np.stack([mask[examples] for mask in masks], axis=1)


def mark(batch: pa.RecordBatch, masks: Mapping[str, Mask]) -> pa.RecordBatch:
    """Return the batch with a note of what its rows lack; each mask says which rows lack the column of its name."""
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if not masks:
        return batch
    if len(masks) == 1:
        ((name, mask),) = masks.items()
        numbers, texts = pa.array(np.zeros(len(mask), np.int32), mask=~mask), _list_of(name)
    elif batch.num_rows <= _FEW and len(masks) < _MAX_BITS:
        numbers, texts = _few_lists(masks, batch.num_rows)
    else:
        codes, each = _shapes(list(masks.values()), batch.num_rows)
        lacks_none: Mask = ~np.logical_or.reduce(each, axis=1)
        numbers, texts = pa.array(codes, pa.int32(), mask=lacks_none[codes]), _lists(tuple(masks), each)
    return batch.append_column(_FIELD, pa.DictionaryArray.from_arrays(numbers, texts))


def _few_lists(masks: Mapping[str, Mask], rows: int) -> tuple[pa.Array, pa.StringArray]:
    """Return for each row the number of the list of what it lacks, and the lists: the quickest way for a few rows."""
    codes: Codes = np.zeros(rows, np.int64)
    for bit, mask in enumerate(masks.values()):
        codes |= mask.astype(np.int64) << bit
    names = tuple(masks)
    known: dict[int, int] = {}
    numbers = [known.setdefault(code, len(known)) if code else None for code in codes.tolist()]
    return pa.array(numbers, pa.int32()), pa.array([_list_by_code(names, code) for code in known], pa.string())


@lru_cache(maxsize=4096)
def _list_by_code(names: tuple[str, ...], code: int) -> str:
    return msgspec.json.encode([name for bit, name in enumerate(names) if code >> bit & 1]).decode()


@lru_cache(maxsize=256)
def _list_of(name: str) -> pa.StringArray:
    return _lists((name,), np.ones((1, 1), bool))


def _lists(names: tuple[str, ...], each: Mask) -> pa.StringArray:
    """Return for each row of a table of bits the JSON list of the names whose bits it has set, of which it has some."""
    parts = []
    for start in range(0, len(names), _BITS):
        bits = np.packbits(each[:, start : start + _BITS], axis=1, bitorder="little")[:, 0]
        parts.append(_joined_names(names[start : start + _BITS]).take(pa.array(bits)))
    return pc.binary_replace_slice(pc.binary_join_element_wise("[", *parts, ""), -1, _END, "]")


@lru_cache(maxsize=256)
def _joined_names(names: tuple[str, ...]) -> pa.StringArray:
    """Return for each number the names whose bits it has set, as in JSON, with a comma behind each."""
    texts = [f"{msgspec.json.encode(name).decode()}," for name in names]
    numbers = range(1 << len(texts))
    return pa.array(["".join(text for bit, text in enumerate(texts) if number >> bit & 1) for number in numbers])


def mark_all(batch: pa.RecordBatch, names: Collection[str]) -> pa.RecordBatch:
    """Return the batch with these columns, which it does not have, noted as absent from every row."""
    missing = [name for name in names if name not in batch.schema.names and not name.startswith(PREFIX)]
    if not missing:
        return batch
    known = shapes_of(batch)
    lacking = {name: np.ones(batch.num_rows, bool) for name in missing}
    if known is not None:
        lacking |= {name: mask for name in sorted(known.names) if (mask := known.lacking(name)) is not None}
    return mark(without(batch), lacking)


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
    filled = {name: mask for name in shapes.names if (mask := _filled(batch, shapes, name)) is not None}
    if not filled:
        return shapes if any(absent) else None
    masks = {name: shapes.lacking(name) for name in shapes.names}
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
