"""Windows that keep what an aggregate query needs of their rows, and not the rows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from ..checkpoint import Checkpoint
from ..context import Context
from ..delivery import Batch, Delivery
from ..errors import EndOfInput, PenstockError, PermanentError
from ._aggregation import Aggregation
from ._event_time import Micros, Unreadable, Watermark, micros
from ._grouping import wait_until
from ._kept import Kept
from ._merging import handed_out
from ._open_groups import MAX_PENDING, OpenGroups
from ._sorting import WARN_INTERVAL, Windowing, iso_time
from ._spans import Spans

T = TypeVar("T")
SAVE_INTERVAL = 1.0
"""After how many seconds at most what came is in the state, and settled."""
FIRE_INTERVAL = 0.1
"""How many seconds sessions that are over wait at most, so that many go out together."""
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
    """What is known of the columns then; None where it is what was known."""


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
        self._windowing, self._spans, self._emit_every = windowing, spans, emit_every
        self._checkpoint, self._context, self._clock = checkpoint, context, context.clock
        self._groups = OpenGroups(windowing, aggregation, spans, kept, context)
        self._absorbed: list[Delivery] = []
        self._absorbed_at = self._fired_at = float("-inf")
        self._is_new = False
        """Whether rows came since results went out early."""
        self._emit_at = self._clock.monotonic() + emit_every if emit_every is not None else None
        lag = windowing.out_of_orderness + (0 if windowing.late == "update" else windowing.lateness)
        now = self._clock.monotonic()
        self._watermark = Watermark(lag, windowing.idle_timeout, self._groups.watermark, windowing.sources, now)
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
            self._count_late(taken.dropped, now)
            self._groups.add(delivery.batch.num_rows, taken.kept, taken.schema)
            self._is_new = self._is_new or taken.kept is not None
            if not self._absorbed:
                self._absorbed_at = now
            shares = delivery.split([delivery.batch.slice(0, 0), *(batch for batch, _ in taken.refused)])
            self._absorbed.append(shares[0])
            for share, (_, reason) in zip(shares[1:], taken.refused, strict=True):
                share.error = PermanentError(reason)
                self._ready.append(share)
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
        taken = _Taken()
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
                taken.kept, taken.schema = self._groups.begin(batch, times)
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

    def _must_save(self, now: float) -> bool:
        if self._groups.pending_rows >= MAX_PENDING or now >= self._absorbed_at + SAVE_INTERVAL:
            return True
        return self._groups.is_due(self._watermark.value) and (
            self._spans.is_even or now >= self._fired_at + FIRE_INTERVAL
        )

    async def _save(self, now: float, *, early: bool = False, flush: bool = False) -> None:
        """Put what came into the state, fire what is due, and hand both out together."""
        groups, watermark, closed = self._groups, self._watermark.value, self._closed()
        results = await self._work(
            groups.held_rows, lambda: groups.advance(watermark, closed, early=early, flush=flush)
        )
        self._is_new = self._is_new and not early and not flush
        if len(groups) > self._windowing.max_rows:
            raise PenstockError(
                f"{self._windowing.name}: {len(groups)} groups are kept of open windows, more than max_rows "
                f"({self._windowing.max_rows}); use shorter windows, group by less, or raise max_rows"
            )
        self._fired_at = now
        absorbed, self._absorbed = self._absorbed, []
        if not absorbed and not results:
            self._context.states.keep()
            return
        own = self._checkpoint.lend((self._checkpoint.position or 0) + 1)
        self._ready += handed_out(absorbed, own, self._context.states, results)

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
        is_due = self._groups.is_due(self._watermark.value)
        times = [self._absorbed_at + (FIRE_INTERVAL if is_due else SAVE_INTERVAL)] if self._absorbed else []
        if self._emit_at is not None and self._is_new:
            times.append(self._emit_at)
        if self._groups.next_end is not None and not self._waiting:
            idle_at = self._watermark.idle_at(self._clock.monotonic())
            times += [idle_at] if idle_at is not None else []
        return min(times, default=None)

    async def _look(self) -> None:
        """Do what is due by the clock: save, fire without silent sources, hand out results early."""
        async with self._one_at_a_time:
            now = self._clock.monotonic()
            if not self._waiting:
                if self._watermark.is_idle(now) and (last := self._groups.last_end()) is not None:
                    self._watermark.raise_to(last)
                self._watermark.follow(now)
            early = self._emit_at is not None and now >= self._emit_at and self._is_new
            if self._emit_every is not None and self._emit_at is not None and now >= self._emit_at:
                self._emit_at = now + self._emit_every
            await self._save(now, early=early)

    def end(self) -> None:
        """Fire what is open, since nothing more will be put; on a stop it stays open, in the state. Idempotent."""
        self._ended = True
        self._changed.set()
        self._room.set()
