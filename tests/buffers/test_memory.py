from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from penstock.buffers.memory import Memory
from penstock.component import Buffer, Queue
from penstock.delivery import Batch, Delivery
from penstock.errors import EndOfInput
from penstock.metadata import ABSENT
from penstock.testing.clock import FakeClock, jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import BufferSuite


class TestMemory(BufferSuite):
    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "memory", "capacity": 5, "timeout": "50ms"})


class TestMemoryByBatches(BufferSuite):
    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "memory", "batches": 3, "timeout": "1h"})


class TestMemoryByBytes(BufferSuite):
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({"type": "memory", "bytes": 100, "timeout": "1h"})


async def groups(buffer: Memory, batches: list[Batch]) -> list[Batch]:
    async with lend_context(Path()) as context, buffer.open(context) as queue, asyncio.TaskGroup() as tasks:
        tasks.create_task(fill(queue, batches))
        return await drain(queue)
    raise AssertionError


async def fill(queue: Queue, batches: list[Batch]) -> None:
    for batch in batches:
        await queue.put(Delivery(batch))
    queue.end()


async def drain(queue: Queue) -> list[Batch]:
    found = []
    while True:
        try:
            found.append((await queue.get()).batch)
        except EndOfInput:
            return found


def numbers(*values: object, type: pa.DataType | None = None) -> Batch:
    return pa.record_batch({"n": pa.array(values, type)})


def test_needs_something_that_makes_a_group() -> None:
    with pytest.raises(ValidationError, match="expected `capacity`"):
        Memory.model_validate({"timeout": "1s"})
    with pytest.raises(ValidationError, match="10ms"):
        Memory.model_validate({"capacity": 1, "timeout": 1})


def test_most_held_counts_deliveries() -> None:
    assert Memory(capacity=8192).most_held() == 8192
    assert Memory(capacity=8192, batches=10).most_held() == 10
    assert Memory(bytes=10).most_held() is None


@jumping
async def test_groups_are_full_and_in_order() -> None:
    found = await groups(Memory(capacity=4, timeout="1h"), [numbers(i, i + 1, i + 2) for i in range(0, 15, 3)])
    assert [batch.column("n").to_pylist() for batch in found] == [[*range(6)], [*range(6, 12)], [12, 13, 14]]


@jumping
async def test_time_is_up_for_what_is_held(tmp_path: Path) -> None:
    buffer = Memory(capacity=100, timeout="30ms")
    async with lend_context(tmp_path, clock=FakeClock()) as context, buffer.open(context) as queue:
        began = asyncio.get_running_loop().time()
        await queue.put(Delivery(numbers(1)))
        await queue.put(Delivery(numbers(2)))
        delivery = await asyncio.wait_for(queue.get(), 60)
        assert delivery.batch.column("n").to_pylist() == [1, 2]
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.03)


@jumping
async def test_a_group_grows_while_nobody_takes_it(tmp_path: Path) -> None:
    buffer = Memory(capacity=3, timeout="1ms")
    async with lend_context(tmp_path, clock=FakeClock()) as context, buffer.open(context) as queue:
        for value in range(3):
            await queue.put(Delivery(numbers(value)))
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.put(Delivery(numbers(3))), 0.05)
        assert (await queue.get()).batch.num_rows == 3
        await asyncio.wait_for(queue.put(Delivery(numbers(4))), 60)
        assert (await queue.get()).batch.column("n").to_pylist() == [4]


@jumping
async def test_different_columns_are_merged_where_that_changes_no_value() -> None:
    batches = [
        pa.record_batch({"a": [1], "b": pa.nulls(1)}),
        pa.record_batch({"a": [2.5], "b": ["x"]}),
        pa.record_batch({"c": [True]}),
    ]
    (found,) = await groups(Memory(capacity=100), batches)
    assert found.to_pylist() == [
        {"a": 1.0, "b": None, "c": None, ABSENT: '["c"]'},
        {"a": 2.5, "b": "x", "c": None, ABSENT: '["c"]'},
        {"a": None, "b": None, "c": True, ABSENT: '["a","b"]'},
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (numbers("1"), numbers(1)),
        (numbers("1"), numbers(b"1")),
        (numbers(2**53 + 1), numbers(0.5)),
        (numbers(2**63, type=pa.uint64()), numbers(-1)),
    ],
)
@jumping
async def test_batches_that_do_not_fit_together_stay_apart_and_in_order(one: Batch, other: Batch) -> None:
    found = await groups(Memory(capacity=100), [one, one, other, one])
    assert [value for batch in found for value in batch.column("n").to_pylist()] == [
        value for batch in (one, one, other, one) for value in batch.column("n").to_pylist()
    ]
    assert {batch.schema.field("n").type for batch in found} == {
        one.schema.field("n").type,
        other.schema.field("n").type,
    }


@jumping
async def test_the_loans_of_batches_that_stay_apart_are_their_own(tmp_path: Path) -> None:
    settled: list[str] = []

    def lent(batch: Batch, name: str) -> Delivery:
        async def settle(error: Exception | None) -> None:
            settled.append(name)

        return Delivery.settled_by(batch, settle)

    async with lend_context(tmp_path, clock=FakeClock()) as context, Memory(capacity=100).open(context) as queue:
        for batch, name in ((numbers(1), "a"), (numbers(2), "b"), (numbers("x"), "c")):
            await queue.put(lent(batch, name))
        queue.end()
        await (await queue.get()).ack()
        assert settled == ["a", "b"]
        await (await queue.get()).ack()
        assert settled == ["a", "b", "c"]
