"""Hold deliveries in every window over the time of arrival that they lie in."""

from __future__ import annotations

import asyncio
import math
from collections import deque

from ..clock import Clock
from ..delivery import Delivery
from ..errors import EndOfInput
from ._grouping import wait_until
from ._merging import Merge, merged


class ArrivalWindows:
    """A queue of windows of ``size`` s, one every ``step`` s; each holds what arrived in it."""

    def __init__(self, size: float, step: float, max_rows: int, clock: Clock, merge: Merge = merged) -> None:
        self._clock, self._merge = clock, merge
        self._size, self._step, self._max_rows = size, step, max_rows
        self._began = clock.monotonic()
        self._windows: deque[tuple[float, list[Delivery]]] = deque()
        """The end of each window and what it holds, in their order."""
        self._rows = 0
        self._merging: list[Delivery] = []
        self._out: deque[Delivery] = deque()
        self._ended = False
        self._changed, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while a window waits to be taken, or as much as may be held is held."""
        if not delivery.batch.num_rows:
            await delivery.ack()
            return
        while not self._ended and not self._has_room(self._clock.monotonic()):
            self._room.clear()
            await self._room.wait()
        ends = self._ends(self._clock.monotonic())
        shares = delivery.split([delivery.batch] * len(ends)) if len(ends) > 1 else [delivery]
        held = dict(self._windows)
        for end, share in zip(ends, shares, strict=True):
            if end not in held:
                self._windows.append((end, []))
                held[end] = self._windows[-1][1]
            held[end].append(share)
        self._rows += delivery.batch.num_rows * len(ends)
        self._changed.set()

    def _ends(self, now: float) -> list[float]:
        """Return the ends of the windows that ``now`` lies in."""
        since = now - self._began
        first = math.floor(since / self._step) + 1
        last = max(first, math.floor((since + self._size) / self._step))
        return [self._began + number * self._step for number in range(first, last + 1)]

    def _has_room(self, now: float) -> bool:
        is_due = bool(self._windows) and self._windows[0][0] <= now
        return not (is_due or self._merging or self._out) and self._rows < self._max_rows

    async def get(self) -> Delivery:
        """Return the next window as one delivery; raises EndOfInput once ended and empty."""
        while not self._out:
            if not self._merging:
                if self._windows and (self._ended or self._windows[0][0] <= self._clock.monotonic()):
                    _, self._merging = self._windows.popleft()
                    self._rows -= sum(delivery.batch.num_rows for delivery in self._merging)
                elif self._ended:
                    raise EndOfInput
                else:
                    self._changed.clear()
                    await wait_until(self._clock, self._changed, self._windows[0][0] if self._windows else None)
                    continue
            self._out.extend(await self._merge(self._merging))  # cancelled here, the next call merges them again
            self._merging = []
        delivery = self._out.popleft()
        self._room.set()
        return delivery

    def end(self) -> None:
        """Hand out what is held, since nothing more will be put."""
        self._ended = True
        self._changed.set()
        self._room.set()
