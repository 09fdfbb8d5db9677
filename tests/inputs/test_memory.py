from pathlib import Path

import pyarrow as pa
import pytest

from penstock.component import Input
from penstock.errors import EndOfInput
from penstock.inputs.memory import Memory
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context
from penstock.testing.suites import InputSuite


async def test_each_message_is_a_delivery_and_then_the_input_ends(tmp_path: Path) -> None:
    source = Input.parse({"type": "memory", "messages": ["one", {"two": 2}, 3]})
    async with lend_context(tmp_path) as context, source.open(context) as reader:
        deliveries = [await reader.read() for _ in range(3)]
        for _ in range(2):
            with pytest.raises(EndOfInput):
                await reader.read()
    assert [d.batch["__value__"].to_pylist() for d in deliveries] == [[b"one"], [b'{"two": 2}'], [b"3"]]
    assert [d.origin.offset for d in deliveries if d.origin] == [0, 1, 2]


async def test_without_messages_it_ends_at_once(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Memory().open(context) as reader:
        with pytest.raises(EndOfInput):
            await reader.read()


async def test_acks_out_of_order_skip_nothing_after_a_restart(tmp_path: Path) -> None:
    store, source = MemoryStore(), Memory(messages=["a", "b", "c", "d"])
    async with lend_context(tmp_path, store) as context, source.open(context) as reader:
        a, _b, c = await reader.read(), await reader.read(), await reader.read()
        await c.ack()
        await a.ack()
    async with lend_context(tmp_path, store) as context, source.open(context) as reader:
        assert (await reader.read()).batch["__value__"].to_pylist() == [b"b"]


async def test_python_may_give_bytes_and_record_batches(tmp_path: Path) -> None:
    batch = pa.record_batch({"n": [1, 2]})
    source = Memory(messages=[b"\xff", batch])
    async with lend_context(tmp_path) as context, source.open(context) as reader:
        assert (await reader.read()).batch["__value__"].to_pylist() == [b"\xff"]
        assert (await reader.read()).batch is batch
    assert source.reads_metadata() is False
    assert source.model_dump(mode="json")["messages"][1] == [{"n": 1}, {"n": 2}]


class TestMemory(InputSuite):
    @pytest.fixture
    def component(self) -> Input:
        return Input.parse({"type": "memory", "messages": [{"n": n} for n in range(12)], "codec": "json"})
