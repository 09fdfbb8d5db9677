"""A reader that fetches one batch ahead, and acks what is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, Protocol, TypeAlias

from pydantic import SecretStr

from ...checkpoint import Checkpoint
from ...clients.arrivals import Receipts
from ...clients.redis import classify_error
from ...context import Context
from ...delivery import Batch, Delivery, Position
from ...errors import ConnectionLost
from ...metadata import Origin

CLOSE_TIMEOUT = 2.0
"""Seconds that closing waits for an ack that is on its way."""

Receipt: TypeAlias = tuple[str, bytes]
"""The key that was read, and what tells the element of it."""


class Fetched(NamedTuple):
    """Rows that were read, and what acks each."""

    batch: Batch
    origin: Origin
    receipts: list[Receipt]


class Source(Protocol):
    """What is read and acked over one connection."""

    async def begin(self, held: Sequence[Receipt], *, is_first: bool) -> None:
        """Get ready, knowing what was delivered in this run and is not acked; ``is_first`` in a run."""
        ...

    async def fetch(self) -> Fetched:
        """Wait for rows."""
        ...

    async def ack(self, receipts: Sequence[Receipt]) -> None:
        """Ack rows; to do it again does nothing."""
        ...

    async def renew(self, receipts: Sequence[Receipt]) -> None:
        """Show that these are worked on."""
        ...

    def renew_interval(self) -> float:
        """Return how often to show that, in seconds."""
        ...


class Fetching:
    """Reads from a source. A cancelled read leaves what was fetched to the next one."""

    def __init__(self, source: Source, url: SecretStr, timeout: float, context: Context) -> None:
        self._source, self._url, self._timeout, self._context = source, url, timeout, context
        self._checkpoint: Checkpoint
        self._receipts: Receipts[Receipt]
        self._fetching: asyncio.Task[Fetched] | None = None
        self._acking, self._is_closed = asyncio.Lock(), False

    @asynccontextmanager
    async def fetching(self) -> AsyncIterator[None]:
        """Get ready and fetch until the end."""
        self._checkpoint = await self._context.checkpoint(commit=self._commit)
        self._receipts = Receipts.of(self._checkpoint)
        try:
            async with asyncio.timeout(self._timeout):
                await self._source.begin(list(self._receipts), is_first=self._receipts.next_number == 1)
        except Exception as error:
            raise classify_error(error, self._url) from None
        renewing = asyncio.ensure_future(self._renew())
        try:
            yield
        finally:
            self._is_closed = True
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT), self._acking:
                    pass
            tasks = {task for task in (renewing, self._fetching) if task is not None}
            while tasks:  # more than once, since the client of a cluster may go on regardless
                for task in tasks:
                    task.cancel()
                _, tasks = await asyncio.wait(tasks, timeout=0.1)

    async def read(self) -> Delivery:
        """Wait for rows and return those that came."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._source.fetch())
        try:
            batch, origin, receipts = await asyncio.shield(self._fetching)
        except Exception as error:
            self._fetching = None
            raise classify_error(error, self._url) from None
        delivery = await self._checkpoint.deliver(batch, self._receipts.next_number, origin)
        self._receipts.add(receipts)
        self._fetching = asyncio.create_task(self._source.fetch())
        return delivery

    async def _commit(self, number: Position) -> None:
        try:
            async with self._acking, asyncio.timeout(self._timeout):
                if self._is_closed:  # the client would connect again, and nobody would close that connection
                    raise ConnectionLost("redis: the connection is closed")
                await self._source.ack(list(self._receipts.through(number)))
        except Exception as error:
            raise classify_error(error, self._url) from None
        self._receipts.forget(number)

    async def _renew(self) -> None:
        while True:
            await self._context.clock.sleep(self._source.renew_interval())
            try:
                async with asyncio.timeout(self._timeout):
                    await self._source.renew(list(self._receipts))
            except Exception as error:
                self._context.log.debug("%s: %s", self._context.name, classify_error(error, self._url))
