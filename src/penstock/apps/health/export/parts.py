"""Take accepted bodies and hand out their parts: the buffer of the health stream."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
from pydantic import Field

from ....component import Buffer, Queue
from ....context import Context
from ....delivery import Batch, Delivery
from ....errors import ConnectionLost, EndOfInput, PermanentError, TransientError
from ....runtime.threads import Threads
from ..acceptance import Accepted, unpack
from ..raw import Raw
from .division import divide
from .slices import Part, pack
from .turns import LANES, Turns

MAX_OPEN = sum(most for _, most in LANES)
logger = logging.getLogger(__name__)
_QUEUE_SIZE = 4096
"""How many bodies wait at most. Of each only what was accepted is in memory."""
_INFLATED = 20
"""How many times as large a compressed body is taken to be, until it is known."""


class HealthParts(Buffer, type="health_parts"):
    """Read the raw bodies of accepted health exports, and cut them into parts that are processed one by one.

    Rows that say what was accepted come in; out go parts of some thousand elements or about 2 MB, made as they are
    taken, so that a body of any size takes little memory. The same body has the same parts each time. What was
    accepted is settled once all its parts are.

    A body is looked at as a whole first. One that cannot be read makes one part, which says why. Users take turns,
    and so do the small and the large bodies of a user: no body waits until all of another is stored.

    Example::

        type: health_parts
        path: penstock-data/health/raw
    """

    path: Path = Path("penstock-data/health/raw")
    """The folder of the raw bodies."""
    url: str | None = None
    """Where the raw bodies are kept, if not in the folder: the URL of an object store."""
    max_body_bytes: int = Field(200_000_000, gt=0)
    """How many bytes a body may have once it is decompressed."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Queue]:
        """Yield an empty queue."""
        raw = Raw(self.path, self.url)
        queue = _Parts(raw.open, self.max_body_bytes)
        try:
            yield queue
        finally:
            await queue.close()

    def most_held(self) -> int | None:
        """Count as many as wait, those that are cut, and the one that ``put`` has in hand."""
        return _QUEUE_SIZE + MAX_OPEN + 1


class _Body:
    """An accepted body that is cut: what of it has come out, and the part that is being cut."""

    def __init__(self, accepted: Accepted, delivery: Delivery, divided: Callable[[Accepted], Iterator[Part]]) -> None:
        self._accepted, self.delivery, self._divided = accepted, delivery, divided
        self._parts: Iterator[Part] | None = None
        self._number = self._handed_out = 0
        self.coming: asyncio.Future[tuple[Batch, bool]] | None = None

    @property
    def user(self) -> int:
        """Whose it is."""
        return self._accepted.user

    @property
    def size(self) -> int:
        """How large it is, as far as that is known."""
        inflated = self._accepted.bytes * (_INFLATED if self._accepted.content_encoding else 1)
        return max(inflated, self._handed_out)

    @property
    def is_begun(self) -> bool:
        """Whether it was looked at as a whole, or that is going on."""
        return self._number > 0 or self.coming is not None

    @property
    def is_ready(self) -> bool:
        """Whether a part can be had at once, or as soon as it is cut."""
        return self.coming.done() if self.coming is not None else self._number > 0

    def next(self) -> tuple[Batch, bool]:
        """Return the next part, and whether it is the last; blocks."""
        try:
            if self._parts is None:  # at first, or again after it was closed: the parts are the same
                self._parts = self._divided(self._accepted)
                for _ in range(self._number):
                    next(self._parts)
            part = next(self._parts)
        except (TransientError, ConnectionLost):
            self._parts = None
            raise
        except Exception as error:  # a defect of ours must not stop what is behind this body
            logger.exception("ingest %s could not be cut", self._accepted.id)
            reason = f"could not be cut: {type(error).__name__}: {error}"
            part = Part(accepted=self._accepted, number=self._number, last=True, error=reason)
        self._number += 1
        self._handed_out += sum(len(slice.payload) for slice in part.slices)
        if part.last:
            self.close()
        return pack(part), part.last

    def close(self) -> None:
        """Close what is open; the next part can be had all the same."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()  # type: ignore[attr-defined]


class _Parts:
    """The live buffer."""

    def __init__(self, open: Callable[[str], BinaryIO], limit: int) -> None:
        self._open, self._limit = open, limit
        self._turns: Turns[_Body] = Turns()
        self._refused: deque[Delivery] = deque()
        self._chosen: _Body | None = None
        self._threads = Threads(MAX_OPEN, "health-parts")
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, delivery: Delivery) -> None:
        """Take what was accepted; waits while much is waiting already. What cannot be read goes on as refused."""
        while self._turns.waiting + len(self._refused) >= _QUEUE_SIZE and not self._ended:
            self._room.clear()
            await self._room.wait()
        try:
            found = unpack(delivery.batch)
        except (msgspec.MsgspecError, KeyError) as error:
            refusal = PermanentError(f"expected what was accepted, got a row that cannot be read: {error}")
            self._refused.append(Delivery(delivery.batch, delivery.loans, delivery.origin, error=refusal))
            found = []
        else:
            if not found:
                await delivery.ack()
        self._share(delivery, len(found) - 1)
        for accepted in found:
            self._turns.add(_Body(accepted, delivery, self._divided))
        self._changed.set()

    def _share(self, delivery: Delivery, more: int) -> None:
        for loan in delivery.loans:
            loan.shares += max(more, 0)

    def end(self) -> None:
        """Say that nothing more will be put."""
        self._ended = True
        self._changed.set()
        self._room.set()

    async def get(self) -> Delivery:
        """Return the next part; raises EndOfInput once ended and empty, TransientError if a body cannot be read now."""
        while not self._refused:
            self._begin()
            if self._chosen is None:
                self._chosen = self._turns.next(lambda body: body.is_ready)
            if self._chosen is not None:
                return await self._part(self._chosen)
            if self._ended and not self._turns:
                raise EndOfInput
            await self._change()
        self._room.set()
        return self._refused.popleft()

    def _begin(self) -> None:
        """Begin with the bodies that may be open."""
        for body in self._turns.open():
            if not body.is_begun:
                self._cut(body)
        self._room.set()

    def _cut(self, body: _Body) -> asyncio.Future[tuple[Batch, bool]]:
        body.coming = self._threads.run(body.next)
        body.coming.add_done_callback(lambda _: self._changed.set())
        return body.coming

    async def _change(self) -> None:
        """Wait until something was put, or a body was looked at."""
        self._changed.clear()
        await self._changed.wait()

    async def _part(self, body: _Body) -> Delivery:
        coming = body.coming or self._cut(body)
        await asyncio.wait({coming})  # cancelled here, it goes on, and the next call returns it
        body.coming = self._chosen = None
        batch, last = coming.result()
        if last:
            self._turns.finish(body)
        else:
            self._share(body.delivery, 1)
            if not self._turns.serve(body):
                body.close()
        return body.delivery.with_batch(batch)

    def _divided(self, accepted: Accepted) -> Iterator[Part]:
        return divide(accepted, lambda: self._open(accepted.raw), self._limit)

    async def close(self) -> None:
        """Let what is being cut come to its end, and close it; what was not handed out stays unsettled."""
        bodies = list(self._turns.open())
        coming = [body.coming for body in bodies if body.coming is not None]
        if coming:
            await asyncio.wait(coming)
        for body in bodies:
            if body.coming is not None:
                body.coming.exception()
            await asyncio.to_thread(body.close)
        self._threads.shutdown()
