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
from ._event_time import Micros
from ._event_time_buffer import EventTimeBuffer, to_micros

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

    size: Duration = Field(gt=0)
    """How long a window is."""
    slide: Duration = Field(gt=0)
    """How long after a window the next one begins."""

    @model_validator(mode="after")
    def _overlaps_a_little(self) -> SlidingWindow:
        if self.slide > self.size:
            raise ValueError("`slide` is longer than `size`, so that rows between two windows would be lost")
        if self.size / self.slide > MAX_OVERLAP:
            raise ValueError(f"`size` is more than {MAX_OVERLAP} times `slide`: a row would be in as many windows")
        return self

    def lengths(self) -> tuple[str, ...]:
        """Return the names of the length of a window and of the step between two."""
        return ("size", "slide")

    def assigner(self) -> WindowAssigner:
        """Return windows that begin at multiples of `slide`."""
        return Sliding(to_micros(self.size), to_micros(self.slide))

    def by_the_clock(self, clock: Clock) -> Queue:
        """Return an empty queue that is released every `slide`."""
        return ArrivalWindows(self.size, self.slide, self.max_rows, clock)


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
