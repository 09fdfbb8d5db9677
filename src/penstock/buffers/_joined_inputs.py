"""The queue of joins over the time of rows: what is held of two inputs is in keyed state, what matched goes out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from ..checkpoint import Checkpoint
from ..context import Context
from ..delivery import Batch, Delivery
from ..errors import EndOfInput, PenstockError, PermanentError
from ..metadata import without_metadata
from ._event_time import Micros, Unit, Unreadable, Watermark, micros
from ._grouping import wait_until
from ._join import SOURCE
from ._matching import Matcher, Matching, Result, check_keys
from ._merging import handed_out
from ._sorting import WARN_INTERVAL, iso_time

T = TypeVar("T")
LateRows: TypeAlias = Literal["route", "drop", "join"]
ROUND_INTERVAL = 0.1
"""How many seconds rows wait at most before they are joined."""
MIN_ROUND = 1 << 16
"""How many rows come at most before they are joined; more where more are held."""
_MAX_READY = 8
_IN_A_THREAD = 4096
"""Rows from which the work is left to a thread, so that the event loop goes on meanwhile."""


@dataclass(frozen=True, slots=True)
class JoinTiming:
    """Where the time of rows is, and how far the time of each input has come; times in µs unless said otherwise."""

    name: str
    """The type of the buffer, for messages."""
    columns: tuple[str, str]
    unit: Unit
    out_of_orderness: int
    idle_timeout: float | None
    """In seconds."""
    late: LateRows
    max_rows: int
    overflow: Literal["stop", "release"]


@dataclass(slots=True)
class _Taken:
    """What becomes of the rows of a delivery."""

    refused: list[tuple[Batch, str]] = field(default_factory=list)
    newest: dict[int, int] = field(default_factory=dict)
    """The newest time of each side."""
    rows: int = 0
    dropped: int = 0


class JoinedInputs:
    """The queue of a join of two inputs.

    Rows are joined many at once. With each round what is held is put into keyed state and what came is settled: the
    positions that are saved then belong to the state that is saved with them, so that a restart reads nothing again.
    """

    def __init__(
        self, timing: JoinTiming, matching: Matching, matcher: Matcher, checkpoint: Checkpoint, context: Context
    ) -> None:
        self._timing, self._matching, self._matcher = timing, matching, matcher
        self._checkpoint, self._context, self._clock = checkpoint, context, context.clock
        self._names = tuple(side.name for side in matcher.sides)
        note = matcher.sides[0].note
        now = self._clock.monotonic()
        self._marks = [
            Watermark(timing.out_of_orderness, timing.idle_timeout, value, [name], now)
            for name, value in zip(self._names, note.get("watermarks", (None, None)), strict=True)
        ]
        self._rows: int = note.get("rows", 0)
        self._pending_rows = 0
        self._absorbed: list[Delivery] = []
        self._absorbed_at = float("-inf")
        self._released: int | None = None
        self._ready: deque[Delivery] = deque()
        self._changed, self._room, self._one_at_a_time = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._ended = self._flushed = self._waiting = False
        self.late_rows = 0
        """How many late rows were dropped."""
        self._warned, self._reported = float("-inf"), 0

    # -- taking ----------------------------------------------------------------------------------------------------

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while results wait to be taken."""
        async with self._turn():
            began = self._clock.monotonic()
            taken = await self._work(delivery.batch.num_rows, lambda: self._take(delivery.batch))
            now = self._clock.monotonic()
            self._excuse_work(now - began)
            self.late_rows += taken.dropped
            if not self._absorbed:
                self._absorbed_at = now
            shares = delivery.split([delivery.batch.slice(0, 0), *(batch for batch, _ in taken.refused)])
            self._absorbed.append(shares[0])
            for share, (_, reason) in zip(shares[1:], taken.refused, strict=True):
                share.error = PermanentError(reason)
                self._ready.append(share)
            self._pending_rows += taken.rows
            for side, newest in taken.newest.items():
                self._marks[side].observe(f"{self._names[side]}/{self._source(delivery)}", newest, now)
            if self._pending_rows >= max(MIN_ROUND, self._count_held() // 4):
                await self._join()
                self._excuse_work(self._clock.monotonic() - now)
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
                for mark in self._marks:
                    mark.excuse(self._clock.monotonic() - began)
                yield
        finally:
            self._waiting = False

    def _excuse_work(self, took: float) -> None:
        for mark in self._marks:
            mark.excuse_work(took)

    @staticmethod
    def _source(delivery: Delivery) -> str:
        trackers = {loan.tracker.key for loan in delivery.loans if loan.tracker is not None}
        return trackers.pop() if len(trackers) == 1 else ""

    def _count_held(self) -> int:
        """Return how many rows are held of both inputs."""
        return sum(side.rows.num_rows for side in self._matcher.sides)

    def _take(self, batch: Batch) -> _Taken:
        """Tell what becomes of the rows of a batch, by the input that they came from."""
        taken = _Taken()
        if not batch.num_rows:
            return taken
        sources = batch.column(SOURCE) if SOURCE in batch.schema.names else pa.nulls(batch.num_rows, pa.string())
        for name in sources.unique().to_pylist():
            rows = batch.filter(pa.compute.equal(sources, name)) if name is not None else batch
            if name in self._names:
                self._take_side(self._names.index(name), rows, taken)
            else:
                taken.refused.append((rows, f"neither side of the join is called {name!r}, as their input is"))
        return taken

    def _take_side(self, side: int, batch: Batch, taken: _Taken) -> None:
        column = self._timing.columns[side]
        try:
            times, valid = micros(batch, column, self._timing.unit)
        except Unreadable as unreadable:
            taken.refused.append((batch, str(unreadable)))
            return
        if missing := [key for key in self._matching.keys[side] if key not in batch.schema.names]:
            taken.refused.append((batch, f"there is no column {missing[0]!r}"))
            return
        if valid is not None and not valid.all():
            reason = f"no time can be read from column {column!r}"
            taken.refused.append((batch.filter(pa.array(~valid)), reason))
            batch, times = batch.filter(pa.array(valid)), times[valid]
        if not len(times):
            return
        taken.newest[side] = int(times.max())
        batch, times = self._without_late(side, batch, times, taken)
        if not len(times):
            return
        rows = without_metadata(batch)
        try:
            schemas = [one.schema for one in self._matcher.sides]
            schemas[side] = rows.schema
            check_keys(self._matching, schemas, self._names)
            self._matcher.sides[side].add(rows, times, self._rows)
        except PermanentError as error:
            taken.refused.append((batch, str(error)))
            return
        self._rows += len(times)
        taken.rows += len(times)

    def _without_late(self, side: int, batch: Batch, times: Micros, taken: _Taken) -> tuple[Batch, Micros]:
        """Return the rows that are on time; the others are refused or dropped."""
        watermark = self._marks[side].value
        if watermark is None or self._timing.late == "join" or int(times.min()) >= watermark:
            return batch, times
        is_late = times < watermark
        if self._timing.late == "route":
            reason = f"late: it is older than the watermark of {self._names[side]}, {iso_time(watermark)}"
            taken.refused.append((batch.filter(pa.array(is_late)), reason))
        else:
            taken.dropped += int(is_late.sum())
        return batch.filter(pa.array(~is_late)), times[~is_late]

    def _warn(self, now: float) -> None:
        """Say now and then how many rows were dropped."""
        unmatched = self._matcher.dropped
        if self.late_rows + unmatched > self._reported and now - self._warned >= WARN_INTERVAL:
            self._warned, self._reported = now, self.late_rows + unmatched
            message = "%s: so far %d rows came too late and %d matched nothing: they were dropped"
            self._context.log.warning(message, self._timing.name, self.late_rows, unmatched)

    # -- joining ---------------------------------------------------------------------------------------------------

    def _follow(self, now: float) -> None:
        """Move the watermarks on, that of a silent input with the other's."""
        for mark in self._marks:
            mark.follow(now)
        values = [mark.value for mark in self._marks]
        for mark, other in zip(self._marks, reversed(values), strict=True):
            if mark.is_silent(now) and other is not None:
                mark.raise_to(other)

    async def _join(self, *, is_over: bool = False) -> None:
        """Join what came, put what is held into the state, and hand both out together."""
        now = self._clock.monotonic()
        if not self._waiting:
            self._follow(now)
        results = await self._work(self._pending_rows + self._count_held(), lambda: self._advance(is_over=is_over))
        if (held := self._count_held()) > self._timing.max_rows:
            raise PenstockError(
                f"{self._timing.name}: {held} rows are held, more than max_rows ({self._timing.max_rows}): one input "
                "may be far behind or silent; give a `ttl` or an `idle_timeout`, a shorter interval, or "
                "`overflow: release`"
            )
        self._warn(now)
        absorbed, self._absorbed = self._absorbed, []
        if not absorbed and not results:
            self._context.states.keep()
            return
        own = self._checkpoint.lend((self._checkpoint.position or 0) + 1)
        self._ready += handed_out(absorbed, own, self._context.states, results)

    def _advance(self, *, is_over: bool) -> list[Result]:
        self._pending_rows = 0
        watermarks = self._marks[0].value, self._marks[1].value
        found = self._matcher.match(watermarks, self._released, is_over=is_over)
        if self._count_held() > self._timing.max_rows and self._timing.overflow == "release":
            self._released = self._oldest_kept()
            found += self._matcher.match(watermarks, self._released, is_over=False)
        self._context.states.begin()
        self._matcher.save(watermarks=watermarks, rows=self._rows)
        return [result for result in found if result.batch.num_rows]

    def _oldest_kept(self) -> int:
        """Return the time of the oldest row that may be held if nine tenths of ``max_rows`` are."""
        times = np.concatenate([side.times for side in self._matcher.sides])
        over = len(times) - self._timing.max_rows * 9 // 10
        return int(np.partition(times, over)[over])

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
                    await self._join(is_over=not self._context.is_stopping())
                    self._flushed = True
                continue
            self._changed.clear()
            if not await wait_until(self._clock, self._changed, self._wake_at()):
                async with self._one_at_a_time:
                    await self._join()
        self._room.set()
        return self._ready.popleft()

    def _wake_at(self) -> float | None:
        times = [self._absorbed_at + ROUND_INTERVAL] if self._absorbed else []
        if self._count_held() and not self._waiting:
            now = self._clock.monotonic()
            idle = [mark.idle_at(now) for mark in self._marks if not mark.is_silent(now)]
            times += [time for time in idle if time is not None]
        return min(times, default=None)

    def end(self) -> None:
        """Let all rows go that wait for a match, since nothing more will be put; on a stop they stay in the state."""
        self._ended = True
        self._changed.set()
        self._room.set()
