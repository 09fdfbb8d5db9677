"""Windows that keep what an aggregate query needs of their rows, and not the rows."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from ..checkpoint import Checkpoint
from ..context import Context
from ..delivery import Batch, Delivery
from ..errors import EndOfInput, PenstockError, PermanentError
from ._aggregate_query import END as WINDOW_END
from ._aggregate_query import START as WINDOW_START
from ._aggregation import Aggregation
from ._event_time import Micros, Unreadable, Watermark, micros
from ._grouping import wait_until
from ._kept import Kept
from ._merging import handed_out, unified
from ._sorting import BOUND, WARN_INTERVAL, Windowing, iso_time
from ._spans import END, START, Spans

T = TypeVar("T")
_Result: TypeAlias = "tuple[Batch, str | None]"
"""Rows of the result, or what is kept of a window and why the result cannot be computed."""
SAVE_INTERVAL = 1.0
"""After how many seconds at most what came is in the state, and settled."""
FIRE_INTERVAL = 0.1
"""How many seconds sessions that are over wait at most, so that many go out together."""
MAX_PENDING = 1 << 18
"""How many rows come at most before they are in the state."""
_MAX_READY = 8
_IN_A_THREAD = 4096
"""Rows from which the work is left to a thread, so that the event loop goes on meanwhile."""


@dataclass(slots=True)
class _Taken:
    """What becomes of the rows of a delivery."""

    kept: pa.Table | None = None
    newest: int | None = None
    refused: list[tuple[Batch, str]] = field(default_factory=list)
    dropped: int = 0
    is_disordered: bool = False
    """Whether a row that is not late is older than a window that is over."""
    schema: pa.Schema | None = None
    """What is known of the columns now."""


class AggregatingWindows:
    """The queue of event-time windows of which an aggregate query is computed as rows come.

    What came is put into keyed state every now and then, and settled: the positions that are saved then belong to the
    state that is saved with them, so that a restart reads nothing again of open windows.
    """

    def __init__(
        self,
        windowing: Windowing,
        aggregation: Aggregation,
        spans: Spans,
        checkpoint: Checkpoint,
        kept: Kept,
        context: Context,
        emit_every: float | None,
    ) -> None:
        self._windowing, self._aggregation, self._spans = windowing, aggregation, spans
        self._checkpoint, self._kept, self._context, self._clock = checkpoint, kept, context, context.clock
        self._emit_every = emit_every
        self._keys = list(aggregation.keys)
        self._live: pa.Table | None = None
        self._changes: list[pa.Table] = []
        """What came since and is in the state, but not yet part of what is open."""
        self._pending: list[pa.Table] = []
        self._pending_rows = self._rows = 0
        self._schema: pa.Schema | None = None
        self._types: tuple[pa.Schema, Sequence[pa.DataType]] | None = None
        """Of the functions, for the columns for which they were last found."""
        self._absorbed: list[Delivery] = []
        self._absorbed_at = self._fired_at = float("-inf")
        self._next_end: int | None = None
        """When the next window ends that has not fired, or earlier."""
        self._fired: int | None = None
        """The end up to which all windows have fired."""
        self._is_new = False
        """Whether rows came since results went out early."""
        self._emit_at = self._clock.monotonic() + emit_every if emit_every is not None else None
        lag = windowing.out_of_orderness + (0 if windowing.late == "update" else windowing.lateness)
        watermark = self._load()
        now = self._clock.monotonic()
        self._watermark = Watermark(lag, windowing.idle_timeout, watermark, windowing.sources, now)
        self._ready: deque[Delivery] = deque()
        self._changed, self._room, self._one_at_a_time = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._ended = self._flushed = self._waiting = False
        self.late_rows = 0
        self._warned = float("-inf")

    # -- taking ----------------------------------------------------------------------------------------------------

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while results wait to be taken."""
        async with self._turn():
            began = self._clock.monotonic()
            taken = await self._work(delivery.batch.num_rows, lambda: self._take(delivery.batch))
            now = self._clock.monotonic()
            self._watermark.excuse_work(now - began)
            if taken.is_disordered and not self._spans.is_even:
                await self._save(now)
            self._rows += delivery.batch.num_rows
            self._count_late(taken.dropped, now)
            self._schema = taken.schema
            if not self._absorbed:
                self._absorbed_at = now
            shares = delivery.split([delivery.batch.slice(0, 0), *(batch for batch, _ in taken.refused)])
            self._absorbed.append(shares[0])
            for share, (_, reason) in zip(shares[1:], taken.refused, strict=True):
                share.error = PermanentError(reason)
                self._ready.append(share)
            if taken.kept is not None:
                self._pending.append(taken.kept)
                self._pending_rows += delivery.batch.num_rows
                self._is_new = True
                self._expect(self._spans.next_end(taken.kept, None))
            if taken.newest is not None:
                self._watermark.observe(self._source(delivery), taken.newest, now)
            if self._must_save(now):
                await self._save(now)
                self._watermark.excuse_work(self._clock.monotonic() - now)
        self._changed.set()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for room, and for the work in progress: no source is silent meanwhile."""
        began = self._clock.monotonic()
        self._waiting = True
        try:
            while len(self._ready) >= _MAX_READY and not self._ended:
                self._room.clear()
                await self._room.wait()
            async with self._one_at_a_time:
                self._waiting = False
                self._watermark.excuse(self._clock.monotonic() - began)
                yield
        finally:
            self._waiting = False

    @staticmethod
    def _source(delivery: Delivery) -> str | None:
        trackers = {loan.tracker.key for loan in delivery.loans if loan.tracker is not None}
        return trackers.pop() if len(trackers) == 1 else None

    def _take(self, batch: Batch) -> _Taken:
        """Tell what becomes of the rows of a batch."""
        taken = _Taken(schema=self._schema)
        if not batch.num_rows:
            return taken
        try:
            times, valid = micros(batch, self._windowing.column, self._windowing.unit)
        except Unreadable as unreadable:
            taken.refused.append((batch, str(unreadable)))
            return taken
        if valid is not None and not valid.all():
            reason = f"no time can be read from column {self._windowing.column!r}"
            taken.refused.append((batch.filter(pa.array(~valid)), reason))
            batch, times = batch.filter(pa.array(valid)), times[valid]
        if not len(times):
            return taken
        taken.newest = int(times.max())
        batch, times = self._without_late(batch, times, taken)
        if len(times):
            try:
                taken.kept, taken.schema = self._begin(batch, times)
            except PermanentError as error:
                taken.refused.append((batch, str(error)))
        return taken

    def _without_late(self, batch: Batch, times: Micros, taken: _Taken) -> tuple[Batch, Micros]:
        """Return the rows of which a window takes rows; the others are dropped or refused."""
        closed = self._closed()
        if closed is None or int(times.min()) >= closed:
            return batch, times
        is_late = self._spans.last_ends(times) <= closed
        taken.is_disordered = not is_late.all()
        if not is_late.any():
            return batch, times
        if self._windowing.late == "route":
            reason = f"late: all windows of this row had closed at watermark {iso_time(closed)}"
            taken.refused.append((batch.filter(pa.array(is_late)), reason))
        else:
            taken.dropped = int(is_late.sum())
        return batch.filter(pa.array(~is_late)), times[~is_late]

    def _begin(self, batch: Batch, times: Micros) -> tuple[pa.Table | None, pa.Schema]:
        """Return what is kept of rows on time, and what is known of the columns then."""
        columns = [
            batch.column(name) if name in batch.schema.names else pa.nulls(batch.num_rows) for name in self._columns
        ]
        batch = pa.record_batch([*columns, pa.array(times)], names=[*self._columns, "@time"])
        known = self._schema
        schema = batch.schema if known is None else unified(known, batch.schema)
        if schema is None:
            raise PermanentError(f"columns are of other types than in open windows: {batch.schema} instead of {known}")
        self._find_types(schema)
        if schema != batch.schema:
            batch = batch.cast(schema)
        batch = self._aggregation.select(batch)
        if not batch.num_rows:
            return None, schema
        keys = [_plain(batch.column(name)) for name in self._keys]
        starts, ends = self._spans.place(batch.column("@time").to_numpy(), keys)
        groups = pa.table([*keys, pa.array(starts), pa.array(ends)], names=self._groups)
        return self._aggregation.begin(batch, groups, self._rows), schema

    @property
    def _columns(self) -> Sequence[str]:
        return self._aggregation.columns

    @property
    def _groups(self) -> list[str]:
        return [*self._keys, START, END]

    def _expect(self, end: int | None) -> None:
        if end is not None:
            self._next_end = end if self._next_end is None else min(end, self._next_end)

    def _count_late(self, rows: int, now: float) -> None:
        self.late_rows += rows
        if rows and now - self._warned >= WARN_INTERVAL:
            self._warned = now
            name = self._windowing.name
            self._context.log.warning("%s: %d rows so far came after their window closed", name, self.late_rows)

    # -- firing ----------------------------------------------------------------------------------------------------

    def _closed(self) -> int | None:
        """Return the end up to which windows take no more rows."""
        watermark = self._watermark.value
        if watermark is None:
            return None
        return watermark - (self._windowing.lateness if self._windowing.late == "update" else 0)

    def _is_due(self) -> bool:
        watermark = self._watermark.value
        return self._next_end is not None and watermark is not None and self._next_end <= watermark

    def _must_save(self, now: float) -> bool:
        if self._pending_rows >= MAX_PENDING or now >= self._absorbed_at + SAVE_INTERVAL:
            return True
        return self._is_due() and (self._spans.is_even or now >= self._fired_at + FIRE_INTERVAL)

    async def _save(self, now: float, *, early: bool = False, flush: bool = False) -> None:
        """Put what came into the state, fire what is due, and hand both out together."""
        rows = self._pending_rows + sum(table.num_rows for table in (self._live, *self._changes) if table is not None)
        results = await self._work(rows, lambda: self._advance(early=early, flush=flush))
        if self._live is not None and self._live.num_rows > self._windowing.max_rows:
            raise PenstockError(
                f"{self._windowing.name}: {self._live.num_rows} groups are kept of open windows, more than max_rows "
                f"({self._windowing.max_rows}); use shorter windows, group by less, or raise max_rows"
            )
        self._fired_at = now
        absorbed, self._absorbed = self._absorbed, []
        if not absorbed and not results:
            self._context.states.keep()
            return
        own = self._checkpoint.lend((self._checkpoint.position or 0) + 1)
        self._ready += handed_out(absorbed, own, self._context.states, results)

    def _advance(self, *, early: bool, flush: bool) -> list[_Result]:
        change = self._combine(self._pending)
        self._pending, self._pending_rows = [], 0
        if change is not None:
            self._changes.append(change)
        self._merge(must=early or flush or self._is_due())
        found = self._fire(change)
        if early or flush:
            found += self._results(self._fired, None)
            self._is_new = False
        note = {
            "watermark": self._watermark.value,
            "fired": self._fired,
            "closed": self._closed(),
            "rows": self._rows,
            "schema": base64.b64encode(self._schema.serialize()).decode() if self._schema is not None else None,
        }
        if flush:
            self._live, self._next_end = None, None
        self._drop(self._closed())
        self._context.states.begin()
        self._kept.add(change, note)
        if not self._changes:
            self._kept.rewrite(self._live, note)
        return [(batch, reason) for batch, reason in found if batch.num_rows]

    def _merge(self, *, must: bool) -> None:
        """Make changes part of what is open: where that is asked for, or they are as many as it."""
        rows = sum(change.num_rows for change in self._changes)
        if rows and (must or rows >= max(MAX_PENDING, self._live.num_rows if self._live is not None else 0)):
            tables = self._changes if self._live is None else [self._live, *self._changes]
            self._changes, self._live = [], None  # so that no memory is held twice
            self._live = self._combine(tables)

    def _combine(self, tables: Sequence[pa.Table]) -> pa.Table | None:
        if not tables:
            return None
        if len(tables) == 1:
            return tables[0]
        whole = self._spans.join(_concatenated(tables), self._keys)
        return self._aggregation.combine(whole, self._groups)

    def _fire(self, change: pa.Table | None) -> list[_Result]:
        watermark = self._watermark.value
        if watermark is None:
            return []
        if not self._is_due():
            self._fired = watermark if self._fired is None else max(self._fired, watermark)
            return []
        found = self._results(self._fired, watermark)
        if self._windowing.late == "update" and change is not None and self._fired is not None:
            found = self._updates(change, self._fired) + found
        self._fired = watermark if self._fired is None else max(self._fired, watermark)
        self._next_end = self._spans.next_end(self._live, self._fired) if self._live is not None else None
        return found

    def _updates(self, change: pa.Table, fired: int) -> list[_Result]:
        """Return anew the windows that have fired and into which rows came."""
        assert self._live is not None
        found = []
        touched = set(np.unique(change.column(START).to_numpy()).tolist())
        for begin, end, rows in self._spans.windows(self._live, self._closed(), fired):
            if touched.intersection(np.unique(rows.column(START).to_numpy()).tolist()):
                found += self._result(begin, end, rows)
        return found

    def _results(self, after: int | None, until: int | None) -> list[_Result]:
        if self._live is None:
            return []
        windows = self._spans.windows(self._live, after, until)
        return [result for window in windows for result in self._result(*window)]

    def _result(self, begin: int, end: int, rows: pa.Table) -> list[_Result]:
        """Return the result of one window, or of sessions that have their own bounds."""
        assert self._schema is not None
        if not self._spans.is_whole:
            rows = self._aggregation.combine(rows.drop_columns([START, END]), self._keys)
        if self._spans.is_even:
            bounds = [pa.repeat(pa.scalar(bound, BOUND), rows.num_rows) for bound in (begin, end)]
        else:
            bounds = [rows.column(name).cast(BOUND) for name in (START, END)]
        rows = rows.append_column(WINDOW_START, bounds[0]).append_column(WINDOW_END, bounds[1])
        try:
            return [(batch, None) for batch in self._aggregation.finish(rows, self._find_types(self._schema))]
        except PermanentError as error:
            return [(batch, str(error)) for batch in rows.combine_chunks().to_batches()]

    def _find_types(self, schema: pa.Schema) -> Sequence[pa.DataType]:
        """Return the types of the functions over columns; raises PermanentError if the query cannot be computed."""
        if self._types is None or not schema.equals(self._types[0]):
            self._types = schema, self._aggregation.types(_null_row(schema))
        return self._types[1]

    def _drop(self, closed: int | None) -> None:
        """Forget what no window needs any more."""
        if self._live is None or closed is None:
            return
        over = self._live.column(END).to_numpy() <= closed
        if over.any():
            self._live = self._live.filter(pa.array(~over)) if not over.all() else None

    def _load(self) -> int | None:
        """Take up what the state says is open; returns the watermark."""
        note: dict[str, Any] = {}
        for table, noted in self._kept.load():
            if table is not None:
                self._live = self._combine([one for one in (self._live, table) if one is not None])
            note = noted or note
            self._drop(note.get("closed"))
        if (schema := note.get("schema")) is not None:
            self._schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema)))
        self._fired, self._rows = note.get("fired"), note.get("rows", 0)
        if self._live is not None:
            self._next_end = self._spans.next_end(self._live, self._fired)
        watermark: int | None = note.get("watermark")
        return watermark

    async def _work(self, rows: int, what: Callable[[], T]) -> T:
        return await asyncio.to_thread(what) if rows > _IN_A_THREAD else what()

    # -- handing out -----------------------------------------------------------------------------------------------

    async def get(self) -> Delivery:
        """Return the next results, or rows that are refused; raises EndOfInput once ended and empty."""
        while not self._ready:
            if self._ended:
                if self._flushed:
                    raise EndOfInput
                async with self._one_at_a_time:
                    await self._save(self._clock.monotonic(), flush=not self._context.is_stopping())
                    self._flushed = True
                continue
            self._changed.clear()
            if not await wait_until(self._clock, self._changed, self._wake_at()):
                await self._look()
        self._room.set()
        return self._ready.popleft()

    def _wake_at(self) -> float | None:
        times = [self._absorbed_at + (FIRE_INTERVAL if self._is_due() else SAVE_INTERVAL)] if self._absorbed else []
        if self._emit_at is not None and self._is_new:
            times.append(self._emit_at)
        if self._next_end is not None and not self._waiting:
            idle_at = self._watermark.idle_at(self._clock.monotonic())
            times += [idle_at] if idle_at is not None else []
        return min(times, default=None)

    async def _look(self) -> None:
        """Do what is due by the clock: save, fire without silent sources, hand out results early."""
        async with self._one_at_a_time:
            now = self._clock.monotonic()
            if not self._waiting:
                if self._watermark.is_idle(now) and self._live_end() is not None:
                    self._watermark.raise_to(self._live_end() or 0)
                self._watermark.follow(now)
            early = self._emit_at is not None and now >= self._emit_at and self._is_new
            if self._emit_every is not None and self._emit_at is not None and now >= self._emit_at:
                self._emit_at = now + self._emit_every
            await self._save(now, early=early)

    def _live_end(self) -> int | None:
        """Return the end of the last window that is open."""
        tables = [table for table in (self._live, *self._changes, *self._pending) if table is not None]
        return max((int(table.column(END).to_numpy().max()) for table in tables), default=None)

    def end(self) -> None:
        """Fire what is open, since nothing more will be put; on a stop it stays open, in the state. Idempotent."""
        self._ended = True
        self._changed.set()
        self._room.set()


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables; numbers of different types become those that hold both."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        names = tables[-1].column_names
        kinds = [_common([table.schema.field(name).type for table in tables]) for name in names]
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        return pa.concat_tables([table.select(names).cast(schema) for table in tables])


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    return next((kind for kind in kinds if pa.types.is_floating(kind)), kinds[-1])


def _null_row(schema: pa.Schema) -> Batch:
    return pa.record_batch([pa.nulls(1, kind) for kind in schema.types], names=schema.names)
