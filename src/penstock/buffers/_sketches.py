"""Sketches of the values of a group: how many are distinct, and which is greater than a share of them.

A sketch is of a bounded size however many values it has seen, and is within a known error: 1.6 % of the count of
distinct values, and 1.3 % of the values in the rank of a quantile, in all but a few of a hundred cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..errors import PermanentError
from ..extras import require

_LG_K, _K = 12, 200
"""The sizes of sketches: of 2 KiB at most each."""
_EMPTY_TEXT = "\0"
"""Stands for the empty text, which the sketch would not count."""


class Sketch(NamedTuple):
    """A kind of sketch: how values are prepared, and how sketches are made and merged."""

    aggregate: str
    """The function that gathers the values of a group."""
    prepare: Callable[[pa.Array], pa.Array]
    make: Callable[[Any], bytes]
    unite: Callable[[Iterable[bytes]], bytes]

    def begin(self, gathered: pa.ListArray) -> pa.BinaryArray:
        """Return a sketch for each list of values."""
        values, offsets = _flat(gathered)
        values = values.to_numpy(zero_copy_only=False) if pa.types.is_floating(values.type) else values.to_pylist()
        made = [self.make(values[start:end]) for start, end in pairwise(offsets)]
        return pa.array(made, pa.binary())

    def merge(self, gathered: pa.ListArray) -> pa.BinaryArray:
        """Return one sketch for each list of sketches."""
        sketches, offsets = _flat(gathered)
        firsts = sketches.take(pa.array(offsets[:-1]))
        several = np.flatnonzero(np.diff(offsets) > 1)
        if not len(several):
            return firsts
        found = firsts.to_pylist()
        for at in several.tolist():
            found[at] = self.unite(sketches[offsets[at] : offsets[at + 1]].to_pylist())
        return pa.array(found, pa.binary())


def check_installed(function: str) -> None:
    """Raise MissingPackage, which is a ConfigError, unless the library is installed."""
    require("datasketches", f"{function}, to be computed as rows come,")


def count_distinct(sketches: Iterable[bytes]) -> list[int]:
    """Return about how many distinct values each has seen."""
    from datasketches import hll_sketch

    return [round(hll_sketch.deserialize(sketch).get_estimate()) for sketch in sketches]


def find_quantiles(sketches: Iterable[bytes], share: float) -> list[float | None]:
    """Return the value of each that is about greater than ``share`` of all; None where there is none."""
    from datasketches import kll_doubles_sketch

    read = [kll_doubles_sketch.deserialize(sketch) for sketch in sketches]
    return [None if sketch.is_empty() else sketch.get_quantile(share) for sketch in read]


def _flat(gathered: Any) -> tuple[pa.Array, Sequence[int]]:
    lists = gathered.combine_chunks() if isinstance(gathered, pa.ChunkedArray) else gathered
    lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
    offsets = lists.offsets.to_numpy()
    return lists.values, offsets


def _countable(column: pa.Array) -> pa.Array:
    """Return values as whole numbers or texts, which are the same where the values are."""
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return column.cast(pa.int64(), safe=False)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(pa.int64())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else value.hex() for value in column.to_pylist()], pa.string())
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        raise PermanentError(f"distinct values of type {kind} cannot be counted as rows come") from None


def _count(values: Iterable[Any]) -> bytes:
    from datasketches import hll_sketch, tgt_hll_type

    sketch = hll_sketch(_LG_K, tgt_hll_type.HLL_4)
    for value in values:
        if value is not None:
            sketch.update(value or _EMPTY_TEXT if isinstance(value, str) else value)
    return bytes(sketch.serialize_compact())


def _unite_counts(sketches: Iterable[bytes]) -> bytes:
    from datasketches import hll_sketch, hll_union, tgt_hll_type

    union = hll_union(_LG_K)
    for sketch in sketches:
        union.update(hll_sketch.deserialize(sketch))
    return bytes(union.get_result(tgt_hll_type.HLL_4).serialize_compact())


def _rank(values: Any) -> bytes:
    from datasketches import kll_doubles_sketch

    sketch = kll_doubles_sketch(_K)
    sketch.update(np.ascontiguousarray(values[~np.isnan(values)]))
    return bytes(sketch.serialize())


def _unite_ranks(sketches: Iterable[bytes]) -> bytes:
    from datasketches import kll_doubles_sketch

    united = kll_doubles_sketch(_K)
    for sketch in sketches:
        united.merge(kll_doubles_sketch.deserialize(sketch))
    return bytes(united.serialize())


SKETCHES = {
    "distinct": Sketch("distinct", _countable, _count, _unite_counts),
    "quantiles": Sketch("list", lambda column: column.cast(pa.float64(), safe=False), _rank, _unite_ranks),
}
"""The kinds of sketches, by what is kept."""
