from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from penstock.component import Output, TransactionalWriter
from penstock.metadata import Origin, attach
from penstock.outputs import memory
from penstock.outputs.memory import Memory
from penstock.testing.batches import rows_of
from penstock.testing.contexts import lend_context
from penstock.testing.suites import OutputSuite


@pytest.fixture(autouse=True)
def _clear() -> Iterator[None]:
    memory.clear("t")
    yield
    memory.clear("t")


async def test_batches_and_rows_are_found_by_key(tmp_path: Path) -> None:
    batch = pa.record_batch({"n": [1, 2]})
    async with lend_context(tmp_path) as context, Memory(key="t").open(context) as writer:
        await writer.write([attach(batch, Origin("test"))])
        await writer.write([batch.slice(1)])
    assert memory.rows("t") == [{"n": 1}, {"n": 2}, {"n": 2}]
    assert len(memory.kept["t"]) == 2
    async with lend_context(tmp_path) as context, Memory(key="t").open(context) as writer:
        await writer.write([batch])
    assert len(memory.rows("t")) == 5


async def test_metadata_is_kept_on_request(tmp_path: Path) -> None:
    output = Memory(key="t", metadata=True)
    assert output.reads_metadata()
    assert not Memory(key="t").reads_metadata()
    async with lend_context(tmp_path) as context, output.open(context) as writer:
        await writer.write([attach(pa.record_batch({"n": [1]}), Origin("test", offset=7))])
    assert memory.rows("t")[0]["__meta_offset"] == 7


async def test_rows_and_positions_are_kept_together(tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Memory(key="t").open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        assert await writer.load("s") is None
        await writer.write_and_save([pa.record_batch({"n": [1]})], {"s": {"position": 4, "rows": 1}})
        await writer.save({"other": 1})
    async with lend_context(tmp_path) as context, Memory(key="t").open(context) as writer:
        assert isinstance(writer, TransactionalWriter)
        assert await writer.load("s") == {"position": 4, "rows": 1}
        assert await writer.load("other") == 1
    memory.clear("t")
    assert memory.positions["t"] == {}


class TestMemory(OutputSuite):
    transactional = True

    @pytest.fixture
    def component(self) -> Output:
        return Memory(key="t")

    async def read_back(self, component: Output) -> list[dict[str, Any]]:
        return [row for batch in memory.kept["t"] for row in rows_of(batch)]

    async def test_a_failed_write_saves_no_position(self) -> None:  # type: ignore[override]
        """Nothing that is put into a list fails."""
