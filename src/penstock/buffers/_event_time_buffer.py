"""The options that all windows over event time share, and how such a window is opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import BeforeValidator, Field, model_validator

from ..clock import Clock
from ..component import Buffer, Queue
from ..context import Context
from ..duration import Duration
from ..errors import ConfigError
from ..options import Options
from ..sql.query import PreparedQuery
from ._aggregating_windows import AggregatingWindows
from ._aggregation import Aggregation
from ._assigner import WindowAssigner
from ._event_time import Unit
from ._event_windows import EventWindows
from ._join import Join, JoinOptions
from ._kept import Kept
from ._merging import Merge, merged
from ._replay import Fired, Replay
from ._sorting import Late, Windowing
from ._spans import Spans
from ._spilling import Spill

MAX_ENTRIES = 1 << 40
"""Keys in the state of windows: none is ever forgotten; what is kept is bounded by ``max_rows``."""


class WatermarkOptions(Options):
    """How the time of all rows follows from the time of each, in milliseconds."""

    out_of_orderness_ms: int | None = Field(None, ge=0)
    """Another way to write `out_of_orderness`."""
    idle_timeout_ms: int | None = Field(None, gt=0)
    """Another way to write `idle_timeout`."""


class EventTimeBuffer(Buffer):
    """A window by the clock, or by the time in a column of each row."""

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
    join: JoinOptions | None = None
    """Join the rows that several inputs have in a window."""
    query: str | None = None
    """An SQL query over the rows of each window, which it sees as the table `flow`: its result is released."""
    key: Annotated[
        list[str],
        BeforeValidator(
            lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]
        ),
    ] = []
    """The columns of which each value has sessions of its own; the `query` groups by them."""
    emit_every: Duration | None = Field(None, gt=0)
    """How often open windows into which rows came are released as they are so far."""
    max_rows: int = Field(10_000_000, gt=0)
    """How many rows, or groups of a `query`, are held in memory at most. By the clock, reading waits at more."""
    overflow: Literal["spill", "stop"] = "spill"
    """What happens at more rows in open event-time windows: those of the windows that fire last go to files in the data
    folder, or the stream stops. At more groups it stops."""
    watermark: WatermarkOptions | None = None
    """Another way to write `out_of_orderness` and `idle_timeout`."""
    allowed_lateness_ms: int | None = Field(None, ge=0)
    """Another way to write `allowed_lateness`, in milliseconds."""
    late_event_policy: Late | None = None
    """Another way to write `late`."""

    @model_validator(mode="after")
    def _fits_the_time(self) -> EventTimeBuffer:
        of_events = set(EventTimeBuffer.model_fields) - set(Buffer.model_fields) - {"time", "max_rows", "join"}
        given = sorted(self.model_fields_set & of_events)
        if self.time == "processing" and given:
            raise ValueError(f"{', '.join(f'`{key}`' for key in given)} needs `time: event`")
        if self.time == "event" and not self.timestamp_field:
            raise ValueError("`time: event` needs `timestamp_field`, the column with the time of a row")
        for name in self.lengths():
            length = getattr(self, name)
            if self.time == "event" and length is not None and to_micros(length) < 1:
                raise ValueError(f"`{name}` is less than 1us, the shortest event-time window")
        for ours, theirs, written in (
            ("allowed_lateness", "allowed_lateness_ms", self.allowed_lateness_ms),
            ("late", "late_event_policy", self.late_event_policy),
            ("out_of_orderness", "watermark.out_of_orderness_ms", self._of_watermark("out_of_orderness_ms")),
            ("idle_timeout", "watermark.idle_timeout_ms", self._of_watermark("idle_timeout_ms")),
        ):
            if written is not None and ours in self.model_fields_set:
                raise ValueError(f"`{ours}` and `{theirs}` say the same: write one of them")
        self._check_query()
        return self

    def _check_query(self) -> None:
        if self.join is not None and self.query is not None:
            raise ValueError("`join` has a query of its own: leave out `query`")
        try:
            grouped = self._aggregation.keys if self._aggregation is not None else ()
            _ = self._prepared
        except ConfigError as error:
            raise ValueError(f"`query`: {error.message}") from error
        if self.key and self.query is None:
            raise ValueError("`key` needs `query`: what is computed of the rows of each key")
        if self.key and self._aggregation is None:
            raise ValueError(f"`key` needs a `query` that is computed as rows come, but {self.why_rows_are_held()}")
        if missing := [name for name in self.key if name not in grouped]:
            raise ValueError(f"the `query` does not group by {', '.join(missing)}, which is in `key`")

    @cached_property
    def _aggregation(self) -> Aggregation | None:
        try:
            return Aggregation.of(self.query) if self.query is not None else None
        except ConfigError:
            return None

    def why_rows_are_held(self) -> str | None:
        """Return why rows are held until their window fires; None where only what the query needs of them is kept."""
        if self.query is None:
            return "there is no query"
        try:
            Aggregation.of(self.query)
        except ConfigError as error:
            return error.message
        return None

    @cached_property
    def _prepared(self) -> PreparedQuery | None:
        return PreparedQuery(self.query) if self.query is not None else None

    def lengths(self) -> tuple[str, ...]:
        """Return the names of the options that say how long a window is."""
        raise NotImplementedError

    def assigner(self) -> WindowAssigner:
        """Return what divides rows among event-time windows."""
        raise NotImplementedError

    def spans(self) -> Spans:
        """Return the spans by which partial results of event-time windows are kept."""
        raise NotImplementedError

    def by_the_clock(self, clock: Clock, merge: Merge) -> Queue:
        """Return an empty queue of windows over the time of arrival."""
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Queue]:
        """Yield an empty queue; event-time windows go on from what is known to be written."""
        if self.timestamp_field is None or self.time == "processing":
            yield self.by_the_clock(context.clock, self._merge())
            return
        if self._aggregation is not None:
            yield AggregatingWindows(
                self._windowing(self.timestamp_field, context.sources),
                self._aggregation,
                self.spans(),
                await context.checkpoint("aggregates"),
                Kept(await context.state("windows", max_entries=MAX_ENTRIES)),
                context,
                self.emit_every,
            )
            return
        checkpoint = await context.checkpoint("window")
        replay = Replay(context.store)
        spill: Spill | None = None
        if self.overflow == "spill":
            spill = Spill(context.directory / "spill" / quote(context.kept_as, safe=""))
            await asyncio.to_thread(spill.clear)
        if (position := checkpoint.position_as(Fired)) is not None:
            await replay.resume(position)
        yield EventWindows(
            self._windowing(self.timestamp_field, context.sources),
            checkpoint,
            replay,
            context.log,
            context.clock,
            query=self._prepared,
            emit_every=self.emit_every,
            merge=self._merge(),
            spill=spill,
        )
        if spill is not None:
            await asyncio.to_thread(spill.clear)

    def _merge(self) -> Merge:
        return Join(self.join) if self.join is not None else merged

    def _of_watermark(self, name: str) -> int | None:
        return getattr(self.watermark, name) if self.watermark is not None else None

    def late_rows(self) -> Late:
        """Return what becomes of rows whose window has closed, however it was written."""
        return self.late_event_policy or self.late

    def _windowing(self, column: str, sources: Sequence[str]) -> Windowing:
        disorder, idle = self._of_watermark("out_of_orderness_ms"), self._of_watermark("idle_timeout_ms")
        lateness = self.allowed_lateness_ms
        return Windowing(
            name=self.type_name,
            assigner=self.assigner(),
            column=column,
            unit=self.timestamp_unit,
            out_of_orderness=to_micros(self.out_of_orderness) if disorder is None else disorder * 1_000,
            idle_timeout=self.idle_timeout if idle is None else idle / 1_000,
            lateness=to_micros(self.allowed_lateness) if lateness is None else lateness * 1_000,
            late=self.late_rows(),
            max_rows=self.max_rows,
            sources=sources,
        )

    def columns_read(self) -> frozenset[str]:
        """Return the column with the time."""
        return frozenset({self.timestamp_field}) if self.timestamp_field else frozenset()

    def tables_read(self) -> frozenset[str] | None:
        """Return the names of the inputs that a join reads."""
        return frozenset(self.join.tables) if self.join is not None else None

    def reads_metadata(self) -> bool:
        """Tell whether it joins, by the input that rows came from, or its options name such a column."""
        return self.join is not None or super().reads_metadata()

    def columns_needed(self, behind: frozenset[str] | None) -> frozenset[str] | None:
        """Return the columns that the query reads, where there is one: what is behind it reads its result."""
        if self.join is not None:
            return None
        if self._prepared is None:
            return super().columns_needed(behind)
        needed = self._prepared.columns_read()
        return needed if needed is None else needed | self.columns_read() | frozenset(self.key)

    def columns_added(self) -> frozenset[str]:
        """Return the bounds of an event-time window."""
        return frozenset({"window_start", "window_end"}) if self.time == "event" else frozenset()


def to_micros(duration: float) -> int:
    """Return a duration in s as whole µs."""
    return round(duration * 1e6)
