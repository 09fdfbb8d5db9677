"""A body that is arriving: hashed and written in threads while more of it comes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec

from ...clients.disk import write_all
from ...errors import PenstockError
from .bucket import Bucket
from .folder import Folder, Spool, classifying

if TYPE_CHECKING:
    from . import Receipt

BLOCK_SIZE = 1 << 20
"""How many bytes are hashed and written at once, in a thread, while the next ones arrive."""
SYNC_SIZE = 8 << 20
"""After how many bytes the disk is told to begin, so that the last flush of a large body is short."""

R = TypeVar("R", bound="Receipt")
Place: TypeAlias = Folder | Bucket
"""Where bodies and receipts are kept."""


class Reception(Generic[R]):
    """A body that is arriving. What is not kept leaves nothing behind."""

    def __init__(self, identifier: str, spool: Spool, place: Place, discard: Callable[[str], None]) -> None:
        self._id, self._spool, self._place, self._remove = identifier, spool, place, discard
        self._hash = hashlib.sha256()
        self._file: int | None = None
        self._waiting: list[bytes] = []
        self._held = self._unsynced = 0
        self._running: asyncio.Future[None] | None = None
        self._is_moving = self._is_kept = False
        self.bytes = 0
        """How many bytes have come."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises TransientError if the disk is full."""
        self._waiting.append(chunk)
        self._held += len(chunk)
        self.bytes += len(chunk)
        if self._held >= BLOCK_SIZE:
            await self._settle()
            chunks, self._waiting, self._held = self._waiting, [], 0
            self._start(lambda: self._write(chunks))

    async def keep(self, receipt: R) -> R:
        """Make the body durable and return ``receipt`` with where it is, its size and its hash.

        Raises TransientError if that is not possible now; then nothing is kept.
        """
        await self._settle()
        kept: list[R] = []
        self._start(lambda: kept.append(self._finish(receipt)))
        await self._settle()
        self._is_kept = True
        return kept[0]

    async def close(self) -> None:
        """Remove what was not kept. A thread that is writing is waited for, even if we are cancelled."""
        if not self._is_kept:
            await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        if self._running is not None:
            await asyncio.wait([self._running])
            self._running.exception()  # whoever awaited it was told, or is gone
        await asyncio.to_thread(self._discard)

    def _start(self, work: Callable[[], object]) -> None:
        async def run() -> None:
            await asyncio.to_thread(work)

        self._running = asyncio.ensure_future(run())

    async def _settle(self) -> None:
        if self._running is not None:
            await asyncio.shield(self._running)
            self._running = None

    def _write(self, chunks: list[bytes]) -> None:
        with classifying("keep a raw body"):
            if self._file is None:
                self._file = self._spool.open(self._id)
            for chunk in chunks:
                self._hash.update(chunk)
                write_all(self._file, memoryview(chunk))
                self._unsynced += len(chunk)
            if self._unsynced >= SYNC_SIZE:
                os.fdatasync(self._file)
                self._unsynced = 0

    def _finish(self, receipt: R) -> R:
        self._write(self._waiting)
        with classifying("keep a raw body"):
            file, self._file = self._file, None
            assert file is not None
            try:
                os.fsync(file)
            finally:
                os.close(file)
        digest, location = self._hash.hexdigest(), self._place.location(self._id)
        kept = msgspec.structs.replace(receipt, id=self._id, raw=location, bytes=self.bytes, sha256=digest)
        self._is_moving = True
        self._spool.mark(self._id)  # By it a later start finds what a process that dies here leaves behind.
        self._place.keep(self._spool.path(self._id), self._id)
        self._place.write(self._id, msgspec.json.encode(kept))
        return kept

    def _discard(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._spool.remove(self._id)
        if self._is_moving:
            with suppress(PenstockError):  # What cannot be removed now is marked, and removed by a later start.
                self._remove(self._id)
