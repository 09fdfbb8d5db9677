"""Threads for one event loop, made for many short calls; they do not keep the process from exiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

_GATHERED = 8
"""How many results of short calls are handed over at once while there is more to do."""
_SHORT = 0.001
"""How long a call may take to be short, in seconds."""

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """Runs calls in at most ``count`` threads, started as they are needed, and hands results over to the loop.

    Results that are there at the same moment wake the loop once. A call may never return: the threads are daemons.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._finished: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._started = self._unfinished = 0
        self._woken = False

    def run(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        """Queue a call and return its result to come."""
        future: asyncio.Future[R] = self._loop.create_future()
        self._unfinished += 1
        self._calls.put((future, lambda: call(*args, **kwargs)))
        if self._started < min(self._count, self._unfinished):
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._name}_{self._started}", daemon=True).start()
        return future

    def shutdown(self) -> None:
        """End the threads once they are idle; never waits. What is queued and was not cancelled runs first."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            result, error, began = None, None, time.perf_counter()
            if not future.cancelled():
                try:
                    result = call()
                except BaseException as raised:
                    error = raised
            self._finished.append((future, result, error))
            del waiting, future, call, result, error
            if self._woken:
                continue  # the loop was told, and has not begun to look
            if len(self._finished) < _GATHERED and not self._calls.empty() and time.perf_counter() - began < _SHORT:
                continue  # more is done in a moment
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._hand_over)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _hand_over(self) -> None:
        self._woken = False
        while self._finished:
            future, result, error = self._finished.popleft()
            self._unfinished -= 1
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
