"""The clock that components are lent: what time it is, and waiting."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Tell the time and wait. Tests lend one whose time they move (``penstock.testing.clock``)."""

    def time(self) -> float:
        """Return the wall-clock time in seconds since 1970-01-01 UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return a time in seconds that never goes back, for measuring how long something takes."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> bool:
        """Wait for ``event``, ``seconds`` at most; returns whether it came. None waits for ever."""
        try:
            async with self.timeout(seconds):
                return await event.wait()
        except TimeoutError:
            return False

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Return an asynchronous context that raises TimeoutError after ``seconds``; None waits for ever."""
        return asyncio.timeout(seconds)
