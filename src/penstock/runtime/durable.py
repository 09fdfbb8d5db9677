"""An input made durable: what is read is in the write-ahead log before it is acked, and goes on from there."""

from __future__ import annotations

import asyncio
import time

from ..delivery import Delivery
from ..errors import EndOfInput, PermanentError, TransientError
from ..metadata import attach
from .section import Section
from .transform import Transformed
from .wal import Wal


class DurableInput:
    """Keeps deliveries in the log on one side, and forwards what is in it on the other."""

    def __init__(self, wal: Wal, decoding: Section, first: Section, last: Section, max_in_flight: int) -> None:
        """``decoding`` makes rows of what the log cannot hold; from ``last`` rows are refused."""
        self.wal, self._decoding, self._first, self._last = wal, decoding, first, last
        self._adds_metadata = decoding.transformation.adds_metadata
        self._max_in_flight = max_in_flight
        self._keeping = asyncio.Semaphore(max_in_flight)

    async def keep(self, group: asyncio.TaskGroup, delivery: Delivery) -> None:
        """Hand a delivery to the log, and ack it once it is on disk; waits while too many are on their way there."""
        if delivery.decoder is not None or delivery.error is not None:
            for part in await self._decode(delivery):
                await self.keep(group, part)
            return
        if delivery.origin is not None and self._adds_metadata:
            delivery = delivery.with_batch(attach(delivery.batch, delivery.origin))
        await self._keeping.acquire()
        group.create_task(self._append(delivery))

    async def _append(self, delivery: Delivery) -> None:
        try:
            await self.wal.append(delivery.batch)
        except (TransientError, PermanentError) as error:
            await delivery.nack(error)
        else:
            await delivery.ack()
        finally:
            self._keeping.release()

    async def _decode(self, delivery: Delivery) -> list[Delivery]:
        """Decode what only its delivery says how to decode, so that the log can be read without it; refuse the rest."""
        done = await self._decoding.transform(Transformed(delivery, read_at=time.perf_counter()))
        if done.error is not None:
            await delivery.nack(done.error)
            raise done.error
        batches = [piece.batch for piece in done.pieces]
        if not batches and not done.refusals:
            await delivery.ack()
            return []
        parts = delivery.split([*batches, *([delivery.batch] if done.refusals else [])])
        if done.refusals:
            whole = Delivery(delivery.batch, parts.pop().loans, delivery.origin)
            await self._last.put(Transformed(whole, [], done.refusals, read_at=done.read_at))
        for part in parts:
            part.origin = None if self._adds_metadata else part.origin
        return parts

    async def end(self) -> None:
        """End the log, once all that was handed to it is on disk."""
        for _ in range(self._max_in_flight):
            await self._keeping.acquire()
        self.wal.end()

    async def forward(self, group: asyncio.TaskGroup) -> None:
        """Forward what is in the log to the first section, until the log ends."""
        try:
            while True:
                await self._first.forward(group, await self.wal.read())
        except EndOfInput:
            await self._first.end()
