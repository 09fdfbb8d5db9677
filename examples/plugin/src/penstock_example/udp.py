"""Take datagrams: the smallest input to which rows are pushed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from penstock.component import Input, Reader
from penstock.context import Context
from penstock.errors import ConnectionLost
from penstock.inlet import Inlet


class Udp(Input, type="udp"):
    """Take UDP datagrams, each of which is a payload.

    Nobody answers for a datagram: what arrives while `capacity` of them wait to be read is dropped, told in the log
    and on the health page. With `durability` a crash loses only what was not yet read. `__meta_ext` has the `remote`
    address.

    Example::

        type: udp
        port: 5140
        codec: json
    """

    host: str = "127.0.0.1"
    """The address to listen at; `0.0.0.0` takes datagrams from everywhere."""
    port: int = Field(ge=0, le=65535)
    """The port to listen at."""
    capacity: int = Field(default=4096, ge=1)
    """How many datagrams wait to be read at most."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Listen; raises ConnectionLost if the address cannot be bound."""
        inlet, loop = Inlet("udp", capacity=self.capacity), asyncio.get_running_loop()
        receiver = _Receiver(inlet, context)
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: receiver, local_addr=(self.host, self.port))
        except OSError as error:
            raise ConnectionLost(f"udp {self.host}:{self.port}: {error.strerror or error}") from error
        try:
            yield inlet
        finally:
            transport.close()
            await receiver.closed.wait()
            inlet.close()


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, inlet: Inlet, context: Context) -> None:
        self._inlet, self._context, self._is_full = inlet, context, False
        self.closed = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        was_full, self._is_full = self._is_full, not self._inlet.offer([data], {"remote": addr[0]}, size=len(data))
        if self._is_full and not was_full:
            self._context.report_gap("datagrams are dropped, since too many wait to be read")

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()
