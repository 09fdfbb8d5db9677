"""Gather what belongs to one span of time, by the clock or by a column."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
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
from ._spans import Panes, Spans


class TumblingWindow(EventTimeBuffer, type="tumbling_window"):
    """Release, as one batch, what belongs to one interval: by the clock, or by the time in a column.

    **Processing time** (`time: processing`, the default): every `interval` it releases what has arrived in it, in the
    order in which it came. An empty window releases nothing; at the end the last one is released at once. While a
    window waits to be taken the next one is gathered, then reading waits.

    **Event time** (`time: event`): each row goes into the window its `timestamp_field` lies in; windows begin at
    multiples of `interval` since 1970 UTC. A window fires when the watermark has passed its end. The watermark is the
    newest time seen less `out_of_orderness`, so rows of long ago close their windows as those of today do. All rows of
    the window go on as one batch, in the order in which they came, with the columns `window_start` and `window_end`.
    Windows fire in their order.

    - A source that falls silent leaves its last window open. With `idle_timeout` it closes after that time, and the
      watermark follows the slowest of the sources (partitions) that are not idle.
      An input of `multiple_inputs` that has not sent anything yet is waited for as long; a `join` needs that.
    - A row without a readable time goes to the error output.
    - A row is late when its window has closed. `late: drop` counts and warns; `late: route` sends it to the error
      output. Either way a window waits `allowed_lateness` longer before it fires, once. `late: update` fires at once,
      and again with all rows of the window for each late row within `allowed_lateness`; write such windows by key.
      A row later than that is dropped and counted.
    - A time in the far future closes every window before it: filter such rows before, or `late: route` what follows.

    Nothing is acked before its window is written (with `late: update`: before the window takes no more rows), so a
    crash loses nothing and the position lags by the open windows. After a restart they are filled again from the
    input, and rows read again of windows that were written are left out: with `checkpoint: output` every window is
    written once, otherwise at least once and never in part. That needs an input that replays; what a broker delivers
    again by itself is late when its window has closed.

    Open windows hold at most `max_rows` rows in memory. More go to files in the data folder, which nobody else may read
    and which are removed once their windows were released; a restart reads their rows from the input again. A window
    that is released is in memory as a whole. `overflow: stop` stops the stream instead.

    **With a `query`** (event time) the rows of a window are the table `flow`, and its result goes on, with the columns
    `window_start` and `window_end`. A query that groups by columns and computes `count`, `sum`, `avg`, `min`, `max`,
    `first_value`, `last_value`, `approx_distinct`, `approx_median` or `approx_percentile_cont` of columns, as the
    planner finds, is computed as rows come: what it needs of each group is kept, and no row; the approximate ones are
    kept as sketches (`penstock[sketches]`), within 2 % or so. That is saved with the positions, so that a restart reads
    nothing again, and a stop leaves windows open. Such a row is late once all its windows have closed. Any other query,
    and one that uses `LIMIT` or `DISTINCT`, is run over the rows of a window when it fires. A result that cannot be
    computed refuses the window. `emit_every` releases open windows before they end, as they are so far: write them by
    key.

    **With a `join`** the rows of each input of `multiple_inputs` are a table of its name, and the result of the query
    over them goes on. An input that has no rows in a window gives null (`missing: outer`), or sends the rows of the
    others to the error output (`missing: route`). A payload that cannot be decoded is refused by itself.

    When the stream ends or is stopped, open windows fire with what they hold. Rows of such a window that come after
    a restart fire as another batch of the same window.

    Example::

        type: tumbling_window
        interval: 10s
        time: event
        timestamp_field: measured_at
        out_of_orderness: 2s
        idle_timeout: 1m
        late: route
    """

    interval: Duration | None = Field(None, gt=0)
    """How long a window is."""
    size: Duration | None = Field(None, gt=0)
    """Another name of `interval`."""

    @model_validator(mode="after")
    def _has_one_length(self) -> TumblingWindow:
        if (self.interval is None) == (self.size is None):
            raise ValueError("expected `interval` or `size`, which mean the same: how long a window is")
        return self

    @property
    def length(self) -> float:
        """How long a window is, in seconds."""
        length = self.interval if self.interval is not None else self.size
        assert length is not None
        return length

    def lengths(self) -> tuple[str, ...]:
        """Return the names of the length of a window."""
        return ("interval", "size")

    def assigner(self) -> WindowAssigner:
        """Return windows that begin at multiples of their length."""
        return Tumbling(to_micros(self.length))

    def spans(self) -> Spans:
        """Return windows of one length."""
        return Panes(to_micros(self.length), to_micros(self.length))

    def by_the_clock(self, clock: Clock, merge: Merge) -> Queue:
        """Return an empty queue that is released every `interval`."""
        began = clock.monotonic()

        def deadline(now: float) -> float:
            return now + self.length - (now - began) % self.length

        return Grouping(Limits(rows=self.max_rows), deadline, clock, timed=True, merge=merge)


class Tumbling(WindowAssigner):
    """Windows of one length, one after the other, that begin at multiples of it."""

    def __init__(self, length: int) -> None:
        self._length = length

    def divide(self, batch: Batch, times: Micros, rows: Rows | None, bounds: Sequence[int]) -> list[Part]:
        """Return the parts of a batch by window."""
        length = self._length
        first, last = int(times.min()) // length, int(times.max()) // length
        if first == last:
            whole = batch if rows is None else batch.take(pa.array(rows))
            return [Part(first * length, (first + 1) * length, whole, range(len(times)) if rows is None else rows)]
        groups = grouped(batch, times // length, rows)
        parts = []
        for start, stop in pairwise(groups.bounds):
            window = int(groups.numbers[start])
            parts.append(Part(window * length, (window + 1) * length, *groups.slice(start, stop)))
        return parts

    def last_end(self, watermark: int) -> int:
        """Return the last multiple of the length."""
        return watermark - watermark % self._length
