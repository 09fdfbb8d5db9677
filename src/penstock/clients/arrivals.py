"""Messages that come one by one, are read many at once, and confirmed to their broker once they are durable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from ..checkpoint import Checkpoint

T = TypeVar("T")


class Arrivals(Generic[T]):
    """What has arrived and is not read yet; taken as many at once as came within ``linger`` seconds."""

    def __init__(self, rows: int, linger: float) -> None:
        """``rows`` is the most that is taken at once."""
        self._rows, self._linger = rows, linger
        self._waiting: deque[T] = deque()
        self._first, self._enough, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[T]:
        return iter(self._waiting)

    def put(self, message: T) -> None:
        """Take a message, however many wait."""
        self._waiting.append(message)
        count = len(self._waiting)
        if count == 1:
            self._first.set()
        if count >= self._rows:
            self._enough.set()

    async def put_patiently(self, message: T) -> None:
        """Take a message once no more wait than are taken at once."""
        while len(self._waiting) >= self._rows:
            self._room.clear()
            await self._room.wait()
        self.put(message)

    def fail(self, error: Exception) -> None:
        """Let ``take`` raise ``error`` once nothing waits any more; the first error is the one."""
        self._failure = self._failure or error
        self._first.set()
        self._enough.set()

    async def take(self) -> list[T]:
        """Wait for messages and return those that wait; raises what it was failed with. Cancelling it loses nothing."""
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            self._first.clear()
            await self._first.wait()
        if len(self._waiting) < self._rows and self._failure is None and self._linger:
            self._enough.clear()
            try:
                async with asyncio.timeout(self._linger):
                    await self._enough.wait()
            except TimeoutError:
                pass
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._rows))]
        self._room.set()
        return taken


class Receipts(Generic[T]):
    """What the broker is to be told once deliveries are settled: in their order, and whatever connection they came by.

    They belong to a checkpoint, so that a connection that is opened again confirms what the one before has delivered.
    """

    _of: WeakKeyDictionary[Checkpoint, Receipts[T]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._lent = 0
        self._pending: deque[tuple[int, list[T]]] = deque()
        self.told: dict[int, T] = {}
        """What the broker was told and has not said that it knows, where it says so, by its packet id."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Receipts[T]:
        """Return the receipts of what a checkpoint follows."""
        return cls._of.setdefault(checkpoint, cls())

    @property
    def next_number(self) -> int:
        """The number of the next delivery, which is its position."""
        return self._lent + 1

    def add(self, receipts: list[T]) -> None:
        """Keep the receipts of the delivery that was just lent; not before, or what nobody got would be confirmed."""
        self._lent += 1
        self._pending.append((self._lent, receipts))

    def through(self, number: int) -> Iterator[T]:
        """Return the receipts of all deliveries up to ``number``."""
        for each, receipts in self._pending:
            if each > number:
                return
            yield from receipts

    def forget(self, number: int) -> None:
        """Drop the receipts of all deliveries up to ``number``: the broker has been told."""
        while self._pending and self._pending[0][0] <= number:
            self._pending.popleft()

    def drop(self, receipt: T) -> None:
        """Drop one receipt: what it stood for is no more."""
        for _, receipts in self._pending:
            if receipt in receipts:
                receipts.remove(receipt)

    def clear(self) -> None:
        """Drop all receipts: the broker knows nothing of them any more, and delivers again."""
        self._pending.clear()

    def __iter__(self) -> Iterator[T]:
        for _, receipts in self._pending:
            yield from receipts


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Divide ``values`` into lists of at most ``size``."""
    part: list[T] = []
    for value in values:
        part.append(value)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
