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
from ..acceptance import Accepted, unpack
from ..raw import Raw
from .division import divide
from .slices import Part, pack

logger = logging.getLogger(__name__)
_QUEUE_SIZE = 64


class HealthParts(Buffer, type="health_parts"):
    """Read the raw bodies of accepted health exports, and cut them into parts that are processed one by one.

    Rows that say what was accepted come in; out go parts of some thousand elements or about 2 MB, made as they are
    taken, so that a body of any size takes little memory. The same body has the same parts each time. What was
    accepted is settled once all its parts are.

    A body is looked at as a whole first. One that cannot be read makes one part, which says why.

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
        """As many as wait, the one that is cut, and the one that ``put`` has in hand."""
        return _QUEUE_SIZE + 2


class _Cutting:
    """A delivery that is being cut: which of its bodies, and what of that has come out."""

    def __init__(self, delivery: Delivery, accepted: list[Accepted], divided: Callable[[Accepted], Iterator[Part]]):
        self.delivery = delivery
        self._waiting = deque(accepted)
        self._divided = divided
        self._parts: Iterator[Part] | None = None
        self._number = 0

    def next(self) -> tuple[Batch, bool]:
        """Return the next part, and whether it is the last of the delivery; blocks."""
        accepted = self._waiting[0]
        try:
            if self._parts is None:  # at first, or again after it could not be read: the parts are the same
                self._parts = self._divided(accepted)
                for _ in range(self._number):
                    next(self._parts)
            part = next(self._parts)
        except (TransientError, ConnectionLost):
            self._parts = None
            raise
        except Exception as error:  # a defect of ours must not stop what is behind this body
            logger.exception("ingest %s could not be cut", accepted.id)
            reason = f"could not be cut: {type(error).__name__}: {error}"
            part = Part(accepted=accepted, number=self._number, last=True, error=reason)
        self._number += 1
        if part.last:
            self.close()
            self._waiting.popleft()
            self._number = 0
        return pack(part), not self._waiting

    def close(self) -> None:
        """Close what is open."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()  # type: ignore[attr-defined]


class _Parts:
    """The live buffer."""

    def __init__(self, open: Callable[[str], BinaryIO], limit: int) -> None:
        self._open, self._limit = open, limit
        self._waiting: deque[Delivery] = deque()
        self._cutting: _Cutting | None = None
        self._coming: asyncio.Future[tuple[Batch, bool]] | None = None
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, delivery: Delivery) -> None:
        """Take what was accepted; waits while much is waiting already."""
        while len(self._waiting) >= _QUEUE_SIZE and not self._ended:
            self._room.clear()
            await self._room.wait()
        self._waiting.append(delivery)
        self._changed.set()

    def end(self) -> None:
        """Nothing more will be put."""
        self._ended = True
        self._changed.set()
        self._room.set()

    async def get(self) -> Delivery:
        """Return the next part; raises EndOfInput once ended and empty, TransientError if a body cannot be read now."""
        while self._cutting is None:
            following = await self._following()
            if isinstance(following, Delivery):
                return following
            self._cutting = following
        cutting = self._cutting
        if self._coming is None:
            self._coming = asyncio.ensure_future(asyncio.to_thread(cutting.next))
        await asyncio.wait({self._coming})  # cancelled here, it goes on, and the next call returns it
        coming, self._coming = self._coming, None
        batch, last = coming.result()
        if last:
            self._cutting = None
        else:
            for loan in cutting.delivery.loans:
                loan.shares += 1
        return cutting.delivery.with_batch(batch)

    async def _following(self) -> _Cutting | Delivery | None:
        """Take the next delivery; one that cannot be read goes on as refused."""
        while not self._waiting:
            if self._ended:
                raise EndOfInput
            self._changed.clear()
            await self._changed.wait()
        delivery = self._waiting[0]
        try:
            accepted = unpack(delivery.batch)
        except (msgspec.MsgspecError, KeyError) as error:
            self._take()
            refusal = PermanentError(f"expected what was accepted, got a row that cannot be read: {error}")
            return Delivery(delivery.batch, delivery.loans, delivery.origin, error=refusal)
        self._take()
        if not accepted:
            await delivery.ack()
            return None
        return _Cutting(delivery, accepted, self._divided)

    def _take(self) -> None:
        self._waiting.popleft()
        self._room.set()

    def _divided(self, accepted: Accepted) -> Iterator[Part]:
        return divide(accepted, lambda: self._open(accepted.raw), self._limit)

    async def close(self) -> None:
        """Let a part that is being cut come to its end, and close its body; what was not handed out stays unsettled."""
        if self._coming is not None:
            await asyncio.wait({self._coming})
            self._coming.exception()
        if self._cutting is not None:
            await asyncio.to_thread(self._cutting.close)
