"""Read messages from a queue of RabbitMQ, or another broker of AMQP 0-9-1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from pydantic import Field

from ...clients.amqp import Declared, Server, connected
from ...component import Input, Reader
from ...context import Context
from ...duration import Duration
from .reader import AmqpReader


class Amqp(Server, Input, type="amqp"):
    """Read messages from a queue of RabbitMQ, or another broker of AMQP 0-9-1.

    A message is acked once its row is durable: what is not acked is delivered again, also after a crash, so a row may
    come twice and none is lost. Several processes may read one queue, each getting other messages. `declare` makes
    queues, exchanges and bindings that are not there. With `reject`, a message whose row can never be written is
    rejected, and the stream goes on: the broker moves it to the dead-letter exchange of the queue, or drops it if the
    queue has none.

    A message is one payload. `__meta_key` is its routing key, `__meta_timestamp` what its sender wrote. `__meta_ext`
    has its headers, its properties (`message_id`, `content_type`, `priority`, ...), and `queue`, `exchange`,
    `routing_key` and `redelivered`: `true` for a message that was delivered before. A connection that is lost is opened
    again for as long as it takes.

    Example::

        type: amqp
        url: amqp://127.0.0.1:5672/
        username: reader
        password: not-a-secret
        queue: readings
        declare:
          exchanges: [{name: sensors, type: topic}]
          queues: [{name: readings, type: quorum, dead_letter_exchange: refused}]
          bindings: [{queue: readings, exchange: sensors, routing_key: "#.temperature"}]
        codec: json
    """

    extra: ClassVar[str] = "amqp"

    queue: str = Field(min_length=1, max_length=255)
    """The queue that is read."""
    declare: Declared = Declared()
    """What is made before the first message, unless it is there."""
    prefetch: int | None = Field(None, ge=1, le=65_535)
    """The most messages that are read and not acked; by default those of four batches, and at least 100. They are in
    memory."""
    reject: bool = False
    """Whether messages are rejected whose rows can never be written; otherwise the stream fails, unless it has an
    `error_output`. Without effect with `durability`, which acks messages before they are worked on."""
    exclusive: bool = False
    """Whether nobody else may read the queue."""
    priority: int | None = None
    """The priority of this reader: others get messages while those of a higher one are busy."""
    batch_size: int = Field(2048, ge=1, le=65_535)
    """The most messages in one batch."""
    linger: Duration = Field(0.02, ge=0)
    """How long a batch waits for more messages after the first."""

    def tells_sender(self) -> bool:
        """Tell whether the broker is told why a message is refused, so that the stream goes on."""
        return self.reject

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Reader]:
        """Connect and begin to consume; raises ConnectionLost if that fails, also if the queue is not there."""
        reader = AmqpReader(self, context)
        async with (
            connected(self, f"penstock {context.name}", reader.lost) as connection,
            reader.consuming(connection),
        ):
            yield reader
