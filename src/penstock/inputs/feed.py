"""Take batches from a service of the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from pydantic import Field

from ..component import Input, Reader
from ..context import Context
from ..delivery import Batch, Delivery
from ..errors import ConfigError, TransientError
from ..metadata import Origin


class Feed(Input, type="feed"):
    """Take what a service of this process sends: the bridge from an API to a stream.

    The service calls ``await feed("readings").send(batch)``, which returns once the batch is settled: written by the
    output, or on disk if the stream has ``durability``. It raises what the batch was refused with, and TransientError
    if nothing takes it in time or the stream stops before it is settled. One stream of a process takes a name.

    Example::

        type: feed
        name: readings
    """

    name: str = Field(min_length=1)
    """What the service calls it by."""
    capacity: int = Field(64, ge=1)
    """How many batches wait to be read; sending waits beyond that."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Begin to take what is sent."""
        taken = feed(self.name)
        reader = _Reader(self.name, self.capacity)
        taken._open(reader)
        try:
            yield reader
        finally:
            taken._close()
            reader.refuse(TransientError(f"the stream behind feed {self.name!r} has stopped; try again"))

    def reads_metadata(self) -> bool:
        """No: its options name no column."""
        return False


class _Sent:
    """A batch that is on its way, and who waits for it."""

    __slots__ = ("batch", "settled")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def settle(self, error: Exception | None) -> None:
        if self.settled.done():  # Whoever waited has gone; what was settled stays so.
            return
        if error is None:
            self.settled.set_result(None)
        else:
            self.settled.set_exception(error)


class _Reader:
    def __init__(self, name: str, capacity: int) -> None:
        self._name = name
        self.queue: asyncio.Queue[_Sent] = asyncio.Queue(capacity)

    async def read(self) -> Delivery:
        sent = await self.queue.get()
        return Delivery.settled_by(sent.batch, sent.settle, Origin("feed", ext={"name": self._name}))

    def refuse(self, error: Exception) -> None:
        """Tell all who wait that nobody reads any more."""
        while not self.queue.empty():
            sent = self.queue.get_nowait()
            if not sent.settled.done():
                sent.settled.set_exception(error)


class Sender:
    """The service's end of a feed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reader: _Reader | None = None
        self._ready = asyncio.Event()

    async def send(self, batch: Batch, *, timeout: float = 30.0) -> None:
        """Hand over ``batch`` and return once it is settled.

        Raises what it was refused with; TransientError if it is not settled within ``timeout`` seconds: whether it
        will be is then unknown.
        """
        try:
            async with asyncio.timeout(timeout):
                reader = await self._opened()
                sent = _Sent(batch)
                await reader.queue.put(sent)
                if self._reader is not reader:  # It was closed while we waited for room.
                    reader.refuse(TransientError(f"the stream behind feed {self._name!r} has stopped; try again"))
                await sent.settled
        except TimeoutError:
            raise TransientError(f"feed {self._name!r} did not take a batch within {timeout:g} s") from None

    @property
    def is_open(self) -> bool:
        """Whether a stream takes what is sent."""
        return self._reader is not None

    async def _opened(self) -> _Reader:
        while self._reader is None:
            await self._ready.wait()
        return self._reader

    def _open(self, reader: _Reader) -> None:
        if self._reader is not None:
            raise ConfigError(f"two streams take feed {self._name!r}; give one of them another name")
        self._reader = reader
        self._ready.set()

    def _close(self) -> None:
        self._reader = None
        self._ready.clear()


_senders: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Sender]] = WeakKeyDictionary()


def feed(name: str) -> Sender:
    """Return the sending end of the feed called ``name``; needs a running loop, whose process it is."""
    return _senders.setdefault(asyncio.get_running_loop(), {}).setdefault(name, Sender(name))
