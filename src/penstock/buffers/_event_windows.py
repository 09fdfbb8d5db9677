"""Hold rows in the window their time lies in, until the time of all rows has passed it."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from ..checkpoint import Checkpoint
from ..delivery import Batch, Delivery, Loan
from ..errors import EndOfInput, PenstockError, PermanentError
from ._event_time import Unit, Unreadable, Watermark, micros
from ._merging import merged
from ._partition import Part, Rows, parted
from ._replay import Replay

Late: TypeAlias = Literal["drop", "route", "update"]

_PATIENCE = 60.0
"""How long windows wait for rows to be read again after a restart, in seconds without any."""
_WARN_EVERY = 60.0
_BOUND = pa.timestamp("us", "UTC")
_NOTHING_FIRED: dict[str, Any] = {"closed": None, "watermark": None, "marks": [], "furthest": {}}


@dataclass(frozen=True, slots=True)
class Windowing:
    """What an event-time window is made of; times in µs unless said otherwise."""

    length: int
    column: str
    unit: Unit
    out_of_orderness: int
    idle_timeout: float | None
    """In seconds."""
    lateness: int
    late: Late
    max_rows: int


@dataclass(slots=True)
class _Window:
    held: list[Delivery] = field(default_factory=list)
    rows: int = 0
    changed: bool = False
    """Whether rows came since it last fired."""


@dataclass(slots=True)
class _Firing:
    """A window to be handed out, and the position to be saved once it is written."""

    start: int
    end: int
    deliveries: list[Delivery]
    also: list[Delivery]
    position: dict[str, Any]


class EventWindows:
    """The queue of event-time windows.

    Each delivery is settled with the windows its rows went into, so no position passes an open window. With each
    window that fires the buffer's own position is saved, which tells rows that are read again from late ones.
    Deliveries are to be settled in the order in which ``get`` returned them.
    """

    def __init__(self, windowing: Windowing, checkpoint: Checkpoint, replay: Replay, log: logging.Logger) -> None:
        self._windowing, self._checkpoint, self._replay, self._log = windowing, checkpoint, replay, log
        lag = windowing.out_of_orderness + (0 if windowing.late == "update" else windowing.lateness)
        position: dict[str, Any] = checkpoint.position or {}
        self._watermark = Watermark(lag, windowing.idle_timeout, position.get("watermark"))
        self._closed: int | None = position.get("closed")
        """The end of the last window that takes no more rows."""
        self._windows: dict[int, _Window] = {}
        self._to_fire: list[int] = []
        self._to_close: list[int] = []
        self._rows = 0
        self._released: list[Delivery] = []
        self._ready: deque[_Firing | Delivery] = deque()
        self._out: deque[Delivery] = deque()
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self._waiting = self._ended = self._flushed = False
        self._heard = self._warned = -_WARN_EVERY
        self._saved: dict[str, Any] = position or _NOTHING_FIRED
        self.late_rows = 0
        """Rows that came after their window had closed and were dropped."""

    # -- taking ----------------------------------------------------------------------------------------------------

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while a window waits to be taken. Raises PenstockError when too many rows are held."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._ready or self._out:
            await self._wait_for_room()
            self._watermark.excuse(loop.time() - now)
        now = self._heard = loop.time()
        source, first = await self._replay.number(delivery)
        done = self._sort(delivery, source, first, now)
        self._fire_due()
        self._changed.set()
        for share in done:
            await share.ack()
        if self._rows > self._windowing.max_rows:
            raise PenstockError(
                f"tumbling_window: {self._rows} rows are held in {len(self._windows)} open windows, more than "
                f"max_rows ({self._windowing.max_rows}); use shorter windows, less out_of_orderness, or raise max_rows"
            )

    async def _wait_for_room(self) -> None:
        self._waiting = True
        try:
            while (self._ready or self._out) and not self._ended:
                self._room.clear()
                await self._room.wait()
        finally:
            self._waiting = False

    def _sort(self, delivery: Delivery, source: str | None, first: int | None, now: float) -> list[Delivery]:
        """Share a delivery out: to windows, to the error output. Returns shares that are done with."""
        batch = delivery.batch
        if not batch.num_rows:
            return [delivery]
        refused: list[tuple[Batch, str]] = []
        parts: list[Part] = []
        try:
            times, valid = micros(batch, self._windowing.column, self._windowing.unit)
        except Unreadable as unreadable:
            refused.append((batch, str(unreadable)))
        else:
            rows: Rows | None = None
            if valid is not None:
                bad = np.flatnonzero(~valid)
                if len(bad):
                    reason = f"no time can be read from column {self._windowing.column!r}"
                    refused.append((batch.take(pa.array(bad)), reason))
                    rows = np.flatnonzero(valid)
                    times = times[rows]
            if len(times):
                self._watermark.observe(source, int(times.max()), now)
                parts = parted(batch, times, rows, self._windowing.length)
        return self._share(delivery, source, first, parts, refused)

    def _share(
        self,
        delivery: Delivery,
        source: str | None,
        first: int | None,
        parts: list[Part],
        refused: list[tuple[Batch, str]],
    ) -> list[Delivery]:
        on_time: list[tuple[int, Batch]] = []
        done: list[Batch] = []
        for part in parts:
            batch = part.batch
            known = self._known(part, source, first)
            if known:
                done.append(batch.slice(0, known))
                batch = batch.slice(known)
            if not batch.num_rows:
                continue
            if self._closed is None or part.end > self._closed:
                on_time.append((part.end, batch))
            elif self._windowing.late == "route":
                refused.append((batch, self._late_reason(part.end)))
            else:
                self._count_late(batch.num_rows)
                done.append(batch)
        batches = [batch for _, batch in on_time] + [batch for batch, _ in refused] + done
        shares = delivery.split(batches) if len(batches) > 1 else [delivery.with_batch(batches[0])]
        for (end, _), share in zip(on_time, shares, strict=False):
            self._hold(end, share)
        for (_, reason), share in zip(refused, shares[len(on_time) :], strict=False):
            share.error = PermanentError(reason)
            self._ready.append(share)
        return shares[len(on_time) + len(refused) :]

    def _known(self, part: Part, source: str | None, first: int | None) -> int:
        """How many rows of the part were put before the last restart and are in their window already."""
        if source is None or first is None or not self._replay.is_known(source, first):
            return 0
        last = self._replay.last_known(source, part.end) - first
        if isinstance(part.rows, range):
            return max(0, min(last + 1 - part.rows.start, len(part.rows)))
        return int(np.searchsorted(part.rows, last, side="right"))

    def _late_reason(self, end: int) -> str:
        start = end - self._windowing.length
        watermark = self._watermark.value if self._watermark.value is not None else end
        return f"late: window {_iso(start)} to {_iso(end)} closed at watermark {_iso(max(watermark, end))}"

    def _count_late(self, rows: int) -> None:
        self.late_rows += rows
        if self._heard - self._warned >= _WARN_EVERY:
            self._warned = self._heard
            self._log.warning("tumbling_window: %d rows so far came after their window closed", self.late_rows)

    def _hold(self, end: int, delivery: Delivery) -> None:
        window = self._windows.get(end)
        if window is None:
            window = self._windows[end] = _Window()
            if self._windowing.late == "update":
                heapq.heappush(self._to_close, end)
        if not window.changed:
            window.changed = True
            heapq.heappush(self._to_fire, end)
        window.held.append(delivery)
        window.rows += delivery.batch.num_rows
        self._rows += delivery.batch.num_rows

    # -- firing ----------------------------------------------------------------------------------------------------

    def _fire_due(self) -> None:
        """Fire the windows that the watermark has passed, unless rows are being read again that belong in them."""
        watermark = self._watermark.value
        if watermark is None or self._replay.awaited:
            return
        while self._to_fire and self._to_fire[0] <= watermark:
            self._fire(heapq.heappop(self._to_fire))
        closed = watermark
        if self._windowing.late == "update":
            closed -= self._windowing.lateness
            while self._to_close and self._to_close[0] <= closed:
                self._close(heapq.heappop(self._to_close))
        closed -= closed % self._windowing.length
        self._closed = closed if self._closed is None else max(closed, self._closed)

    def _fire(self, end: int) -> None:
        window = self._windows[end]
        window.changed = False
        deliveries = window.held
        if self._windowing.late == "update":
            pairs = [delivery.split([delivery.batch, delivery.batch]) for delivery in window.held]
            window.held, deliveries = [kept for kept, _ in pairs], [given for _, given in pairs]
        else:
            self._forget(end)
            self._closed = end if self._closed is None else max(end, self._closed)
            self._replay.mark(end)
        self._emit(end, deliveries)

    def _close(self, end: int) -> None:
        """Let go of a window that has fired; its rows are settled with the next one that fires."""
        self._released += self._forget(end)
        self._closed = end if self._closed is None else max(end, self._closed)
        self._replay.mark(end)

    def _forget(self, end: int) -> list[Delivery]:
        window = self._windows.pop(end)
        self._rows -= window.rows
        return window.held

    def _emit(self, end: int, deliveries: list[Delivery]) -> None:
        also, self._released = self._released, []
        self._ready.append(_Firing(end - self._windowing.length, end, deliveries, also, self._position()))

    def _position(self) -> dict[str, Any]:
        return {"closed": self._closed, "watermark": self._watermark.value, **self._replay.position()}

    def _flush(self) -> None:
        """Fire all that is open. The windows stay open to rows that come after a restart."""
        self._flushed = True
        for end in sorted(self._windows):
            changed = self._windows[end].changed
            held = self._forget(end)
            self._replay.mark(end)
            if changed:
                self._emit(end, held)
            else:
                self._released += held

    # -- handing out -----------------------------------------------------------------------------------------------

    async def get(self) -> Delivery:
        """Return the next window, or rows that are refused; raises EndOfInput once ended and empty."""
        while not self._out:
            if not self._ready:
                if not self._ended:
                    await self._wait()
                    continue
                if self._flushed:
                    await self._settle_released()
                    raise EndOfInput
                self._flush()
                continue
            await self._prepare(self._ready[0])
        delivery = self._out.popleft()
        self._room.set()
        return delivery

    async def _prepare(self, ready: _Firing | Delivery) -> None:
        if isinstance(ready, Delivery):
            prepared = [self._with_loan(ready, self._saved)]
        else:
            # Cancelled here, the next call prepares it again; without a suspension after it, nothing is half done.
            prepared = [self._bounded(delivery, ready) for delivery in await merged(ready.deliveries)]
            last = prepared[-1]
            last.loans = [*last.loans, *(loan for delivery in ready.also for loan in delivery.loans)]
            for delivery in prepared[:-1]:
                self._with_loan(delivery, self._saved)
            self._saved = ready.position
            self._with_loan(last, ready.position)
        self._ready.popleft()
        self._out.extend(prepared)

    def _with_loan(self, delivery: Delivery, position: Any) -> Delivery:
        # First, so that what is saved never says that rows are settled before it says which window they are in.
        loan: Loan = self._checkpoint.lend(position)
        delivery.loans = [loan, *delivery.loans]
        return delivery

    def _bounded(self, delivery: Delivery, firing: _Firing) -> Delivery:
        batch = delivery.batch
        for name, value in (("window_start", firing.start), ("window_end", firing.end)):
            column = pa.repeat(pa.scalar(value, _BOUND), batch.num_rows)
            index = batch.schema.get_field_index(name)
            new = pa.field(name, _BOUND)
            batch = batch.append_column(new, column) if index < 0 else batch.set_column(index, new, column)
        return Delivery(batch, delivery.loans)

    async def _settle_released(self) -> None:
        released, self._released = self._released, []
        if released:
            await Delivery(released[0].batch, [self._checkpoint.lend(self._position())]).ack()
        for delivery in released:
            await delivery.ack()

    async def _wait(self) -> None:
        """Wait until something is put, or for so long that nothing more is expected to be."""
        loop = asyncio.get_running_loop()
        self._changed.clear()
        until = None if self._waiting or not self._to_fire else self._listen_until(loop.time())
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            self._give_up(loop.time())

    def _listen_until(self, now: float) -> float | None:
        if self._replay.awaited:
            return self._heard + max(_PATIENCE, self._windowing.idle_timeout or 0)
        return self._watermark.idle_at(now)

    def _give_up(self, now: float) -> None:
        """Fire without the sources that are silent."""
        if self._replay.awaited:
            self._log.warning(
                "tumbling_window: %s did not read again what is missing in open windows; going on without",
                ", ".join(sorted(self._replay.awaited)),
            )
            self._replay.awaited.clear()
        if self._watermark.is_idle(now) and self._windows:
            self._watermark.raise_to(max(self._windows))
        self._watermark.follow(now)
        self._fire_due()

    def end(self) -> None:
        """Nothing more will be put: fire what is open. Idempotent."""
        self._ended = True
        self._changed.set()
        self._room.set()


def _iso(time: int) -> str:
    return str(pa.scalar(time, _BOUND).cast(pa.string()).as_py())
