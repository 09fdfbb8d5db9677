"""Gather what belongs to one span of time, by the clock or by a column."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from pydantic import Field, model_validator

from ..component import Buffer, Queue
from ..context import Context
from ..duration import Duration
from ..options import Options
from ._event_time import Unit
from ._event_windows import EventWindows, Late, Windowing
from ._grouping import Grouping, Limits
from ._replay import Replay


class WatermarkOptions(Options):
    """How the time of all rows follows from the time of each, in milliseconds."""

    out_of_orderness_ms: int | None = Field(None, ge=0)
    """Another way to write `out_of_orderness`."""
    idle_timeout_ms: int | None = Field(None, gt=0)
    """Another way to write `idle_timeout`."""


class TumblingWindow(Buffer, type="tumbling_window"):
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

    interval: Duration = Field(gt=0)
    """How long a window is."""
    time: Literal["processing", "event"] = "processing"
    """Whose time counts: that of the clock when a row arrives, or that in a column of the row."""
    timestamp_field: str | None = None
    """The column with the time of a row: a timestamp, a number or a text in ISO 8601."""
    timestamp_unit: Unit = "ms"
    """The unit of an integer since 1970; a float is in seconds."""
    out_of_orderness: Duration = Field(0.0, ge=0)
    """How much older than the newest row so far a row may be and still be on time."""
    idle_timeout: Duration | None = Field(None, gt=0)
    """After how much time without rows a source is no longer waited for."""
    allowed_lateness: Duration = Field(0.0, ge=0)
    """How long after the watermark has passed a window still takes rows."""
    late: Late = "drop"
    """What becomes of rows whose window has closed."""
    max_rows: int = Field(10_000_000, gt=0)
    """How many rows are held at most. More in open event-time windows fail the stream; by the clock, reading waits."""
    watermark: WatermarkOptions | None = None
    """Another way to write `out_of_orderness` and `idle_timeout`."""
    allowed_lateness_ms: int | None = Field(None, ge=0)
    """Another way to write `allowed_lateness`, in milliseconds."""
    late_event_policy: Late | None = None
    """Another way to write `late`."""

    @model_validator(mode="after")
    def _fits_the_time(self) -> TumblingWindow:
        given = self.model_fields_set - {"interval", "time", "max_rows", "name"}
        if self.time == "processing" and given:
            raise ValueError(f"{', '.join(f'`{key}`' for key in sorted(given))} needs `time: event`")
        if self.time == "event" and not self.timestamp_field:
            raise ValueError("`time: event` needs `timestamp_field`, the column with the time of a row")
        if self.time == "event" and _micros(self.interval) < 1:
            raise ValueError("`interval` is less than 1us, the shortest event-time window")
        both = [
            f"`{ours}` and `{theirs}`"
            for ours, theirs, written in (
                ("allowed_lateness", "allowed_lateness_ms", self.allowed_lateness_ms),
                ("late", "late_event_policy", self.late_event_policy),
                ("out_of_orderness", "watermark.out_of_orderness_ms", self._of_watermark("out_of_orderness_ms")),
                ("idle_timeout", "watermark.idle_timeout_ms", self._of_watermark("idle_timeout_ms")),
            )
            if written is not None and ours in self.model_fields_set
        ]
        if both:
            raise ValueError(f"{both[0]} say the same: write one of them")
        return self

    def _of_watermark(self, name: str) -> int | None:
        return getattr(self.watermark, name) if self.watermark is not None else None

    def _windowing(self, column: str) -> Windowing:
        disorder, idle = self._of_watermark("out_of_orderness_ms"), self._of_watermark("idle_timeout_ms")
        lateness = self.allowed_lateness_ms
        return Windowing(
            length=_micros(self.interval),
            column=column,
            unit=self.timestamp_unit,
            out_of_orderness=_micros(self.out_of_orderness) if disorder is None else disorder * 1_000,
            idle_timeout=self.idle_timeout if idle is None else idle / 1_000,
            lateness=_micros(self.allowed_lateness) if lateness is None else lateness * 1_000,
            late=self.late_event_policy or self.late,
            max_rows=self.max_rows,
        )

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Queue]:
        """Yield an empty queue; event-time windows go on from what is known to be written."""
        if self.timestamp_field is None or self.time == "processing":
            began = asyncio.get_running_loop().time()
            interval = self.interval
            yield Grouping(
                Limits(rows=self.max_rows), lambda now: now + interval - (now - began) % interval, timed=True
            )
            return
        checkpoint = await context.checkpoint("window")
        replay = Replay(context.store)
        if checkpoint.position is not None:
            await replay.resume(checkpoint.position)
        yield EventWindows(self._windowing(self.timestamp_field), checkpoint, replay, context.log)

    def columns_read(self) -> frozenset[str]:
        """Return the column with the time."""
        return frozenset({self.timestamp_field}) if self.timestamp_field else frozenset()

    def columns_added(self) -> frozenset[str]:
        """Return the bounds of an event-time window."""
        return frozenset({"window_start", "window_end"}) if self.time == "event" else frozenset()


def _micros(duration: float) -> int:
    return round(duration * 1e6)
