"""Publish rows to RabbitMQ, or another broker of AMQP 0-9-1."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import model_validator

from ..clients.amqp import Declared, Server, classify_error, connected
from ..component import Output, Writer
from ..context import Context
from ..delivery import Batch
from ..errors import ConnectionLost, PenstockError, RowsRejected, TransientError
from ..sql.expression import Expr
from ._payloads import bodies

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel, AbstractConnection

MAX_UNCONFIRMED = 1024
"""How many messages are on their way to the broker at once."""
MAX_SHORT = 255
"""The most bytes of a routing key and of each property."""
MAX_HEADERS = 64 << 10
"""The most bytes of the headers of one message, which have to fit into one frame."""
MAX_EXCHANGES = 1000
"""How many exchanges are remembered as being there."""
_TOO_LARGE = re.compile(r"larger than (?:configured )?max size (\d+)")

PropertyName = Literal[
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "app_id",
    "priority",
]


class Amqp(Server, Output, type="amqp"):
    """Publish rows to RabbitMQ, or another broker of AMQP 0-9-1, one message for each.

    Rows are written once the broker has confirmed each of them, many on their way at once and in order. A row that no
    queue gets is refused with its exchange and routing key, unless `mandatory` is off. What a write has sent before its
    connection was lost is sent again; a `message_id` lets a reader tell. `declare` makes exchanges, queues and bindings
    that are not there. A connection that is lost is opened again for as long as it takes.

    Example::

        type: amqp
        url: amqp://writer:not-a-secret@127.0.0.1:5672/
        exchange: sensors
        routing_key: {type: expr, expr: "concat(sensor, '.temperature')"}
        headers: {source: penstock}
        properties:
          content_type: application/json
          message_id: {type: expr, expr: id}
    """

    extra: ClassVar[str] = "amqp"

    exchange: Expr = Expr("")
    """The exchange of each row; by default the one that sends a message to the queue called as its routing key."""
    routing_key: Expr
    """The routing key of each row."""
    declare: Declared = Declared()
    """What is made before the first message, unless it is there."""
    mandatory: bool = True
    """Whether a row that no queue gets is refused; otherwise the broker drops it."""
    persistent: bool = True
    """Whether the broker keeps messages on disk, in durable queues."""
    headers: Mapping[str, Expr] = {}
    """The headers of each row; one that is null is left out."""
    properties: Mapping[PropertyName, Expr] = {}
    """The properties of each row; one that is null is left out. `expiration` is in milliseconds."""
    value_field: str | None = None
    """The column whose cells are the payloads; by default the codec makes them."""

    @model_validator(mode="after")
    def _header_names_fit(self) -> Self:
        for name in self.headers:
            if not 0 < len(name.encode()) <= MAX_SHORT:
                raise ValueError(f"the name of a header has 1 to {MAX_SHORT} bytes")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        """Connect, and see that the exchange is there; raises ConnectionLost if that fails."""
        writer = _AmqpWriter(self)
        async with connected(self, f"penstock {context.name}", writer.lost) as connection:
            await writer.begin(connection)
            yield writer


class _Message(NamedTuple):
    row: int
    exchange: str
    routing_key: str
    payload: bytes
    properties: dict[str, str]
    headers: dict[str, str]


class _AmqpWriter:
    def __init__(self, config: Amqp) -> None:
        self._config = config
        self._connection: AbstractConnection
        self._channel: AbstractChannel
        self._failure: Exception | None = None
        self._exchanges: set[str] = {""}
        """Exchanges that are there."""
        self._max_size: int | None = None
        """The largest message that the broker takes, once it has said so."""
        self._confirmed: list[_Message] = []
        """What was confirmed of a write that has failed otherwise: the next one leaves it out."""

    async def begin(self, connection: AbstractConnection) -> None:
        """Declare what is to be there, and look for the exchange."""
        self._connection = connection
        try:
            async with asyncio.timeout(self._config.timeout):
                channel = await connection.channel()
                await self._config.declare.declare(channel)
                self._channel = channel
                if exchange := self._config.exchange.constant:
                    await channel.exchange_declare(exchange, passive=True)
                    self._exchanges.add(exchange)
        except Exception as error:
            raise classify_error(error, self._config) from error

    def lost(self, error: Exception) -> None:
        """End what is written with ``error``."""
        self._failure = self._failure or error

    async def write(self, batches: Sequence[Batch]) -> None:
        """Publish all rows; returns once the broker has confirmed them."""
        messages = await asyncio.to_thread(self._messages, batches)
        if self._failure is not None:
            raise self._failure
        try:
            await self._find_exchanges(messages)
            await self._publish(self._without_confirmed(messages))
        except PenstockError:
            raise
        except Exception as error:
            raise classify_error(error, self._config) from error
        self._confirmed.clear()

    def _without_confirmed(self, messages: Sequence[_Message]) -> list[_Message]:
        """Leave out what the write before, which had failed, got confirmed; all of it comes again, in its order."""
        left, at = [], 0
        for message in messages:
            if at < len(self._confirmed) and message[1:] == self._confirmed[at][1:]:
                at += 1
            else:
                left.append(message)
        if at == len(self._confirmed):
            return left
        self._confirmed.clear()
        return list(messages)

    async def _publish(self, messages: Sequence[_Message]) -> None:
        refused: dict[int, str] = {}
        confirmed: list[_Message] = []
        for part in _parts(messages):
            async with asyncio.timeout(self._config.timeout):
                results = await asyncio.gather(*map(self._send, part), return_exceptions=True)
            failure: Exception | None = None
            for message, result in zip(part, results, strict=True):
                reason = _unroutable(result)
                if reason is not None:
                    refused[message.row] = reason.format(message=message)
                elif isinstance(result, BaseException):
                    failure = failure or (result if isinstance(result, Exception) else ConnectionError("closed"))
                else:
                    confirmed.append(message)
            if failure is not None:
                self._confirmed += confirmed
                raise await self._verdict(failure)
        if refused:
            self._confirmed += confirmed
            raise RowsRejected(refused, across=True)

    async def _send(self, message: _Message) -> Any:
        from pamqp.commands import Basic

        properties: dict[str, Any] = {
            "message_type" if name == "type" else name: value for name, value in message.properties.items()
        }
        if "priority" in properties:
            properties["priority"] = int(properties["priority"])
        publish: Any = self._channel.basic_publish  # whose `wait` its interface lacks
        return await publish(
            message.payload,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=Basic.Properties(
                **properties,
                headers=dict(message.headers) or None,
                delivery_mode=2 if self._config.persistent else 1,
            ),
            mandatory=self._config.mandatory,
            wait=False,
        )

    async def _verdict(self, failure: Exception) -> PenstockError:
        """Return what the failure of messages means; opens the channel again if only that was closed."""
        from aiormq.exceptions import DeliveryError

        if isinstance(failure, DeliveryError):
            return TransientError(
                f"{self._config.describe()}: the broker did not take a message: its queue may be full"
            )
        limit = _TOO_LARGE.search(str(failure))
        if limit is not None and self._failure is None:
            self._max_size = int(limit[1])
            async with asyncio.timeout(self._config.timeout):
                self._channel = await self._connection.channel()
            return TransientError(f"{self._config.describe()}: {failure}")
        error = classify_error(failure, self._config)
        return error if self._channel.is_closed is False else ConnectionLost(str(error))

    async def _find_exchanges(self, messages: Sequence[_Message]) -> None:
        """Raise RowsRejected for rows whose exchange is not there: to publish to it would end the channel."""
        from aiormq.exceptions import ChannelNotFoundEntity

        missing: set[str] = set()
        for exchange in {message.exchange for message in messages} - self._exchanges:
            async with asyncio.timeout(self._config.timeout):
                channel = await self._connection.channel(publisher_confirms=False)
                try:
                    await channel.exchange_declare(exchange, passive=True)
                    await channel.close()
                except ChannelNotFoundEntity:
                    missing.add(exchange)
                    continue
            if len(self._exchanges) < MAX_EXCHANGES:
                self._exchanges.add(exchange)
        if missing:
            raise RowsRejected(
                {m.row: f"there is no exchange {m.exchange!r}" for m in messages if m.exchange in missing}, across=True
            )

    def _messages(self, batches: Sequence[Batch]) -> list[_Message]:
        """Return the messages of all rows; raises RowsRejected for those that cannot be sent."""
        found: list[_Message] = []
        reasons: dict[int, str] = {}
        start = 0
        for batch in batches:
            for row, cells in enumerate(self._columns(batch), start):
                if cells[2] is None:
                    continue
                message = _Message(row, *cells)
                reason = _fault(message, self._max_size)
                if reason is not None:
                    reasons[row] = reason
                found.append(message)
            start += batch.num_rows
        if reasons:
            raise RowsRejected(reasons, across=True)
        return found

    def _columns(self, batch: Batch) -> Iterator[tuple[Any, Any, Any, dict[str, str], dict[str, str]]]:
        config = self._config
        return zip(
            config.exchange.evaluate(batch).to_pylist(),
            config.routing_key.evaluate(batch).to_pylist(),
            bodies(config, batch, config.value_field).to_pylist(),
            _rows(config.properties, batch),
            _rows(config.headers, batch),
            strict=True,
        )


def _rows(expressions: Mapping[Any, Expr], batch: Batch) -> list[dict[str, str]]:
    """Return, for each row, the values that are not null."""
    if not expressions:
        return [{}] * batch.num_rows
    columns = {name: expression.evaluate(batch).to_pylist() for name, expression in expressions.items()}
    return [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]


def _fault(message: _Message, max_size: int | None) -> str | None:
    """Return why a message cannot be sent; it would end the connection of all."""
    if message.routing_key is None or message.exchange is None:
        return "it has no routing key" if message.routing_key is None else "it has no exchange"
    short = {"routing key": message.routing_key, "exchange": message.exchange, **message.properties}
    for name, value in short.items():
        if len(value.encode()) > MAX_SHORT:
            return f"its {name} of {len(value.encode())} bytes is longer than {MAX_SHORT}"
    if not message.properties.get("expiration", "0").isdecimal():
        return f"its expiration {message.properties['expiration']!r} is not a number of milliseconds"
    priority = message.properties.get("priority", "0")
    if not (priority.isdecimal() and int(priority) <= 255):
        return f"its priority {priority!r} is not a number up to 255"
    if sum(len(name.encode()) + len(value.encode()) + 8 for name, value in message.headers.items()) > MAX_HEADERS:
        return f"its headers have more than {MAX_HEADERS} bytes"
    if max_size is not None and len(message.payload) > max_size:
        return f"its {len(message.payload)} bytes are more than the {max_size} that the broker takes"
    return None


def _parts(messages: Sequence[_Message]) -> Iterator[list[_Message]]:
    """Divide messages into those that are on their way at once; the client tells them apart by their id."""
    part: list[_Message] = []
    ids: set[str] = set()
    for message in messages:
        own = message.properties.get("message_id")
        if len(part) >= MAX_UNCONFIRMED or own in ids:
            yield part
            part, ids = [], set()
        part.append(message)
        if own:
            ids.add(own)
    if part:
        yield part


def _unroutable(result: Any) -> str | None:
    """Return why a message was returned, if it was."""
    from aiormq.exceptions import PublishError

    if not isinstance(result, PublishError):
        return None
    return "no queue gets it: exchange {message.exchange!r}, routing key {message.routing_key!r}"
