"""Threads for one event loop: a shared pool, one for a connection, and expendable ones for calls that may hang."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar
from weakref import WeakSet

from ..errors import PenstockError

_BATCH_SIZE = 8
"""How many results of short calls are handed over at once while more calls are queued."""
_SHORT_CALL = 0.001
"""Seconds below which a call counts as short."""
_HAND_OVER_INTERVAL = 0.005
"""Seconds after which results are handed over at the latest, whatever the threads are busy with."""
MAX_STUCK_CALLS = 8
"""How many calls of one ``Workers`` may hang before further ones are refused."""

P = ParamSpec("P")
R = TypeVar("R")
_pools: WeakSet[Threads | Workers] = WeakSet()
_Call: TypeAlias = tuple["asyncio.Future[Any]", Callable[[], Any]]


def are_at_work(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether threads are at work on what was asked for in ``loop``: its clock is not to jump meanwhile."""
    return any(pool.is_at_work for pool in _pools if pool.loop is loop)


class Threads:
    """A pool of at most ``count`` threads for many short calls, started as they are needed.

    Results that are there at the same moment wake the loop once. A call may never return: the threads are daemons.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self.loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._finished: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._started = self._unfinished = 0
        self._is_woken = self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        _pools.add(self)

    @property
    def is_at_work(self) -> bool:
        """Whether a call has no result yet that was handed over."""
        return self._unfinished > 0

    def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue a call and return its result to come."""
        future: asyncio.Future[R] = self.loop.create_future()
        self._unfinished += 1
        self._calls.put((future, lambda: call(*args, **kwargs)))
        if self._started < min(self._count, self._unfinished):
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._name}_{self._started}", daemon=True).start()
        if self._timer is None:
            self._timer = self.loop.call_later(_HAND_OVER_INTERVAL, self._look)
        return future

    def shutdown(self) -> None:
        """End the threads once they are idle; never waits. What is queued and was not cancelled runs first."""
        self._is_closed = True
        for _ in range(self._started):
            self._calls.put(None)
        self._look()

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            began = time.perf_counter()
            if future.cancelled():
                result, error = None, None
            else:
                result, error = _outcome(call)
            self._finished.append((future, result, error))
            del waiting, future, call, result, error
            if self._is_woken:
                continue  # the loop was told, and has not begun to look
            if self._is_gathering() and time.perf_counter() - began < _SHORT_CALL:
                continue  # more is done in a moment, or else the timer fires
            self._is_woken = True
            try:
                self.loop.call_soon_threadsafe(self._hand_over)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _is_gathering(self) -> bool:
        """Whether results may wait for those of further calls. The timer runs for as long as calls are queued."""
        return len(self._finished) < _BATCH_SIZE and not self._calls.empty() and not self._is_closed

    def _look(self) -> None:
        # Asked before the results are taken: a thread that saw a queued call, and so woke nobody, has appended its
        # result before that call was gone from the queue.
        is_queued = not self._calls.empty() and not self._is_closed
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(_HAND_OVER_INTERVAL, self._look) if is_queued else None
        self._hand_over()

    def _hand_over(self) -> None:
        self._is_woken = False
        while self._finished:
            future, result, error = self._finished.popleft()
            self._unfinished -= 1
            _settle(future, result, error)


class _DaemonExecutor(Executor):
    """One thread that does not keep the process from exiting, as those of a ``ThreadPoolExecutor`` do."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queue a call."""
        future: Future[R] = Future()
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """End the thread once all that is queued is done; never waits."""
        self._calls.put(None)

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            if future.set_running_or_notify_cancel():
                result, error = _outcome(call)
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
                del result, error
            del waiting, future, call


class OwnThread:
    """One thread for a connection that blocks and must not be shared; leaving it waits for the last call.

    A call whose caller is cancelled runs on to its end; the next one starts after it. Where leaving is cancelled, a
    call that hangs is left behind with its thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = _DaemonExecutor(name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.run(lambda: None)
        finally:
            self._executor.shutdown()

    def start(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue a call and return its result to come."""
        return asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and return what it returns; if cancelled while it is queued, it does not run."""
        return await self.start(call, *args, **kwargs)


class Workers:
    """Threads for calls that may hang: after ``timeout`` seconds a call is given up, and its thread replaced.

    The threads are daemons, so that a call that hangs does not keep the process from exiting.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self._name, self._timeout = name, timeout
        self._idle: list[SimpleQueue[_Call | None]] = []
        self.loop = asyncio.get_running_loop()
        self._is_closed = False
        self._unfinished = 0
        _pools.add(self)
        self.stuck = 0
        """How many calls were given up and have not returned yet."""

    async def call(self, work: Callable[[], Any]) -> Any:
        """Return what ``work`` returns; raises TimeoutError, or PenstockError while too many calls hang."""
        if self.stuck >= MAX_STUCK_CALLS:
            raise PenstockError(f"{self._name}: {self.stuck} calls have not returned and still hold their threads")
        calls = self._idle.pop() if self._idle else self._start()
        done: asyncio.Future[Any] = self.loop.create_future()
        calls.put((done, work))
        self._unfinished += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await done
        finally:
            if done.cancelled():
                self.stuck += 1

    @property
    def is_at_work(self) -> bool:
        """Whether a call has not returned yet."""
        return self._unfinished > 0

    def close(self) -> None:
        """End the threads that are idle, and the others once they return."""
        self._is_closed = True
        for calls in self._idle:
            calls.put(None)
        self._idle.clear()

    def _start(self) -> SimpleQueue[_Call | None]:
        calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=self._work, args=(calls,), name=self._name, daemon=True).start()
        return calls

    def _work(self, calls: SimpleQueue[_Call | None]) -> None:
        while (waiting := calls.get()) is not None:
            done, work = waiting
            result, error = _outcome(work)
            try:
                self.loop.call_soon_threadsafe(self._finish, calls, done, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more, and nobody will end this thread
                return
            del waiting, work, done, result, error

    def _finish(
        self, calls: SimpleQueue[_Call | None], done: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        self._unfinished -= 1
        if done.cancelled():
            self.stuck -= 1
        _settle(done, result, error)
        if self._is_closed:
            calls.put(None)
        else:
            self._idle.append(calls)


def _outcome(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:
        return None, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
