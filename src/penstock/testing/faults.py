"""Faults on demand: a script of what goes wrong at which call, components that follow one, and a broken network."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

from pydantic import ConfigDict

from ..component import Codec, Input, Output, Processor, Reader, Writer
from ..context import Context
from ..delivery import Batch, Delivery


class Aborted(BaseException):
    """The process is as good as dead at this point: passes every ``except Exception``, as a crash would."""


class Slow(float):
    """Take so many seconds, then go on."""


ABORT = Aborted("aborted by the fault script")
"""Crash here, once."""
HANG = Slow("inf")
"""Never return from this call."""

Fault: TypeAlias = BaseException | Slow


class Faults:
    """What goes wrong at which call, the first being 0.

    Calls are counted as long as the script lives, also across reopening, so each fault happens once.
    """

    def __init__(self, faults: Mapping[int, Fault] | None = None) -> None:
        self.faults, self.calls = dict(faults or {}), 0

    @classmethod
    def repeated(cls, fault: Fault, times: int, start: int = 0) -> Faults:
        """Return the same fault at ``times`` calls in a row."""
        return cls({start + number: fault for number in range(times)})

    async def meet(self) -> None:
        """Count one call, and suffer its fault if it has one."""
        number, self.calls = self.calls, self.calls + 1
        fault = self.faults.get(number)
        if isinstance(fault, Slow):
            await asyncio.get_running_loop().create_future() if fault == HANG else await asyncio.sleep(fault)
        elif fault is not None:
            raise fault


class FaultyInput(Input):
    """An input that fails by script when it is opened or read. Made in Python only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    inner: Input
    """The input that works."""
    opening: Faults
    """What happens when it is opened."""
    reading: Faults
    """What happens before each read."""

    def __init__(self, inner: Input, *, opening: Faults | None = None, reading: Faults | None = None) -> None:
        super().__init__(inner=inner, opening=opening or Faults(), reading=reading or Faults())  # type: ignore[call-arg]

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Suffer the fault of this opening, else open the inner input."""
        await self.opening.meet()
        async with self.inner.open(context) as reader:
            yield _FaultyReader(reader, self.reading)

    def payload_codec(self) -> Codec | None:
        """Return the codec of the inner input."""
        return self.inner.payload_codec()


class _FaultyReader:
    def __init__(self, reader: Reader, faults: Faults) -> None:
        self._reader, self._faults = reader, faults

    async def read(self) -> Delivery:
        await self._faults.meet()
        return await self._reader.read()


class FaultyOutput(Output):
    """An output that fails by script when it is opened, before it writes, or after it has. Made in Python only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    inner: Output
    """The output that works."""
    opening: Faults
    """What happens when it is opened."""
    writing: Faults
    """What happens before each write."""
    written: Faults
    """What happens after each write, the rows being there already: an answer that got lost."""

    def __init__(
        self,
        inner: Output,
        *,
        opening: Faults | None = None,
        writing: Faults | None = None,
        written: Faults | None = None,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            inner=inner, opening=opening or Faults(), writing=writing or Faults(), written=written or Faults()
        )

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Suffer the fault of this opening, else open the inner output."""
        await self.opening.meet()
        async with self.inner.open(context) as writer:
            yield _FaultyWriter(writer, self.writing, self.written)


class _FaultyWriter:
    def __init__(self, writer: Writer, before: Faults, after: Faults) -> None:
        self._writer, self._before, self._after = writer, before, after

    async def write(self, batches: Sequence[Batch]) -> None:
        await self._before.meet()
        await self._writer.write(batches)
        await self._after.meet()


class FaultyProcessor(Processor):
    """A processor that passes batches on, or fails by script. Made in Python only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    processing: Faults
    """What happens before each batch is passed on."""

    def __init__(self, processing: Faults) -> None:
        super().__init__(processing=processing)  # type: ignore[call-arg]

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Callable[[Batch], Any]]:
        """Yield a coroutine function that meets the faults."""

        async def process(batch: Batch) -> Sequence[Batch]:
            await self.processing.meet()
            return [batch]

        yield process


class FaultProxy:
    """A TCP proxy in front of a server, whose network can be slowed, swallowed, cut and refused."""

    def __init__(
        self, host: str, port: int, *, listen: int = 0, tls: ssl.SSLContext | None = None, asks: bool = False
    ) -> None:
        """``listen`` is the port it listens at, by default a free one: some servers tell clients where to connect.

        ``tls`` is what it shows to clients, while it talks to the server without. ``asks`` tells whether clients ask
        for TLS first, as those of PostgreSQL do.
        """
        self._tls, self._asks = tls, asks
        self.target_host, self.target_port = host, port
        self.host, self.port = "127.0.0.1", listen
        self.delay = 0.0
        """Seconds that every piece of data takes longer, in both directions."""
        self.rate: float | None = None
        """The most bytes a second that pass in each direction of a connection; None for as many as come."""
        self.passing = asyncio.Event()
        """Cleared: connections stay open, and nothing passes (a black hole)."""
        self.passing.set()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[Any], list[asyncio.StreamWriter]] = {}

    async def __aenter__(self) -> FaultProxy:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def accept(self) -> None:
        """Listen again, at the same port."""
        secured = None if self._asks else self._tls
        self._server = await asyncio.start_server(self._connected, self.host, self.port, ssl=secured)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections and cut those there are."""
        if self._server is not None:
            self._server.close()
            await self.cut()
            await self._server.wait_closed()
            self._server = None

    async def cut(self) -> None:
        """Cut all connections, with a reset; new ones are accepted."""
        cut = dict(self._connections)
        for task, writers in cut.items():
            for writer in writers:
                writer.transport.abort()
            task.cancel()
        if cut:
            await asyncio.wait(cut)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._connections[task] = [writer]
        try:
            if self._asks and self._tls is not None:
                await reader.readexactly(8)
                writer.write(b"S")
                await writer.start_tls(self._tls)
            target_reader, target_writer = await asyncio.open_connection(self.target_host, self.target_port)
            writers.append(target_writer)
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pass_on(reader, target_writer))
                directions.create_task(self._pass_on(target_reader, writer))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            for each in writers:
                each.transport.abort()
        finally:
            del self._connections[task]

    def _piece(self) -> int:
        """The most bytes passed on at once: a tenth of a second of a slow line."""
        return 65536 if self.rate is None else max(1, min(65536, int(self.rate / 10)))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(self._piece()):
                await asyncio.sleep(self.delay + (len(data) / self.rate if self.rate else 0.0))
                await self.passing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
