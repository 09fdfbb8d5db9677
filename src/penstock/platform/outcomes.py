"""Tell the request that brought something what became of it in the stream behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from ..context import Context
from ..identifiers import new_id

T = TypeVar("T")


class Outcomes(Generic[T]):
    """What is under way between the routes of an application and the output of its stream, by id and by user.

    The routes begin it, wait for its outcome, and end it if it never comes to the stream; the output settles it.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[T]]] = {}
        self._loop = asyncio.get_running_loop()
        self._underway: dict[str, int] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, context: Context, name: str) -> Outcomes[T]:
        """Return those called ``name`` of the engine that lends ``context``: its routes and its outputs share them."""
        return context.shared.get((cls, name), cls)

    def begin(self, user: int, identifier: str | None = None) -> str:
        """Note that something of ``user`` is under way, new if it is not named, and return its id.

        Whoever gets a greater id, gets it after this one is noted. From any thread.
        """
        with self._lock:
            begun = identifier or new_id()
            self._underway[begun] = user
            return begun

    def end(self, identifier: str) -> None:
        """Note that something is stored, or never will be. From any thread."""
        with self._lock:
            self._underway.pop(identifier, None)

    def before(self, user: int, identifier: str) -> str | None:
        """Return the greatest earlier id of ``user`` that is under way. From any thread."""
        with self._lock:
            earlier = (one for one, owner in self._underway.items() if owner == user and one < identifier)
            return max(earlier, default=None)

    @contextmanager
    def expect(self, identifier: str) -> Iterator[Expected[T]]:
        """Yield the outcome to come; what is settled before is not told."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.setdefault(identifier, []).append(future)
        try:
            yield Expected(future)
        finally:
            future.cancel()
            self._waiting[identifier].remove(future)
            if not self._waiting[identifier]:
                del self._waiting[identifier]

    def settle(self, identifier: str, outcome: T) -> None:
        """Tell all who wait, from any thread; it is under way no more."""
        self.end(identifier)
        self._loop.call_soon_threadsafe(self._settle, identifier, outcome)

    def _settle(self, identifier: str, outcome: T) -> None:
        for future in self._waiting.get(identifier, ()):
            if not future.done():
                future.set_result(outcome)


class Expected(Generic[T]):
    """An outcome to come."""

    def __init__(self, future: asyncio.Future[T]) -> None:
        self._future = future

    async def wait(self, timeout: float) -> T | None:
        """Return the outcome, or None if it does not come within ``timeout`` seconds.

        Whoever does not want to wait is told None however fast it was.
        """
        if timeout <= 0:
            return None
        await asyncio.wait([self._future], timeout=timeout)
        return self._future.result() if self._future.done() else None
