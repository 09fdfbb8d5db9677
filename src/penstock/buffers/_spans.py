"""The spans of time by which partial results are kept: panes of windows of one length, and sessions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._event_time import Micros

START, END = "@start", "@end"
"""The columns with the span of what is kept: its beginning, and when nothing more needs it. In µs since 1970."""
Combine = Callable[[pa.Table, Sequence[str]], pa.Table]


class Spans(Protocol):
    """Tells in which span rows lie, and which spans make a window."""

    is_even: bool
    """Whether windows end all at once, at known times."""
    is_whole: bool
    """Whether each span is a window by itself."""

    def last_ends(self, times: Micros) -> Micros:
        """Return the end of the last window that each time lies in."""
        ...

    def next_end(self, kept: pa.Table, after: int | None) -> int | None:
        """Return when the first window ends, after ``after``, that holds any of what is kept."""
        ...

    def place(self, times: Micros, keys: Sequence[pa.Array]) -> tuple[Micros, Micros]:
        """Return the beginning and end of the span that each row lies in."""
        ...

    def join(self, kept: pa.Table, keys: Sequence[str]) -> pa.Table:
        """Return what is kept with the spans that have become one given the same bounds."""
        ...

    def windows(self, kept: pa.Table, after: int | None, until: int | None) -> Iterator[tuple[int, int, pa.Table]]:
        """Yield the windows that end after ``after`` and up to ``until``, with what is kept of each, by their ends.

        Sessions come all at once, with the bounds 0: each row of them is a window by itself.
        """
        ...


class Panes:
    """Windows of one length that begin at multiples of a step, in the longest parts that lie in the same windows."""

    is_even = True

    def __init__(self, length: int, step: int) -> None:
        self._length, self._step, self._pane = length, step, math.gcd(length, step)
        self.is_whole = length == step

    def last_ends(self, times: Micros) -> Micros:
        """Return the end of the last window that each time lies in."""
        return times // self._step * self._step + self._length

    def next_end(self, kept: pa.Table, after: int | None) -> int | None:
        """Return when the first window ends, after ``after``, that holds any of the panes."""
        starts, ends = (kept.column(name).to_numpy() for name in (START, END))
        if after is not None:
            starts = starts[ends > after]
        into = starts % self._step
        firsts = starts - into + self._length - (self._length - into - 1) // self._step * self._step
        if not len(firsts):
            return None
        first = int(firsts.min())
        return first if after is None else max(first, after - (after - self._length) % self._step + self._step)

    def place(self, times: Micros, keys: Sequence[pa.Array]) -> tuple[Micros, Micros]:
        """Return the pane of each row, and the end of the last window that it lies in."""
        starts = times // self._pane * self._pane
        return starts, self.last_ends(times)

    def join(self, kept: pa.Table, keys: Sequence[str]) -> pa.Table:
        """Return what is kept as it is: panes do not grow."""
        return kept

    def windows(self, kept: pa.Table, after: int | None, until: int | None) -> Iterator[tuple[int, int, pa.Table]]:
        """Yield the windows that end after ``after`` and up to ``until``, with the panes of each."""
        starts = kept.column(START).to_numpy()
        panes = np.unique(starts)
        steps = np.arange(-(-self._length // self._step)) * self._step
        ends = np.unique(self.last_ends(panes)[:, None] - steps[None, :])
        firsts = np.searchsorted(panes, ends - self._length)
        lasts = np.searchsorted(panes, ends)
        for end, first, last in zip(ends.tolist(), firsts, lasts, strict=True):
            if first == last or (after is not None and end <= after) or (until is not None and end > until):
                continue
            begin = end - self._length
            mask = (starts >= begin) & (starts < end)
            yield begin, end, kept if mask.all() else kept.filter(pa.array(mask))


class SessionSpans:
    """Sessions, which reach from a row to a gap behind it and are one where they overlap; each key has its own."""

    is_even = False
    is_whole = True

    def __init__(self, gap: int, keys: Sequence[str]) -> None:
        self._gap, self._keys = gap, keys

    def last_ends(self, times: Micros) -> Micros:
        """Return the end that the session of each row would have by itself."""
        return times + self._gap

    def next_end(self, kept: pa.Table, after: int | None) -> int | None:
        """Return when the first session ends, after ``after``."""
        ends = kept.column(END).to_numpy()
        ends = ends if after is None else ends[ends > after]
        return int(ends.min()) if len(ends) else None

    def place(self, times: Micros, keys: Sequence[pa.Array]) -> tuple[Micros, Micros]:
        """Return the beginning and the end of the session of each row."""
        codes = _codes(keys, len(times))
        order = _order(codes, times)
        codes, sorted_ = codes[order], times[order]
        begins = np.ones(len(order), np.bool_)
        begins[1:] = (codes[1:] != codes[:-1]) | (sorted_[1:] - sorted_[:-1] >= self._gap)
        firsts = np.flatnonzero(begins)
        lasts = np.append(firsts[1:], len(order))[: len(firsts)] - 1
        number = np.cumsum(begins) - 1
        starts, ends = np.empty_like(times), np.empty_like(times)
        starts[order], ends[order] = sorted_[firsts][number], (sorted_[lasts] + self._gap)[number]
        return starts, ends

    def join(self, kept: pa.Table, keys: Sequence[str]) -> pa.Table:
        """Return what is kept with sessions that overlap given the same bounds."""
        starts, ends = kept.column(START).to_numpy(), kept.column(END).to_numpy()
        columns = [kept.column(name).combine_chunks() for name in self._keys]
        starts, ends = _joined(_codes(columns, kept.num_rows), starts, ends)
        for name, values in ((START, starts), (END, ends)):
            kept = kept.set_column(kept.schema.get_field_index(name), name, pa.array(values))
        return kept

    def windows(self, kept: pa.Table, after: int | None, until: int | None) -> Iterator[tuple[int, int, pa.Table]]:
        """Yield all sessions that end after ``after`` and up to ``until``."""
        found = kept if until is None else kept.filter(pc.less_equal(kept.column(END), until))
        found = found if after is None else found.filter(pc.greater(found.column(END), after))
        if found.num_rows:
            yield 0, 0, found.sort_by([(END, "ascending"), (START, "ascending")])


def _codes(keys: Sequence[pa.Array], rows: int) -> Micros:
    """Return a number for each row, the same for rows of the same key."""
    codes = np.zeros(rows, np.int64)
    for key in keys:
        encoded = pc.dictionary_encode(key, null_encoding="encode")
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        codes = codes * max(1, len(encoded.dictionary)) + encoded.indices.to_numpy(zero_copy_only=False)
        if len(keys) > 1:
            codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return codes


def _order(codes: Micros, times: Micros) -> Micros:
    """Return the order of rows by code, and by time within it."""
    if not len(times):
        return np.zeros(0, np.int64)
    low = int(times.min())
    span = int(times.max()) - low + 1
    if span * (int(codes.max()) + 1) < 1 << 62:  # one sort instead of two
        return np.argsort(codes * span + (times - low))
    order: Micros = np.lexsort((times, codes))
    return order


def _joined(codes: Micros, starts: Micros, ends: Micros) -> tuple[Micros, Micros]:
    """Return the bounds of the union of overlapping spans that each span of the same code lies in."""
    order = _order(codes, starts)
    codes, starts_, ends_ = codes[order], starts[order], ends[order]
    begins = np.empty(len(order), np.bool_)
    begins[:1] = True
    is_other = codes[1:] != codes[:-1]
    reach = _reach(np.concatenate([[True], is_other]), ends_)
    begins[1:] = is_other | (starts_[1:] >= reach[:-1])
    firsts = np.flatnonzero(begins)
    number = np.cumsum(begins) - 1
    last = np.maximum.reduceat(ends_, firsts) if len(firsts) else ends_
    found_starts, found_ends = np.empty_like(starts), np.empty_like(ends)
    found_starts[order], found_ends[order] = starts_[firsts][number], last[number]
    return found_starts, found_ends


def _reach(is_first: np.ndarray[tuple[int], np.dtype[np.bool_]], ends: Micros) -> Micros:
    """Return the greatest end so far, within each run that begins where ``is_first`` says."""
    ranks = np.empty(len(ends), np.int64)
    order = np.argsort(ends, kind="stable")
    ranks[order] = np.arange(len(ends))
    runs = np.cumsum(is_first) * len(ends)
    highest = np.maximum.accumulate(ranks + runs) - runs
    reach: Micros = ends[order[highest]]
    return reach
