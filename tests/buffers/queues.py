"""Put rows into a queue and take them out again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa

from penstock.component import Queue
from penstock.delivery import Batch, Delivery
from penstock.errors import EndOfInput


def at(*times: Any, type: pa.DataType | None = None) -> Batch:
    return pa.record_batch({"at": pa.array(times, type), "n": list(range(len(times)))})


async def put(queue: Queue, *batches: Batch) -> list[Exception | None]:
    settled: list[Exception | None] = []

    async def settle(error: Exception | None) -> None:
        settled.append(error)

    for batch in batches:
        await asyncio.wait_for(queue.put(Delivery.settled_by(batch, settle)), 60)
    return settled


async def take(queue: Queue) -> Delivery:
    return await asyncio.wait_for(queue.get(), 60)


async def take_all(queue: Queue) -> list[Delivery]:
    found = []
    while True:
        try:
            found.append(await take(queue))
        except EndOfInput:
            return found
        await found[-1].ack()


async def is_waiting(queue: Queue) -> bool:
    try:
        await asyncio.wait_for(queue.get(), 0.05)
    except TimeoutError:
        return True
    return False


def times(delivery: Delivery) -> list[Any]:
    return delivery.batch.column("at").to_pylist()


def bounds(delivery: Delivery) -> tuple[int, int]:
    start, end = (delivery.batch.column(f"window_{name}").unique() for name in ("start", "end"))
    assert len(start) == len(end) == 1
    assert start.type == pa.timestamp("us", "UTC")
    return start[0].value // 1_000_000, end[0].value // 1_000_000


async def take_in_time(queue: Queue, feed: Callable[[], Awaitable[None]]) -> list[tuple[float, list[Any]]]:
    """Take all that goes out while ``feed`` puts rows in: seconds since the start, and the times of the rows."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    feeding = asyncio.ensure_future(feed())
    found = []
    while True:
        try:
            delivery = await queue.get()
        except EndOfInput:
            break
        found.append((round(loop.time() - began), times(delivery)))
        await delivery.ack()
    await feeding
    return found
