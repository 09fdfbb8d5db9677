"""How long to wait before trying again: exponential, with jitter, and cut short by a stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .clock import Clock
from .duration import Duration
from .errors import PenstockError
from .options import Options


class Backoff(Options):
    """How often and how patiently to try again."""

    attempts: int | None = None
    """How many times at most; without it as long as it takes."""
    initial: Duration = 0.1
    """The wait before the second attempt; it doubles with each further one."""
    maximum: Duration = 30.0
    """The longest wait."""

    def delay(self, attempt: int, after: float | None = None) -> float:
        """Return the wait in seconds after failed attempt number ``attempt``, counted from 0: half of it is chance.

        It is at least ``after``, which the other side asked for, but never longer than ``maximum``.
        """
        longest = min(self.initial * 2.0 ** min(attempt, 60), self.maximum)
        return max(longest * (0.5 + random.random() / 2), min(after or 0.0, self.maximum))

    def exhausted(self, attempt: int) -> bool:
        """Tell whether failed attempt number ``attempt``, counted from 0, was the last."""
        return self.attempts is not None and attempt + 1 >= self.attempts


class Stop(asyncio.Event):
    """A stop that may have been asked for before it is set, while others had to end first."""

    asked_at: float | None = None
    """When it was asked for, by the monotonic clock."""

    @staticmethod
    def elapsed(stop: asyncio.Event, clock: Clock) -> float:
        """Return for how many seconds ``stop`` has been asked for."""
        asked_at = stop.asked_at if isinstance(stop, Stop) else None
        return 0.0 if asked_at is None else clock.monotonic() - asked_at


class Stopped(PenstockError):
    """The stream was stopped while the other side could not be reached."""


@asynccontextmanager
async def unless_stopped(stop: asyncio.Event, clock: Clock, patience: float = 0.0) -> AsyncIterator[None]:
    """Break off what is awaited inside, ``patience`` seconds after ``stop``: raises Stopped."""
    loop = asyncio.get_running_loop()

    async def watch(limit: asyncio.Timeout) -> None:
        await stop.wait()
        await clock.sleep(patience)
        limit.reschedule(loop.time())

    limit = asyncio.timeout(None)
    try:
        async with limit:
            watching = loop.create_task(watch(limit))
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Stopped("stopped while it was being opened") from error
