"""Take accepted bodies and hand out their parts: the buffer of the health stream."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from pydantic import Field

from ....component import Buffer, Queue
from ....context import Context
from ....delivery import Batch, Delivery
from ....errors import ConnectionLost, PermanentError, TransientError
from ....platform.division import Divided, DividingQueue
from ....platform.turns import MAX_OPEN, Turns
from ..acceptance import Accepted, unpack
from ..raw import Raw
from .division import divide
from .slices import Part, pack

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

        def unpack_bodies(delivery: Delivery) -> list[_Body]:
            try:
                return [_Body(accepted, delivery, cut) for accepted in unpack(delivery.batch)]
            except (msgspec.MsgspecError, KeyError) as error:
                raise PermanentError(f"expected what was accepted, got a row that cannot be read: {error}") from error

        def cut(accepted: Accepted) -> Iterator[Part]:
            return divide(accepted, lambda: raw.open(accepted.raw), self.max_body_bytes)

        queue = DividingQueue("health-parts", unpack_bodies, Turns[_Body](), size=_QUEUE_SIZE)
        try:
            yield queue
        finally:
            await queue.close()

    def most_held(self) -> int | None:
        """Count as many as wait, those that are cut, and the one that ``put`` has in hand."""
        return _QUEUE_SIZE + MAX_OPEN + 1


class _Body(Divided):
    """An accepted body that is cut: what of it has come out, and the part that is being cut."""

    def __init__(self, accepted: Accepted, delivery: Delivery, divided: Callable[[Accepted], Iterator[Part]]) -> None:
        super().__init__(delivery)
        self._accepted, self._divided = accepted, divided
        self._parts: Iterator[Part] | None = None
        self._number = self._handed_out = 0

    @property
    def user(self) -> int:
        """Whose it is."""
        return self._accepted.user

    @property
    def size(self) -> int:
        """How large it is, as far as that is known."""
        inflated = self._accepted.bytes * (_INFLATED if self._accepted.content_encoding else 1)
        return max(inflated, self._handed_out)

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
