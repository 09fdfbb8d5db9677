"""Find the rows of two tables that have the same key and times close to each other, by sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._event_time import Micros

Indices: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


class Ranges(NamedTuple):
    """For each row that searches, the rows found: those at ``order[first:last]``."""

    order: Indices
    first: Indices
    last: Indices

    def pairs(self) -> tuple[Indices, Indices]:
        """Return the indices of both rows of each pair."""
        counts = self.last - self.first
        searching = np.repeat(np.arange(len(counts)), counts)
        begins = np.cumsum(counts) - counts
        found = self.order[np.arange(len(searching)) - np.repeat(begins - self.first, counts)]
        return searching, found


def number_keys(keys: Sequence[pa.ChunkedArray]) -> Indices:
    """Return a number for each row, the same for rows of the same key; -1 where a part of it is null."""
    rows = len(keys[0])
    numbers = np.zeros(rows, np.int64)
    has_null = np.zeros(rows, np.bool_)
    for key in keys:
        encoded = pc.dictionary_encode(key, null_encoding="mask")
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        if isinstance(encoded, pa.ChunkedArray):  # of no rows
            continue
        codes = encoded.indices.fill_null(0).to_numpy()
        if encoded.null_count:
            has_null |= ~encoded.is_valid().to_numpy(zero_copy_only=False)
        numbers = numbers * max(1, len(encoded.dictionary)) + codes
        if len(keys) > 1:
            numbers = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    numbers[has_null] = -1
    return numbers


def find_ranges(keys: Indices, low: Micros, high: Micros, found_keys: Indices, found_times: Micros) -> Ranges:
    """Return, for each row that searches, the rows of its key whose time is from ``low`` to ``high``, both included.

    Rows are found in the order of their times, those of one time in the order in which they are given.
    """
    distinct = np.unique(found_times)
    width = len(distinct) + 1
    places = found_keys * width + np.searchsorted(distinct, found_times)
    order = np.argsort(places, kind="stable")
    places = places[order]
    first = np.searchsorted(places, keys * width + np.searchsorted(distinct, low))
    last = np.searchsorted(places, keys * width + np.searchsorted(distinct, high, side="right"))
    last = np.maximum(first, last)
    last[keys < 0] = first[keys < 0]
    return Ranges(order, first, last)
