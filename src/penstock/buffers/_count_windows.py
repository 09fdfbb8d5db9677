"""Hold deliveries in windows of so many of them, each of which begins so many behind the one before."""

from __future__ import annotations

import asyncio
from collections import deque

from ..delivery import Delivery
from ..errors import EndOfInput
from ._merging import Merge, merged


class CountWindows:
    """A queue of windows of ``size`` deliveries, one every ``step`` deliveries; at the end the last may be shorter."""

    def __init__(self, size: int, step: int, merge: Merge = merged) -> None:
        self._size, self._step, self._merge = size, step, merge
        self._held: deque[Delivery] = deque()
        self._new = 0
        """How many of those that are held were in no window yet."""
        self._merging: list[Delivery] = []
        self._out: deque[Delivery] = deque()
        self._ended = False
        self._changed, self._room = asyncio.Event(), asyncio.Event()

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while a window waits to be taken."""
        if not delivery.batch.num_rows:
            await delivery.ack()
            return
        while not self._ended and (len(self._held) >= self._size or self._merging or self._out):
            self._room.clear()
            await self._room.wait()
        self._held.append(delivery)
        self._new += 1
        self._changed.set()

    async def get(self) -> Delivery:
        """Return the next window as one delivery; raises EndOfInput once ended and empty."""
        while not self._out:
            if not self._merging:
                if len(self._held) < self._size and not self._ended:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                if not self._new:
                    while self._held:  # all of it was in the last window
                        await self._held.popleft().ack()
                    raise EndOfInput
                self._merging = self._window()
            self._out.extend(await self._merge(self._merging))  # cancelled here, the next call merges them again
            self._merging = []
        self._room.set()
        return self._out.popleft()

    def _window(self) -> list[Delivery]:
        """Return shares of the next window; what no later one needs is given whole."""
        window = [self._held.popleft() for _ in range(min(self._size, len(self._held)))]
        self._new = len(self._held)
        if self._ended and not self._new:
            return window
        given = []
        for at, delivery in enumerate(window):
            if at < self._step:
                given.append(delivery)
                continue
            share, kept = delivery.split([delivery.batch, delivery.batch])
            given.append(share)
            self._held.append(kept)
        return given

    def end(self) -> None:
        """Hand out what is held, since nothing more will be put."""
        self._ended = True
        self._changed.set()
        self._room.set()
