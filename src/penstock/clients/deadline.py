"""Deadlines for calls to a database: one that takes too long, or that nobody waits for any more, is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from ..clock import Clock
from ..errors import ConnectionLost
from ..runtime.threads import OwnThread

INTERRUPT_INTERVAL = 0.05
"""Seconds after which a call is interrupted once more: the last time may have fallen between two statements."""

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="Closeable")


class Closeable(Protocol):
    """A connection."""

    def close(self) -> None:
        """Close it."""


async def connect(thread: OwnThread, call: Callable[P, C], *args: P.args, **kwargs: P.kwargs) -> C:
    """Connect in the thread; a connection that is there only after the caller was cancelled is closed."""
    connecting = thread.start(call, *args, **kwargs)
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_close)
        raise


def _close(connecting: asyncio.Future[C]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        with suppress(Exception):
            connecting.result().close()


def _forget_error(running: asyncio.Future[Any]) -> None:
    """Take the error of a call that nobody waits for any more, so that it is not logged."""
    if not running.cancelled():
        running.exception()


class Deadline:
    """Run the calls to one connection in its thread, and interrupt those that take longer than ``timeout`` seconds.

    Without a ``timeout`` a call may take as long as it wants.

    ``interrupt`` is called in the loop while a call runs in the thread; it has to return at once. Leaving interrupts
    the call that runs then, and waits for its end.
    """

    def __init__(self, thread: OwnThread, interrupt: Callable[[], None], timeout: float | None, clock: Clock) -> None:
        self._thread, self._interrupt, self._timeout, self._clock = thread, interrupt, timeout, clock
        self._running: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None and not self._running.done():
            await self._end(self._running)

    def start(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[R]:
        """Call and return the result to come, which may be waited for or not."""
        running = asyncio.ensure_future(self.run(call, *args, **kwargs))
        running.add_done_callback(_forget_error)
        return running

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and return what it returns; raises ConnectionLost if it was interrupted for taking too long."""
        running = self._thread.start(call, *args, **kwargs)
        self._running = running
        running.add_done_callback(_forget_error)
        try:
            async with self._clock.timeout(self._timeout):
                await asyncio.wait({running})
        except TimeoutError:
            await self._end(running)
            if error := running.exception():
                reason = f"no answer within {self._timeout:g} s (`timeout`): interrupted"
                raise ConnectionLost(reason) from error
        return running.result()

    async def _end(self, running: asyncio.Future[Any]) -> None:
        while not running.done():
            self._interrupt()
            with suppress(TimeoutError):
                async with self._clock.timeout(INTERRUPT_INTERVAL):
                    await asyncio.wait({running})
