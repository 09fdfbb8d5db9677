"""Divide what deliveries name into parts, in threads, and hand them out in turn."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..delivery import Batch, Delivery
from ..errors import EndOfInput, PermanentError
from ..runtime.threads import Threads
from .turns import Turns


class Divided(ABC):
    """Something of a delivery that is divided: the delivery is settled once all its parts are."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.coming: asyncio.Future[tuple[Batch, bool]] | None = None
        """The part that is being made."""
        self.is_known = False
        """Whether a part of it has come, so that others come without looking at all of it first."""

    @property
    @abstractmethod
    def user(self) -> int:
        """Whose it is."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many bytes it has, as far as that is known; it may grow while it is divided."""

    @abstractmethod
    def next(self) -> tuple[Batch, bool]:
        """Return the next part, and whether it is the last; blocks. After TransientError the same part is asked for."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open; the next part can be had all the same."""

    @property
    def is_ready(self) -> bool:
        """Whether a part can be had at once, or as soon as it is made."""
        return self.coming.done() if self.coming is not None else self.is_known


D = TypeVar("D", bound=Divided)


class DividingQueue(Generic[D]):
    """The live buffer: what it takes waits its turn, and a part is made when it is asked for.

    ``unpack`` returns what a delivery names, or raises PermanentError for one that cannot be read. At most ``size``
    wait, and as many are divided at once as ``turns`` may open.
    """

    def __init__(self, name: str, unpack: Callable[[Delivery], Sequence[D]], turns: Turns[D], *, size: int) -> None:
        self._unpack, self._turns, self._size = unpack, turns, size
        self._refused: deque[Delivery] = deque()
        self._chosen: D | None = None
        self._threads = Threads(turns.max_open, name)
        self._is_ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, delivery: Delivery) -> None:
        """Take a delivery; waits while much is waiting already. What cannot be read goes on as refused."""
        while self._turns.waiting + len(self._refused) >= self._size and not self._is_ended:
            self._room.clear()
            await self._room.wait()
        try:
            found = self._unpack(delivery)
        except PermanentError as refusal:
            self._refused.append(Delivery(delivery.batch, delivery.loans, delivery.origin, error=refusal))
        else:
            if not found:
                await delivery.ack()
            self._share(delivery, len(found) - 1)
            for one in found:
                self._turns.add(one)
        self._changed.set()

    def end(self) -> None:
        """Note that nothing more will be put."""
        self._is_ended = True
        self._changed.set()
        self._room.set()

    async def get(self) -> Delivery:
        """Return the next part; raises EndOfInput once ended and empty, TransientError if it cannot be made now."""
        while not self._refused:
            self._begin()
            if self._chosen is None:
                self._chosen = self._turns.next(lambda one: one.is_ready)
            if self._chosen is not None:
                return await self._part(self._chosen)
            if self._is_ended and not self._turns:
                raise EndOfInput
            self._changed.clear()
            await self._changed.wait()  # until something was put, or looked at
        self._room.set()
        return self._refused.popleft()

    def _share(self, delivery: Delivery, more: int) -> None:
        for loan in delivery.loans:
            loan.shares += max(more, 0)

    def _begin(self) -> None:
        """Begin with those that may be open."""
        for one in self._turns.open():
            if not one.is_known and one.coming is None:
                self._make(one)
        self._room.set()

    def _make(self, one: D) -> asyncio.Future[tuple[Batch, bool]]:
        one.coming = self._threads.run(one.next)
        one.coming.add_done_callback(lambda _: self._changed.set())
        return one.coming

    async def _part(self, one: D) -> Delivery:
        coming = one.coming or self._make(one)
        await asyncio.wait({coming})  # cancelled here, it goes on, and the next call returns it
        one.coming = self._chosen = None
        batch, is_last = coming.result()
        one.is_known = True
        if is_last:
            self._turns.finish(one)
        else:
            self._share(one.delivery, 1)
            if not self._turns.serve(one):
                one.close()
        return one.delivery.with_batch(batch)

    async def close(self) -> None:
        """Let what is being made come to its end, and close it; what was not handed out stays unsettled."""
        opened = list(self._turns.open())
        coming = [one.coming for one in opened if one.coming is not None]
        if coming:
            await asyncio.wait(coming)
        for one in opened:
            if one.coming is not None:
                one.coming.exception()
            await asyncio.to_thread(one.close)
        self._threads.shutdown()
