"""Threads for calls that may never return: a stuck one is left behind and replaced."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

from ..errors import PenstockError

MOST_STUCK = 8
_Job: TypeAlias = tuple[Callable[[], Any], "asyncio.Future[Any]"]
_Jobs: TypeAlias = "SimpleQueue[_Job | None]"


class Workers:
    """Calls functions in threads, at most for ``timeout`` seconds. To be used from one event loop.

    A daemon thread does not keep the process from exiting, so that a stuck call cannot either.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self._name, self._timeout = name, timeout
        self._idle: list[_Jobs] = []
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.stuck = 0

    async def call(self, work: Callable[[], Any]) -> Any:
        """Return what ``work`` returns; raises TimeoutError, or PenstockError when too many calls never returned."""
        if self.stuck >= MOST_STUCK:
            raise PenstockError(f"{self._name}: {self.stuck} calls have not returned and still hold their threads")
        jobs = self._idle.pop() if self._idle else self._start()
        done: asyncio.Future[Any] = self._loop.create_future()
        jobs.put((work, done))
        try:
            async with asyncio.timeout(self._timeout):
                return await done
        finally:
            if done.cancelled():
                self.stuck += 1

    def close(self) -> None:
        """End the threads that are idle, and the others once they return."""
        self._closed = True
        for jobs in self._idle:
            jobs.put(None)
        self._idle.clear()

    def _start(self) -> _Jobs:
        jobs: _Jobs = SimpleQueue()
        threading.Thread(target=self._work, args=(jobs,), name=self._name, daemon=True).start()
        return jobs

    def _work(self, jobs: _Jobs) -> None:
        while (job := jobs.get()) is not None:
            work, done = job
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:
                error = raised
            try:
                self._loop.call_soon_threadsafe(self._finish, jobs, done, result, error)
            except RuntimeError:  # the loop is closed: nobody waits any more, and nobody will end this thread
                return
            del job, work, done, result, error

    def _finish(self, jobs: _Jobs, done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        if done.cancelled():
            self.stuck -= 1
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)
        if self._closed:
            jobs.put(None)
        else:
            self._idle.append(jobs)
