"""A clock that tests move: an event loop whose time jumps to the next timer as soon as nothing else can happen."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..clock import Clock

T = TypeVar("T")

EPOCH = datetime(2026, 2, 3, 12, tzinfo=UTC).timestamp()
"""What ``FakeClock`` says when the loop is at its beginning, in seconds since 1970."""
POLL_INTERVAL = 0.01
"""How long a thread is waited for at a time, in seconds of the machine."""


class FakeClock(Clock):
    """Tell the time of a loop that jumps: an hour of waiting takes no time of the machine, and is an hour here."""

    def __init__(self, start: float = EPOCH) -> None:
        self._start = start

    def time(self) -> float:
        """Return the time in seconds since 1970-01-01 UTC, as the loop has moved it."""
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        """Return the time of the loop in seconds."""
        return asyncio.get_running_loop().time()


class _Selector(selectors.DefaultSelector):
    """Waits for sockets and threads as ever, but never for a timer: it moves the time there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.in_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            return super().select(None)
        if self.in_threads:  # What they will call back for comes before any timer.
            return super().select(POLL_INTERVAL)
        self.now += timeout
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when no callback, socket or executor job is pending.

    Work in threads that were not started by ``run_in_executor`` or ``asyncio.to_thread``, and what another process
    sends, is not waited for: use a real loop where those matter.
    """

    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)
        self._executor = ThreadPoolExecutor(thread_name_prefix="jumping")
        self.set_default_executor(self._executor)

    def time(self) -> float:
        """Return the time in seconds, which only jumps move."""
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run ``func`` in a thread; the time stands still meanwhile."""
        job = (executor or self._executor).submit(func, *args)
        self._count(1)
        future = asyncio.wrap_future(job, loop=self)
        # Behind the result, and not when the future is done: a job that was cancelled still works.
        job.add_done_callback(lambda _: self.call_soon_threadsafe(self._count, -1))
        return future

    def _count(self, change: int) -> None:
        self._jumping.in_threads += change


def run_jumping(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop whose time jumps, and return its result."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
