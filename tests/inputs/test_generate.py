import asyncio
import json
from pathlib import Path

import pytest

from penstock.component import Input, Reader
from penstock.errors import EndOfInput
from penstock.inputs.generate import Generate
from penstock.metadata import attach
from penstock.state.memory import MemoryStore
from penstock.testing.clock import jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import InputSuite


async def read_all(reader: Reader) -> list[int]:
    sizes = []
    while True:
        try:
            delivery = await reader.read()
        except EndOfInput:
            return sizes
        sizes.append(delivery.batch.num_rows)
        await delivery.ack()


async def test_the_last_batch_is_partial_so_that_exactly_count_rows_come(tmp_path: Path) -> None:
    source = Generate(context="x", interval="1ns", count=10, batch_size=3)
    async with lend_context(tmp_path) as context, source.open(context) as reader:
        assert await read_all(reader) == [3, 3, 3, 1]
        with pytest.raises(EndOfInput):
            await reader.read()


async def test_a_restart_goes_on_counting_after_the_last_acked_batch(tmp_path: Path) -> None:
    store, source = MemoryStore(), Generate(context="x", interval="1ns", count=10, batch_size=3)
    async with lend_context(tmp_path, store) as context, source.open(context) as reader:
        await (await reader.read()).ack()
        await reader.read()
    async with lend_context(tmp_path, store) as context, source.open(context) as reader:
        assert await read_all(reader) == [3, 3, 1]


@jumping
async def test_the_first_batch_is_immediate_and_the_others_are_paced(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Generate(context="x", interval="1h").open(context) as reader:
        await asyncio.wait_for(reader.read(), 60)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.02)


@jumping
async def test_a_cancelled_read_loses_no_row(tmp_path: Path) -> None:
    source = Generate(context="x", interval="5ms", count=3)
    async with lend_context(tmp_path) as context, source.open(context) as reader:
        await reader.read()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(), 0.001)
        assert await read_all(reader) == [1, 1]


async def test_without_a_pause_others_still_run(tmp_path: Path) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with lend_context(tmp_path) as context, Generate(context="x", interval="0s").open(context) as reader:
        other = asyncio.create_task(count_turns())
        for _ in range(100):
            await (await reader.read()).ack()
        other.cancel()
    assert turns >= 90


async def test_reads_share_one_array(tmp_path: Path) -> None:
    source = Generate(context="x", interval="1ns", batch_size=1000)
    async with lend_context(tmp_path) as context, source.open(context) as reader:
        first, second = await reader.read(), await reader.read()
        assert first.batch is second.batch
        assert attach(second.batch, second.origin)["__meta_offset"][0].as_py() == 1000
        assert second.origin is not None
        assert second.origin.source == "generate"


@pytest.mark.parametrize("context", [{"a": [1, "ü"]}, [1, 2], 3])
async def test_a_mapping_or_list_becomes_json_text(tmp_path: Path, context: object) -> None:
    source = Input.parse({"type": "generate", "context": context, "interval": "1s", "count": 1})
    async with lend_context(tmp_path) as lent, source.open(lent) as reader:
        delivery = await reader.read()
    assert json.loads(delivery.batch["__value__"][0].as_py()) == context


def test_a_bare_number_is_no_interval() -> None:
    with pytest.raises(ValueError, match="duration with a unit"):
        Input.parse({"type": "generate", "context": "x", "interval": 5})


@pytest.mark.parametrize(
    ("type", "options"),
    [("generate", {"context": {"a": [1, float("inf")]}}), ("memory", {"messages": [{"a": [1, float("inf")]}]})],
)
def test_a_number_that_json_lacks_is_named(type: str, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a\[1\] is inf, which JSON has no number for"):
        Input.parse({"type": type, **options})


class TestGenerate(InputSuite):
    @pytest.fixture
    def component(self) -> Input:
        return Input.parse(
            {
                "type": "generate",
                "context": {"a": 1},
                "interval": "1ns",
                "count": 23,
                "batch_size": 2,
                "codec": "json",
            }
        )
