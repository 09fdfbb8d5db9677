"""Remember values for a time, and make each of them once however many ask at the same moment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Generic, ParamSpec, TypeVar, cast

from ..clock import Clock
from ..errors import TransientError

K = TypeVar("K")
V = TypeVar("V")
P = ParamSpec("P")


def memoize(size: int) -> Callable[[Callable[P, V]], Callable[P, V]]:
    """Remember the ``size`` latest results of a function that depends on its arguments alone, for all threads."""
    return cast(Callable[[Callable[P, V]], Callable[P, V]], lru_cache(size))


class Cache(Generic[K, V]):
    """Keep at most ``size`` values for ``ttl`` seconds each; those used longest ago make room for others."""

    def __init__(self, *, ttl: float, size: int, clock: Clock | None = None) -> None:
        self._ttl, self._size, self._clock = ttl, size, clock or Clock()
        self._values: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Return the value of ``key``, or None if there is none that is still valid."""
        found = self._values.get(key)
        if found is None:
            return None
        if found[1] <= self._clock.monotonic():
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V) -> None:
        """Keep ``value`` from now on."""
        self._values[key] = (value, self._clock.monotonic() + self._ttl)
        self._values.move_to_end(key)
        while len(self._values) > self._size:
            self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget the value of ``key``."""
        self._values.pop(key, None)

    def __len__(self) -> int:
        return len(self._values)


class SingleFlight(Generic[K, V]):
    """Run one call for each key at a time: whoever asks meanwhile waits for its result.

    A caller that gives up does not end the call. At most ``size`` calls run at once.
    """

    def __init__(self, *, size: int = 1024) -> None:
        self._size = size
        self._calls: dict[K, asyncio.Future[V]] = {}

    async def run(self, key: K, call: Callable[[], Awaitable[V]]) -> V:
        """Return the result of the running call for ``key``, or of ``call``; raises TransientError if too many run."""
        return await asyncio.shield(self.start(key, call))

    def start(self, key: K, call: Callable[[], Awaitable[V]]) -> asyncio.Future[V]:
        """Return the call that runs for ``key``, or begin ``call``; raises TransientError if too many run."""
        running = self._calls.get(key)
        if running is None or running.done():
            if running is None and len(self._calls) >= self._size:
                raise TransientError("too many ask at once; try again")
            running = self._calls[key] = asyncio.ensure_future(call())
            running.add_done_callback(lambda done: self._done(key, done))
        return running

    async def close(self) -> None:
        """Wait for the calls that run."""
        await asyncio.gather(*self._calls.values(), return_exceptions=True)

    def _done(self, key: K, call: asyncio.Future[V]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]
        if not call.cancelled():
            call.exception()  # Whoever waited may have gone.
