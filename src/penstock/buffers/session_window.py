"""Gather what follows upon one another without a gap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from pydantic import Field, model_validator

from ..clock import Clock
from ..component import Queue
from ..delivery import Batch
from ..duration import Duration
from ._assigner import Part, Rows, WindowAssigner, grouped
from ._event_time import Micros
from ._event_time_buffer import EventTimeBuffer, to_micros
from ._grouping import Grouping, Limits
from ._merging import Merge
from ._spans import SessionSpans, Spans


class SessionWindow(EventTimeBuffer, type="session_window"):
    """Release, as one batch, rows that follow upon one another with less than `gap` between them.

    **Processing time** (`time: processing`, the default): a session ends when nothing has arrived for `gap`. It goes on
    as one batch, in the order in which it came. While a session that has ended waits to be taken the next one is
    gathered, then reading waits. Reading waits too while `max_rows` are held, so that a session of so many ends.

    **Event time** (`time: event`): a session ends `gap` after the last `timestamp_field` in it, and fires when the
    watermark has passed its end. A row that lies between two open sessions makes them one. Its bounds are in
    `window_start`, the time of its first row, and `window_end`, the time of its last row plus `gap`. A row is late when
    its session, were it alone in it, has ended and no open session reaches it. The watermark, late rows and restarts
    are as with [`tumbling_window`](tumbling_window.md), but for `late: update`: a session that fired cannot grow.

    All rows of a stream make one series of sessions. Rows go out in the order in which they came; those of one batch of
    the input that an earlier row makes one session of go out by their time.

    A `query` and `emit_every` are as with [`tumbling_window`](tumbling_window.md). With a `query` that is computed as
    rows come, `key` gives each value of its columns sessions of its own; without `key` the rows of all make them.

    **With a `join`** the rows of each input of `multiple_inputs` are a table of its name, and the result of the query
    over them goes on. An input that has no rows in a window gives null (`missing: outer`), or sends the rows of the
    others to the error output (`missing: route`). A payload that cannot be decoded is refused by itself.

    Nothing is acked before its session is written. At the end, open sessions fire with what they hold.

    Example::

        type: session_window
        gap: 30s
        time: event
        timestamp_field: measured_at
        out_of_orderness: 2s
    """

    gap: Duration = Field(gt=0)
    """How long after its last row a session ends."""

    @model_validator(mode="after")
    def _fires_once(self) -> SessionWindow:
        if self.late_rows() == "update":
            raise ValueError("`late: update` cannot be: a session that fired cannot grow; expected `drop` or `route`")
        return self

    def lengths(self) -> tuple[str, ...]:
        """Return the name of the time after which a session ends."""
        return ("gap",)

    def assigner(self) -> WindowAssigner:
        """Return sessions, which merge where they meet."""
        return Sessions(to_micros(self.gap))

    def spans(self) -> Spans:
        """Return sessions of each key."""
        return SessionSpans(to_micros(self.gap), self.key)

    def by_the_clock(self, clock: Clock, merge: Merge) -> Queue:
        """Return an empty queue that is released when nothing has come for `gap`."""
        return Grouping(
            Limits(rows=self.max_rows), lambda now: now + self.gap, clock, timed=True, extended=True, merge=merge
        )


class Sessions(WindowAssigner):
    """Windows that reach from a row to ``gap`` µs behind it, and are one where they overlap."""

    merges = True

    def __init__(self, gap: int) -> None:
        self._gap = gap

    def divide(self, batch: Batch, times: Micros, rows: Rows | None, bounds: Sequence[int]) -> list[Part]:
        """Return the parts of a batch by session."""
        order = np.argsort(times, kind="stable")
        sorted_times = times[order]
        begins = np.diff(sorted_times) >= self._gap
        if bounds:
            begins |= np.diff(np.searchsorted(np.asarray(bounds), sorted_times + self._gap)) > 0
        of_sorted = np.concatenate([[0], np.cumsum(begins)])
        sessions = np.empty_like(of_sorted)
        sessions[order] = of_sorted
        firsts = np.flatnonzero(np.diff(of_sorted, prepend=-1))
        lasts = np.append(firsts[1:], len(times)) - 1
        groups = grouped(batch, sessions, rows)
        return [
            Part(int(sorted_times[first]), int(sorted_times[last]) + self._gap, *groups.slice(start, stop))
            for first, last, (start, stop) in zip(firsts, lasts, pairwise(groups.bounds), strict=True)
        ]

    def last_end(self, watermark: int) -> int:
        """Return the watermark: a session may end at any time."""
        return watermark
