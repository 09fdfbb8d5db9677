"""Read what a consumer of a queue is sent, and ack or reject what is settled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from ...clients.amqp import CLOSE_TIMEOUT, classify_error
from ...clients.arrivals import Arrivals
from ...component import Progress
from ...context import Context
from ...delivery import Delivery
from ...errors import ConnectionLost, PenstockError, PermanentError
from ...metadata import payloads
from .messages import MessageOrigin

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage

    from . import Amqp

MIN_PREFETCH = 100
"""How many messages are read ahead at least, unless the configuration says otherwise."""
LAG_INTERVAL = 5.0
"""Seconds from one question how many messages wait to the next."""


class AmqpReader:
    """Reads what the broker sends; each delivery acks its own messages, in whatever order they are settled.

    Messages that are refused together are delivered again one by one, so that only those are rejected that are wrong.
    """

    def __init__(self, config: Amqp, context: Context) -> None:
        self._config, self._context = config, context
        self._arrivals: Arrivals[DeliveredMessage] = Arrivals(config.batch_size, config.linger)
        self._ready: deque[list[DeliveredMessage]] = deque()
        self._alone: set[int] = set()
        """The delivery tags of messages that are to be delivered by themselves."""
        self._held: dict[int, list[int]] = {}
        """The delivery tags of each delivery that is not settled, by its number."""
        self._lent = self._done = self._left = 0
        self._is_over = False
        self._settled = asyncio.Event()
        self._failure: PenstockError | None = None
        self._channel: AbstractChannel

    @asynccontextmanager
    async def consuming(self, connection: AbstractConnection) -> AsyncIterator[None]:
        """Declare what is to be there, and consume until the end; what is not acked then, the broker delivers again."""
        config = self._config
        prefetch = config.prefetch or min(max(4 * config.batch_size, MIN_PREFETCH), 65_535)
        try:
            async with asyncio.timeout(config.timeout):
                self._channel = await connection.channel(publisher_confirms=False)
                self._channel.on_consumer_cancel_callbacks.add(self._cancelled)
                self._channel.closing.add_done_callback(self._closed)
                await config.declare.declare(self._channel)
                await self._channel.basic_qos(prefetch_count=prefetch)
                await self._channel.basic_consume(
                    config.queue,
                    self._take,
                    exclusive=config.exclusive,
                    arguments=None if config.priority is None else {"x-priority": config.priority},
                )
        except Exception as error:
            raise classify_error(error, config) from error
        watching = asyncio.ensure_future(self._watch(connection))
        try:
            yield
        finally:
            self._is_over = True
            watching.cancel()
            await asyncio.wait({watching}, timeout=CLOSE_TIMEOUT)

    def lost(self, error: Exception) -> None:
        """End reading with ``error``, once what has arrived is read."""
        self._arrivals.fail(error)

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self.lost(classify_error(error or ConnectionError("the channel was closed"), self._config))

    async def _cancelled(self, _: Any) -> None:
        reason = f"{self._config.describe()}: the broker ended reading: the queue {self._config.queue!r} was deleted"
        self.lost(ConnectionLost(reason))

    async def _take(self, message: DeliveredMessage) -> None:
        self._arrivals.put(message)

    def progress(self) -> Progress:
        """Return how many rows are read, and how many there are."""
        return Progress(self._done, self._done + self._left + len(self._arrivals), "rows")

    async def read(self) -> Delivery:
        """Wait for messages and return those that came."""
        while len(self._held) >= self._context.limit and self._failure is None:
            self._settled.clear()
            await self._settled.wait()
        if self._failure is not None:
            raise self._failure
        if not self._ready:
            self._ready.extend(self._divide(await self._arrivals.take()))
        return self._lend(self._ready.popleft())

    def _divide(self, messages: list[DeliveredMessage]) -> list[list[DeliveredMessage]]:
        """Divide messages into those that go together and those that were refused among others."""
        if not self._alone:
            return [messages]
        together = [message for message in messages if message.delivery_tag not in self._alone]
        single = [[message] for message in messages if message.delivery_tag in self._alone]
        return [*single, *([together] if together else [])]

    def _lend(self, messages: list[DeliveredMessage]) -> Delivery:
        self._lent += 1
        self._done += len(messages)
        number, tags = self._lent, [message.delivery_tag or 0 for message in messages]
        self._held[number] = tags

        async def settle(error: Exception | None) -> None:
            try:
                await self._settle(number, messages, error)
            finally:
                self._settled.set()

        batch = payloads([message.body for message in messages])
        return Delivery.settled_by(batch, settle, MessageOrigin("amqp", messages=messages, queue=self._config.queue))

    async def _settle(self, number: int, messages: Sequence[DeliveredMessage], error: Exception | None) -> None:
        tags = self._held.pop(number)
        if error is None:
            await self._send_acks(tags)
        elif not (self._config.reject and isinstance(error, PermanentError)):
            self._failure = PenstockError(f"{self._config.queue}: a batch was refused: {error}")
        elif len(messages) > 1:
            self._alone.update(tags)
            self._done -= len(messages)
            for message in messages:
                self._arrivals.put(message)
        else:
            self._alone.difference_update(tags)
            self._context.log.warning("%s: a message is rejected: %s", self._context.name, error)
            await self._send(lambda: self._channel.basic_reject(tags[0], requeue=False))

    async def _send_acks(self, tags: Sequence[int]) -> None:
        """Ack messages: at once if no other that came before them is unsettled."""
        unsettled = [*(held[0] for held in self._held.values()), *self._alone.difference(tags)]
        self._alone.difference_update(tags)
        if min(unsettled, default=tags[-1] + 1) > tags[-1]:
            await self._send(lambda: self._channel.basic_ack(tags[-1], multiple=True))
            return
        for tag in tags:
            await self._send(lambda tag=tag: self._channel.basic_ack(tag, wait=tag == tags[-1]))

    async def _send(self, call: Any) -> None:
        """Tell the broker; a connection that is gone ends reading, and its messages come again."""
        if self._channel.is_closed:
            return
        try:
            async with asyncio.timeout(self._config.timeout):
                await call()
        except Exception as error:
            self.lost(classify_error(error, self._config))

    async def _watch(self, connection: AbstractConnection) -> None:
        """Look from time to time how many messages wait, as far as the broker tells."""
        with suppress(Exception):
            channel = await connection.channel(publisher_confirms=False)
            while not self._is_over:  # the client may swallow that this is cancelled
                found = await channel.queue_declare(self._config.queue, passive=True, timeout=self._config.timeout)
                self._left = found.message_count or 0
                await self._context.clock.sleep(LAG_INTERVAL)
