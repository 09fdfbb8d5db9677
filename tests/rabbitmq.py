"""A client of RabbitMQ beside the one under test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from penstock.testing.servers import RabbitmqServer


@asynccontextmanager
async def channel(server: RabbitmqServer) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(server.url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


def unique() -> str:
    return uuid.uuid4().hex


async def make_queue(server: RabbitmqServer, name: str | None = None, **arguments: Any) -> str:
    async with channel(server) as found:
        queue = await found.declare_queue(name or unique(), durable=True, arguments=arguments)
    return queue.name


async def send(server: RabbitmqServer, queue: str, bodies: Iterable[bytes], **properties: Any) -> None:
    async with channel(server) as found:
        for body in bodies:
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties)
            await found.default_exchange.publish(message, queue)


async def messages(server: RabbitmqServer, queue: str) -> list[AbstractIncomingMessage]:
    """Return the messages that wait in a queue, which are still there afterwards."""
    async with channel(server) as found:
        there = await found.get_queue(queue)
        taken: list[AbstractIncomingMessage] = []
        while (message := await there.get(fail=False)) is not None:
            taken.append(message)
        return taken
