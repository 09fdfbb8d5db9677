"""The end of a stop: what is not done by then is given up, also what hangs while it closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..backoff import Stop
from ..clock import Clock
from ..errors import PenstockError

MAX_CLOSING_TIME = 2.0
"""Seconds of the time of a stop that are kept for closing what is open."""


@asynccontextmanager
async def end_in_time(stop: asyncio.Event, timeout: float, clock: Clock) -> AsyncIterator[None]:
    """Give up what is inside, so that it has ended ``timeout`` seconds after the stop: raises PenstockError.

    It is cancelled again and again until it ends, since closing may hang as well.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelled = 0

    async def watch() -> None:
        nonlocal cancelled
        await stop.wait()
        closing = min(MAX_CLOSING_TIME, timeout / 5)
        await clock.sleep(max(0.0, timeout - closing - Stop.elapsed(stop, clock)))
        while True:
            cancelled += 1
            task.cancel()
            await clock.sleep(closing / 4)

    watching = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not cancelled or task.cancelling() > cancelled:
            raise
        raise PenstockError("not all was written within the shutdown timeout; the rest is read again") from None
    finally:
        watching.cancel()
        for _ in range(cancelled):
            task.uncancel()
