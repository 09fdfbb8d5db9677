"""Gather what belongs to each of several spans of time that overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field, model_validator

from ..clock import Clock
from ..component import Queue
from ..delivery import Batch
from ..duration import Duration
from ._arrival_windows import ArrivalWindows
from ._assigner import Part, Rows, WindowAssigner, grouped
from ._count_windows import CountWindows
from ._event_time import Micros
from ._event_time_buffer import EventTimeBuffer, to_micros
from ._merging import Merge
from ._spans import Panes, Spans

MAX_OVERLAP = 1_000


class SlidingWindow(EventTimeBuffer, type="sliding_window"):
    """Release, every `slide`, what belongs to the last `size`, so that a row is in several windows.

    **Processing time** (`time: processing`, the default): every `slide` it releases what has arrived within `size`, in
    the order in which it came. Windows in which nothing arrived are left out. While a window waits to be taken, reading
    waits.

    **Event time** (`time: event`): windows of the length `size` begin at multiples of `slide` since 1970 UTC, and each
    row is in all windows its `timestamp_field` lies in. When windows fire, what becomes of late rows and what a restart
    does is as with [`tumbling_window`](tumbling_window.md): a row can be late for one of its windows and on time for
    the next ones.

    A `join`, a `query` and `emit_every` are as with [`tumbling_window`](tumbling_window.md): what a query needs is kept
    once for each part of time that lies in the same windows, however much they overlap.

    **Batches** (`window_size` and `slide_size` instead): every `slide_size` batches it releases the last `window_size`
    ones. At the end, those that were in no window go out in a shorter one.

    A row counts once towards `max_rows` for each window it is in; its cells are held once. Within one batch of the
    input the rows of a window go out ordered by the part of the window they lie in.

    Nothing is acked before all windows of its rows are written. At the end, open windows fire with what they hold.

    Example::

        type: sliding_window
        size: 5m
        slide: 1m
        time: event
        timestamp_field: measured_at
    """

    size: Duration | None = Field(None, gt=0)
    """How long a window is."""
    slide: Duration | None = Field(None, gt=0)
    """How long after a window the next one begins."""
    window_size: int | None = Field(None, gt=0)
    """Instead of `size`: of how many batches a window is."""
    slide_size: int | None = Field(None, gt=0)
    """Instead of `slide`: how many batches after a window the next one begins."""
    interval: Duration | None = Field(None, gt=0)
    """How often windows of batches were looked for by other engines: here they go out as soon as they are full."""

    @model_validator(mode="after")
    def _overlaps_a_little(self) -> SlidingWindow:
        times, counts = (self.size, self.slide), (self.window_size, self.slide_size)
        given = [pair for pair in (times, counts) if pair != (None, None)]
        if len(given) != 1 or None in given[0]:
            raise ValueError(
                "expected `size` and `slide`, which are times, or `window_size` and `slide_size`, in batches"
            )
        if self.is_counted and self.time == "event":
            raise ValueError("`time: event` needs `size` and `slide`: batches have no time")
        if self.interval is not None and not self.is_counted:
            raise ValueError("`interval` goes with `window_size` and `slide_size`; windows by time end by themselves")
        length, step = self._bounds
        if step > length:
            raise ValueError("`slide` is longer than `size`, so that rows between two windows would be lost")
        if length / step > MAX_OVERLAP:
            raise ValueError(f"`size` is more than {MAX_OVERLAP} times `slide`: a row would be in as many windows")
        return self

    @property
    def is_counted(self) -> bool:
        """Whether windows are of so many batches."""
        return self.window_size is not None

    @property
    def _bounds(self) -> tuple[float, float]:
        """How long a window is, and how long after it the next one begins: in seconds, or in batches."""
        length, step = (self.window_size, self.slide_size) if self.is_counted else (self.size, self.slide)
        assert length is not None
        assert step is not None
        return length, step

    def lengths(self) -> tuple[str, ...]:
        """Return the names of the length of a window and of the step between two."""
        return ("size", "slide")

    def assigner(self) -> WindowAssigner:
        """Return windows that begin at multiples of `slide`."""
        length, step = self._bounds
        return Sliding(to_micros(length), to_micros(step))

    def spans(self) -> Spans:
        """Return what lies in the same windows as a whole."""
        length, step = self._bounds
        return Panes(to_micros(length), to_micros(step))

    def by_the_clock(self, clock: Clock, merge: Merge) -> Queue:
        """Return an empty queue that is released every `slide`."""
        length, step = self._bounds
        if self.is_counted:
            return CountWindows(int(length), int(step), merge)
        return ArrivalWindows(length, step, self.max_rows, clock, merge)


class Sliding(WindowAssigner):
    """Windows of one length that begin at multiples of a shorter or equal step."""

    def __init__(self, length: int, step: int) -> None:
        self._length, self._step = length, step
        self._pane = math.gcd(length, step)
        """The longest span that lies in the same windows as a whole."""

    def divide(self, batch: Batch, times: Micros, rows: Rows | None, bounds: Sequence[int]) -> list[Part]:
        """Return the parts of a batch by window: slices of the batch sorted by pane, so that no cell is held twice."""
        groups = grouped(batch, times // self._pane, rows)
        panes = groups.numbers[groups.bounds[:-1]] * self._pane
        steps = np.arange(-(-self._length // self._step)) * self._step
        starts = np.unique((panes // self._step * self._step)[:, None] - steps[None, :])
        firsts = np.searchsorted(groups.numbers, -(-starts // self._pane))
        lasts = np.searchsorted(groups.numbers, (starts + self._length) // self._pane)
        return [
            Part(int(start), int(start) + self._length, *groups.slice(int(first), int(last)))
            for start, first, last in zip(starts, firsts, lasts, strict=True)
            if last > first
        ]

    def last_end(self, watermark: int) -> int:
        """Return the last end of a window."""
        return watermark - (watermark - self._length) % self._step
