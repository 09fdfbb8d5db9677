"""A clock that tests move: an event loop whose time jumps to the next timer as soon as nothing else can happen."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from ..clock import Clock
from ..runtime.threads import are_at_work

P = ParamSpec("P")
T = TypeVar("T")

EPOCH = datetime(2026, 2, 3, 12, tzinfo=UTC).timestamp()
"""What ``FakeClock`` says when the loop is at its beginning, in seconds since 1970."""
SHORTEST_WAIT = 1e-6
"""How far the time moves at least, in seconds: a shorter wait is what rounding has left of one."""
SOCKET_INTERVAL = 0.002
"""How long sockets are waited for before the time jumps, in seconds of the machine: what was sent may be on its way."""
POLL_INTERVAL = 0.01
"""How long a thread is waited for at a time, in seconds of the machine."""


class FakeClock(Clock):
    """Tell the time of a loop that jumps: an hour of waiting takes no time of the machine, and is an hour here."""

    def __init__(self, start: float = EPOCH) -> None:
        self._start = start
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        """Return the time in seconds since 1970-01-01 UTC, as the loop has moved it."""
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        """Return the time of the loop in seconds; in a thread, that of the loop in which it was last asked for."""
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        if self._loop is None:
            raise RuntimeError("a FakeClock tells the time of a loop, and none runs here or was asked before")
        return self._loop.time()

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Return a timeout after which it is later: one that is too short to count would pass without any time."""
        return super().timeout(max(seconds, SHORTEST_WAIT) if seconds else seconds)


class StandingClock(Clock):
    """Stand at ``now``, in seconds, until a test moves it; waiting takes the time of the machine."""

    def __init__(self, now: float = EPOCH) -> None:
        self.now = now

    def time(self) -> float:
        """Return ``now``."""
        return self.now

    def monotonic(self) -> float:
        """Return ``now``."""
        return self.now


class _Selector(selectors.DefaultSelector):
    """Waits for sockets and threads as ever, but never for a timer: it moves the time there."""

    def __init__(self, is_held: Callable[[], bool]) -> None:
        super().__init__()
        self.now = 0.0
        self._is_held = is_held

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            return super().select(None)
        if self._is_held():  # What they will call back for comes before any timer.
            return super().select(POLL_INTERVAL)
        if len(self.get_map()) > 1 and (ready := super().select(SOCKET_INTERVAL)):  # One is what wakes the loop.
            return ready
        self.now += timeout
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when no callback, socket or executor job is pending.

    What another process sends is not waited for, nor are threads that neither the loop nor the engine has started: use
    a real loop where those matter.
    """

    def __init__(self) -> None:
        self._in_threads = 0
        self._jumping = _Selector(lambda: self._in_threads > 0 or are_at_work(self))
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
        self._in_threads += change


def run_jumping(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop whose time jumps, and return its result."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


def jumping(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an asynchronous test in a loop whose time jumps; the fixtures that it takes are not asynchronous."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_jumping(test(*args, **kwargs))

    return run
