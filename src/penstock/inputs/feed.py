"""Take batches from a service of the same process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from pydantic import Field

from ..component import Input, Reader
from ..context import Context
from ..delivery import Batch
from ..errors import ConfigError, TransientError
from ..inlet import Inlet


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
        inlet = Inlet("feed", capacity=self.capacity, drops_abandoned=False)
        taken._open(inlet)
        try:
            yield inlet
        finally:
            taken._close()
            inlet.close(TransientError(f"the stream behind feed {self.name!r} has stopped; try again"))

    def reads_metadata(self) -> bool:
        """Return False: its options name no column."""
        return False


class Sender:
    """The service's end of a feed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inlet: Inlet | None = None
        self._ready = asyncio.Event()

    async def send(self, batch: Batch, *, timeout: float = 30.0) -> None:
        """Hand over ``batch`` and return once it is settled.

        Raises what it was refused with; TransientError if it is not settled within ``timeout`` seconds: whether it
        will be is then unknown.
        """
        try:
            async with asyncio.timeout(timeout):
                await (await self._opened()).put(batch, {"name": self._name})
        except TimeoutError:
            raise TransientError(f"feed {self._name!r} did not take a batch within {timeout:g} s") from None

    @property
    def is_open(self) -> bool:
        """Whether a stream takes what is sent."""
        return self._inlet is not None

    async def _opened(self) -> Inlet:
        while self._inlet is None:
            await self._ready.wait()
        return self._inlet

    def _open(self, inlet: Inlet) -> None:
        if self._inlet is not None:
            raise ConfigError(f"two streams take feed {self._name!r}; give one of them another name")
        self._inlet = inlet
        self._ready.set()

    def _close(self) -> None:
        self._inlet = None
        self._ready.clear()


_senders: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Sender]] = WeakKeyDictionary()


def feed(name: str) -> Sender:
    """Return the sending end of the feed called ``name``; needs a running loop, whose process it is."""
    return _senders.setdefault(asyncio.get_running_loop(), {}).setdefault(name, Sender(name))
