"""What is pushed waits in a bound, is delivered together, and each sender is told what became of its own rows."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest

from penstock.delivery import Delivery
from penstock.errors import PermanentError, TransientError
from penstock.inlet import MAX_ROWS, Inlet, NotInTime
from penstock.metadata import VALUE


def payloads(delivery: Delivery) -> list[bytes]:
    return delivery.batch.column(VALUE).to_pylist()


async def sending(inlet: Inlet, *rows: bytes, **options: float) -> asyncio.Task[None]:
    """Begin to send, and return once that waits."""
    task = asyncio.create_task(inlet.put(list(rows), {"from": rows[0].decode()}, **options))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return task


async def test_who_waits_at_the_same_moment_is_delivered_together_and_told() -> None:
    inlet = Inlet("test", capacity=10)
    senders = [await sending(inlet, b"a"), await sending(inlet, b"b", b"c")]
    delivery = await inlet.read()
    assert payloads(delivery) == [b"a", b"b", b"c"]
    assert delivery.origin is not None
    assert delivery.origin.ext == [{"from": "a"}, {"from": "b"}, {"from": "b"}]
    assert not any(sender.done() for sender in senders)
    await delivery.ack()
    await asyncio.gather(*senders)


async def test_rows_that_are_wrong_are_told_to_their_sender_alone() -> None:
    inlet = Inlet("test", capacity=10)
    right, wrong = await sending(inlet, b"right"), await sending(inlet, b"wrong")
    await (await inlet.read()).nack(PermanentError("one of them"))
    for _ in range(2):
        delivery = await inlet.read()
        if payloads(delivery) == [b"wrong"]:
            await delivery.nack(PermanentError("this one"))
        else:
            await delivery.ack()
    await right
    with pytest.raises(PermanentError, match="this one"):
        await wrong


async def test_a_full_inlet_makes_senders_wait_in_turn() -> None:
    inlet = Inlet("test", capacity=2)
    senders = [await sending(inlet, bytes([97 + n])) for n in range(5)]
    assert not inlet.offer([b"x"], {})
    seen = []
    while len(seen) < 5:
        delivery = await inlet.read()
        assert delivery.batch.num_rows <= 2
        seen += payloads(delivery)
        await delivery.ack()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert seen == [b"a", b"b", b"c", b"d", b"e"]
    await asyncio.gather(*senders)
    assert inlet.offer([b"x"], {})


@pytest.mark.parametrize("capacity", [1, 2])
async def test_who_is_not_served_in_time_is_told_and_not_delivered(capacity: int) -> None:
    """Also one that waits for room."""
    inlet = Inlet("test", capacity=capacity)
    first, late = await sending(inlet, b"first"), await sending(inlet, b"late", timeout=0.01)
    with pytest.raises(NotInTime, match=r"test: not settled within 0\.01 s"):
        await late
    last = await sending(inlet, b"last")
    delivery = await inlet.read()
    assert b"late" not in payloads(delivery)
    await delivery.ack()
    await first
    last.cancel()


async def test_a_batch_and_what_is_large_is_delivered_by_itself() -> None:
    inlet = Inlet("test", capacity=10)
    batch = pa.record_batch({"n": [1]})
    assert inlet.offer([b"a"], {})
    assert inlet.offer(batch, {})
    assert inlet.offer([b"b"] * (MAX_ROWS + 1), {})
    assert inlet.offer([b"c"], {})
    assert [(await inlet.read()).batch.num_rows for _ in range(4)] == [1, 1, MAX_ROWS + 1, 1]


async def test_a_cancelled_read_loses_nothing() -> None:
    inlet = Inlet("test", capacity=1)
    reading = asyncio.create_task(inlet.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    assert inlet.offer([b"a"], {})
    assert payloads(await inlet.read()) == [b"a"]


async def test_whoever_waits_when_it_closes_is_told() -> None:
    inlet = Inlet("test", capacity=1)
    senders = [await sending(inlet, b"waits to be read"), await sending(inlet, b"waits for room")]
    inlet.close(TransientError("closing"))
    senders.append(await sending(inlet, b"came too late"))
    for sender in senders:
        with pytest.raises(TransientError, match="closing"):
            await sender
    assert not inlet.offer([b"x"], {})
