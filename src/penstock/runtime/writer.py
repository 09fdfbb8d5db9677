"""A writer that is kept open: opened again when its connection is lost, called again while it fails for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TypeVar

from ..backoff import Backoff, Stopped, unless_stopped
from ..component import Output, TransactionalWriter, Writer
from ..context import Context
from ..delivery import Position
from ..errors import ConnectionLost, PermanentError, TransientError
from ..observe.metrics import StreamMetrics
from .transform import describe

T = TypeVar("T")
_OPEN_TIMEOUT = 1.0
"""How long an output may still take to open once the stream is stopped, in seconds."""


class ReconnectingWriter:
    """An output kept open: reopened when its connection is lost, retried while it fails for a while."""

    def __init__(
        self, output: Output, context: Context, backoff: Backoff, stop: asyncio.Event, metrics: StreamMetrics
    ) -> None:
        self._output, self._context, self._backoff, self._stop = output, context, backoff, stop
        self._metrics, self._part = metrics, context.name.rpartition("/")[2]
        self._stack = AsyncExitStack()
        self._writer: Writer | None = None
        self._was_open = False
        self._one_at_a_time = asyncio.Lock()

    async def ready(self) -> None:
        """Open the writer, trying again until that succeeds."""
        await self.call(_do_nothing)

    async def open(self) -> Writer:
        """Return the open writer, opening it if need be."""
        if self._writer is None:
            try:
                async with unless_stopped(self._stop, self._context.clock, _OPEN_TIMEOUT):
                    self._writer = await self._stack.enter_async_context(self._output.open(self._context))
            except PermanentError as error:
                if not self._was_open:
                    raise
                raise ConnectionLost(str(error)) from error  # it worked, so somebody changed something; no row did
            self._was_open = True
        return self._writer

    async def close(self) -> None:
        """Close the writer if it is open."""
        self._writer = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def call(self, action: Callable[[Writer], Awaitable[T]]) -> T:
        """Do ``action`` until it succeeds; raises Stopped, PermanentError, or the last error once out of attempts."""
        attempt = 0
        failure: ConnectionLost | TransientError
        while True:
            try:
                async with self._one_at_a_time:
                    result = await self._attempt(action)
                if attempt:
                    self._metrics.recovered(self._part)
                return result
            except (ConnectionLost, TransientError) as error:
                failure = error
            if self._stop.is_set():
                raise Stopped(str(failure)) from failure
            if self._backoff.exhausted(attempt):
                raise failure
            delay = self._backoff.delay(attempt, failure.after if isinstance(failure, TransientError) else None)
            self._metrics.retrying(self._part, str(failure))
            self._context.log.warning(
                "%s: writing failed, attempt %d, again in %.2f s: %s", self._context.name, attempt + 1, delay, failure
            )
            await self._context.clock.wait(self._stop, delay)
            attempt += 1

    async def _attempt(self, action: Callable[[Writer], Awaitable[T]]) -> T:
        condition = self._metrics.condition
        condition.begin(self._part)
        try:
            return await action(await self.open())
        except ConnectionLost:
            await self._discard()
            raise
        except (ConnectionError, TimeoutError) as error:
            await self._discard()
            raise ConnectionLost(describe(error)) from error
        finally:
            condition.end(self._part)

    async def _discard(self) -> None:
        """Close a writer whose connection is lost; errors on closing are expected, and only logged."""
        try:
            await self.close()
        except Exception as error:
            self._context.log.debug("%s: closing a lost output: %s", self._context.name, error)


class KeptPositions:
    """The positions that an output keeps, wherever it is open at the moment."""

    def __init__(self, output: ReconnectingWriter) -> None:
        self._output = output

    async def load(self, key: str) -> Position | None:
        """Return what was last saved under ``key``."""

        async def load(writer: Writer) -> Position | None:
            assert isinstance(writer, TransactionalWriter)
            return await writer.load(key)

        return await self._output.call(load)

    async def save(self, positions: Mapping[str, Position]) -> None:
        """Keep all of ``positions``, or none of them."""

        async def save(writer: Writer) -> None:
            assert isinstance(writer, TransactionalWriter)
            await writer.save(positions)

        await self._output.call(save)


async def _do_nothing(_: Writer) -> None: ...
