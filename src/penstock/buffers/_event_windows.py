"""Hold rows in the window their time lies in, until the time of all rows has passed it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..checkpoint import Checkpoint
from ..clock import Clock
from ..delivery import Delivery, Loan
from ..errors import EndOfInput, PenstockError, PermanentError
from ..sql.query import PreparedQuery
from ._event_time import Watermark
from ._grouping import wait_until
from ._merging import Merge, merged
from ._open_windows import OpenWindows, Window
from ._replay import Replay
from ._sorting import BOUND, Sorted, Sorter, Windowing
from ._spilling import Spill

_REPLAY_TIMEOUT = 60.0
"""How long windows wait for rows to be read again after a restart, in seconds without any."""
_NOTHING_FIRED: dict[str, Any] = {"closed": None, "watermark": None, "marks": [], "furthest": {}}


@dataclass(slots=True)
class _Firing:
    """A window to be handed out, and the position to be saved once it is written."""

    start: int
    end: int
    held: list[tuple[int | None, Delivery]]
    """What it held in the order of arrival, with the number of what is on disk."""
    also: list[Delivery]
    position: dict[str, Any]


class EventWindows:
    """The queue of event-time windows.

    Each delivery is settled with the windows its rows went into, so no position passes an open window. With each
    window that fires the buffer's own position is saved, which tells rows that are read again from late ones.
    Deliveries are to be settled in the order in which ``get`` returned them.
    """

    def __init__(
        self,
        windowing: Windowing,
        checkpoint: Checkpoint,
        replay: Replay,
        log: logging.Logger,
        clock: Clock,
        *,
        query: PreparedQuery | None = None,
        emit_every: float | None = None,
        merge: Merge = merged,
        spill: Spill | None = None,
    ) -> None:
        """``query`` is run over the rows of each window that fires; ``emit_every`` is in seconds.

        Past ``max_rows`` rows go to ``spill``; without one it is an error.
        """
        self._clock, self._spill = clock, spill
        self._query, self._emit_every, self._merge = query, emit_every, merge
        self._emit_at = clock.monotonic() + emit_every if emit_every is not None else None
        self._is_new = False
        """Whether rows came since open windows were last released early."""
        self._windowing, self._checkpoint, self._replay, self._log = windowing, checkpoint, replay, log
        lag = windowing.out_of_orderness + (0 if windowing.late == "update" else windowing.lateness)
        position: dict[str, Any] = checkpoint.position or {}
        self._watermark = Watermark(
            lag, windowing.idle_timeout, position.get("watermark"), windowing.sources, clock.monotonic()
        )
        self._closed: int | None = position.get("closed")
        """The end of the last window that takes no more rows."""
        self._windows = OpenWindows(merging=windowing.assigner.merges)
        self._released: list[Delivery] = []
        self._ready: deque[_Firing | Delivery] = deque()
        self._out: deque[Delivery] = deque()
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self._waiting = self._ended = self._flushed = False
        self._heard = float("-inf")
        self._saved: dict[str, Any] = position or _NOTHING_FIRED
        self._sorter = Sorter(windowing, self._watermark, replay, self._windows, log)

    @property
    def late_rows(self) -> int:
        """How many rows were dropped since their window had closed."""
        return self._sorter.late_rows

    # -- taking ----------------------------------------------------------------------------------------------------

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while a window waits to be taken. Raises PenstockError when too many rows are held."""
        began = self._clock.monotonic()
        self._waiting = True
        try:
            while (self._ready or self._out) and not self._ended:
                self._room.clear()
                await self._room.wait()
            self._watermark.excuse(self._clock.monotonic() - began)
            await self._take(delivery)
        finally:
            self._waiting = False
        self._changed.set()

    async def _take(self, delivery: Delivery) -> None:
        source, first = await self._replay.number(delivery)
        now = self._heard = self._clock.monotonic()
        self._is_new = True
        done = self._share(delivery, self._sorter.sort(delivery.batch, source, first, now, self._closed))
        self._fire_due()
        self._changed.set()
        for share in done:
            await share.ack()
        if self._windows.rows - self._windows.on_disk > self._windowing.max_rows:
            await self._spill_rows()
            self._watermark.excuse_work(self._clock.monotonic() - now)

    async def _spill_rows(self) -> None:
        """Write half of what may be held to disk, of the windows that fire last."""
        if self._spill is None:
            raise PenstockError(
                f"{self._windowing.name}: {self._windows.rows} rows are held in {len(self._windows)} open windows, "
                f"more than max_rows ({self._windowing.max_rows}); use shorter windows, less out_of_orderness, "
                "`overflow: spill`, or raise max_rows"
            )
        chosen = self._windows.chosen_to_spill(self._windowing.max_rows // 2)
        batches = {number: delivery.batch for number, delivery in chosen.items()}
        places = await asyncio.to_thread(self._spill.write, batches)
        # Windows may have fired meanwhile: their rows are on their way out.
        self._spill.add(places, self._windows.note_spilled(chosen))

    def _share(self, delivery: Delivery, sorted_: Sorted) -> list[Delivery]:
        """Give a delivery to windows and to the error output; returns the shares of it that are done with."""
        batches = [batch for _, batch in sorted_.on_time] + [batch for batch, _ in sorted_.refused] + sorted_.done
        if not batches:
            return [delivery]
        shares = delivery.split(batches) if len(batches) > 1 else [delivery.with_batch(batches[0])]
        for (part, _), share in zip(sorted_.on_time, shares, strict=False):
            self._windows.take(part, share)
        refused = shares[len(sorted_.on_time) :]
        for (_, reason), share in zip(sorted_.refused, refused, strict=False):
            share.error = PermanentError(reason)
            self._ready.append(share)
        return refused[len(sorted_.refused) :]

    # -- firing ----------------------------------------------------------------------------------------------------

    def _fire_due(self) -> None:
        """Fire the windows that the watermark has passed, unless rows are being read again that belong in them."""
        watermark = self._watermark.value
        if watermark is None or self._replay.awaited:
            return
        while (end := self._windows.next_end()) is not None and end <= watermark:
            self._fire(end)
        closed = watermark
        if self._windowing.late == "update":
            closed -= self._windowing.lateness
            while (over := self._windows.first_until(closed)) is not None:
                self._close(over)
        closed = self._windowing.assigner.last_end(closed)
        self._closed = closed if self._closed is None else max(closed, self._closed)

    def _fire(self, end: int) -> None:
        window = self._windows.get(end)
        window.changed = False
        if self._windowing.late == "update":
            held = self._keep_and_give(window)
        else:
            held = self._give(window)
            self._windows.remove(end)
            self._note_closed(end)
        self._emit(window, held)

    def _emit_early(self) -> None:
        """Release the rows so far of the windows that are still to fire; they are kept."""
        for end in self._windows:
            window = self._windows.get(end)
            if window.changed:
                self._emit(window, self._keep_and_give(window))

    def _give(self, window: Window) -> list[tuple[int | None, Delivery]]:
        """Return all that a window holds, with the number of what is on disk."""
        spill = self._spill
        return [(number if spill is not None and number in spill else None, one) for number, one in window.held]

    def _keep_and_give(self, window: Window) -> list[tuple[int | None, Delivery]]:
        """Return a second share of all that a window holds."""
        numbers = [number for number, _ in self._give(window)]
        for number in numbers:
            if number is not None and self._spill is not None:
                self._spill.hold(number)
        pairs = [delivery.split([delivery.batch, delivery.batch]) for delivery in window.deliveries()]
        window.held = [(number, kept) for (number, _), (kept, _) in zip(window.held, pairs, strict=True)]
        return [(number, given) for number, (_, given) in zip(numbers, pairs, strict=True)]

    def _let_go(self, held: list[tuple[int | None, Delivery]]) -> list[Delivery]:
        """Return deliveries whose rows nobody reads any more."""
        for number, _ in held:
            if number is not None and self._spill is not None:
                self._spill.remove(number)
        return [delivery for _, delivery in held]

    def _close(self, end: int) -> None:
        """Let go of a window that has fired; its rows are settled with the next one that fires."""
        self._released += self._let_go(self._give(self._windows.remove(end)))
        self._note_closed(end)

    def _note_closed(self, end: int) -> None:
        self._closed = end if self._closed is None else max(end, self._closed)
        self._replay.mark(end)

    def _emit(self, window: Window, held: list[tuple[int | None, Delivery]]) -> None:
        also, self._released = self._released, []
        self._ready.append(_Firing(window.start, window.end, held, also, self._position()))

    def _position(self) -> dict[str, Any]:
        return {"closed": self._closed, "watermark": self._watermark.value, **self._replay.position()}

    def _flush(self) -> None:
        """Fire all that is open. The windows stay open to rows that come after a restart."""
        self._flushed = True
        for end in self._windows:
            window = self._windows.remove(end)
            self._replay.mark(end)
            if window.changed:
                self._emit(window, self._give(window))
            else:
                self._released += self._let_go(self._give(window))

    # -- handing out -----------------------------------------------------------------------------------------------

    async def get(self) -> Delivery:
        """Return the next window, or rows that are refused; raises EndOfInput once ended and empty."""
        while not self._out:
            if self._spill is not None and self._spill.unneeded:
                await asyncio.to_thread(self._spill.clean)
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
            found = await self._merge(await self._read(ready.held))
            prepared = [self._bounded(delivery, ready) for delivery in found]
            if self._query is not None:
                prepared = await self._queried(self._query, prepared, ready)
            self._let_go(ready.held)
            last = prepared[-1]
            last.loans = [*last.loans, *(loan for delivery in ready.also for loan in delivery.loans)]
            for delivery in prepared[:-1]:
                self._with_loan(delivery, self._saved)
            self._saved = ready.position
            self._with_loan(last, ready.position)
        self._ready.popleft()
        self._out.extend(prepared)

    async def _read(self, held: list[tuple[int | None, Delivery]]) -> list[Delivery]:
        """Return deliveries with those of their rows that are on disk."""
        numbers = [number for number, _ in held if number is not None]
        if self._spill is None or not numbers:
            return [delivery for _, delivery in held]
        rows = await asyncio.to_thread(self._spill.read, numbers)
        return [delivery if number is None else delivery.with_batch(rows[number]) for number, delivery in held]

    def _with_loan(self, delivery: Delivery, position: Any) -> Delivery:
        # First, so that what is saved never says that rows are settled before it says which window they are in.
        loan: Loan = self._checkpoint.lend(position)
        delivery.loans = [loan, *delivery.loans]
        return delivery

    async def _queried(self, query: PreparedQuery, parts: list[Delivery], firing: _Firing) -> list[Delivery]:
        """Return the result of the query over a window; where it cannot be computed, its rows with the reason."""
        if len(parts) > 1:
            error = PermanentError("rows of this window have columns whose types do not fit together")
            return [Delivery(part.batch, part.loans, error=error) for part in parts]
        (delivery,) = parts
        try:
            found = await asyncio.to_thread(query.run, delivery.batch)
        except PermanentError as error:
            return [Delivery(delivery.batch, delivery.loans, error=error)]
        if not found:
            return [Delivery(delivery.batch.slice(0, 0), delivery.loans)]
        batch = found[0] if len(found) == 1 else pa.concat_batches(found)
        return [self._bounded(Delivery(batch, delivery.loans), firing)]

    def _bounded(self, delivery: Delivery, firing: _Firing) -> Delivery:
        if delivery.error is not None:
            return delivery
        batch = delivery.batch
        for name, value in (("window_start", firing.start), ("window_end", firing.end)):
            column = pa.repeat(pa.scalar(value, BOUND), batch.num_rows)
            index = batch.schema.get_field_index(name)
            if index >= 0 and self._query is not None and batch.schema.field(index).type == BOUND:
                continue
            new = pa.field(name, BOUND)
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
        self._changed.clear()
        idle = self._waiting or self._windows.next_end() is None
        until = None if idle else self._listen_until(self._clock.monotonic())
        if self._emit_at is not None and self._is_new:
            until = self._emit_at if until is None else min(until, self._emit_at)
        if not await wait_until(self._clock, self._changed, until):
            self._give_up(self._clock.monotonic())

    def _listen_until(self, now: float) -> float | None:
        if self._replay.awaited:
            return self._heard + max(_REPLAY_TIMEOUT, self._windowing.idle_timeout or 0)
        return self._watermark.idle_at(now)

    def _give_up(self, now: float) -> None:
        """Fire early what is open, where that is asked for, or without the sources that are silent."""
        if self._emit_at is not None and self._emit_every is not None and now >= self._emit_at and self._is_new:
            self._emit_at, self._is_new = now + self._emit_every, False
            if not self._replay.awaited:
                self._emit_early()
            return
        if self._waiting:  # rows are being taken, and others may wait behind them
            return
        if self._replay.awaited:
            self._log.warning(
                "%s: %s did not read again what is missing in open windows; going on without",
                self._windowing.name,
                ", ".join(sorted(self._replay.awaited)),
            )
            self._replay.awaited.clear()
        if self._watermark.is_idle(now) and (last := self._windows.last_end()) is not None:
            self._watermark.raise_to(last)
        self._watermark.follow(now)
        self._fire_due()

    def end(self) -> None:
        """Fire what is open, since nothing more will be put. Idempotent."""
        self._ended = True
        self._changed.set()
        self._room.set()
