"""What every processor promises: it leaves its argument alone, and the same rows give the same result."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from pydantic import ValidationError

from ...component import Process, Processor
from ...delivery import Batch
from ...metadata import SCHEMA, Origin, attach, without_metadata
from .. import batches
from ..batches import rows_of
from ..contexts import lend_context
from .suite import Suite, needs


class ProcessorSuite(Suite):
    """Give a ``component`` fixture; and ``sample`` if it needs other columns than ``id``, ``name`` and ``value``."""

    deterministic = True
    """The same batch gives the same result, whatever was processed before."""
    keeps_metadata = True
    """Where there is one row out for each row in, the ``__meta_*`` columns are kept."""

    @pytest.fixture
    def component(self) -> Processor:
        """The processor under test."""
        raise NotImplementedError("the suite needs a `component` fixture that returns the processor")

    def sample(self, start: int, rows: int) -> Batch:
        """Rows ``start`` and on of a table that never ends, which the processor can process."""
        return batches.sample(start, rows)

    @asynccontextmanager
    async def opened(self, component: Processor, directory: Path) -> AsyncIterator[Process]:
        """Open the processor."""
        async with lend_context(directory / "penstock-data") as context:
            opening = component.open(context)
            process = await self.soon(opening.__aenter__())
            try:
                yield process
            finally:
                await self.soon(opening.__aexit__(None, None, None))

    async def processed(self, process: Process, batch: Batch) -> Sequence[Batch]:
        """Process one batch as a stream would: on the loop, or in a thread."""
        if inspect.iscoroutinefunction(process):
            return cast(Sequence[Batch], await self.soon(process(batch)))
        return cast(Sequence[Batch], await self.soon(asyncio.to_thread(process, batch)))

    def rows(self, results: Sequence[Batch]) -> list[Any]:
        """The rows of a result in a form that can be compared."""
        return [row for batch in results for row in rows_of(without_metadata(batch))]

    async def test_opens_closes_and_opens_again(self, component: Processor, tmp_path: Path) -> None:
        for _ in range(3):
            async with self.opened(component, tmp_path):
                pass

    def test_it_is_a_frozen_value(self, component: Processor) -> None:
        assert component.model_copy(deep=True) == component
        with pytest.raises(ValidationError):
            component.name = "another"  # type: ignore[misc]

    async def test_results_are_valid_batches(self, component: Processor, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as process:
            for batch in await self.processed(process, self.sample(0, 5)):
                assert isinstance(batch, pa.RecordBatch)
                batch.validate(full=True)

    @needs("deterministic")
    async def test_the_same_in_gives_the_same_out(self, component: Processor, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as process:
            first = await self.processed(process, self.sample(0, 5))
            again = await self.processed(process, self.sample(0, 5))
        assert self.rows(first) == self.rows(again)
        assert [batch.schema for batch in first] == [batch.schema for batch in again]

    async def test_the_input_is_not_changed(self, component: Processor, tmp_path: Path) -> None:
        batch = self.sample(0, 5)
        before = batch.serialize().to_pybytes()
        async with self.opened(component, tmp_path) as process:
            await self.processed(process, batch)
        assert batch.serialize().to_pybytes() == before

    async def test_an_empty_batch_is_no_error(self, component: Processor, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as process:
            results = await self.processed(process, self.sample(0, 5).slice(0, 0))
        if component.row_wise():
            assert self.rows(results) == []

    @needs("deterministic")
    async def test_row_wise_means_row_by_row(self, component: Processor, tmp_path: Path) -> None:
        """Where ``row_wise`` says so, halves processed apart give what the whole gives."""
        whole = self.sample(0, 7)
        async with self.opened(component, tmp_path) as process:
            together = self.rows(await self.processed(process, whole))
            for cut in (1, 3, 6):
                left = self.rows(await self.processed(process, whole.slice(0, cut)))
                right = self.rows(await self.processed(process, whole.slice(cut)))
                if component.row_wise():
                    assert left + right == together

    @needs("deterministic")
    async def test_a_slice_is_processed_without_the_rest(self, component: Processor, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as process:
            sliced = await self.processed(process, self.sample(0, 10).slice(3, 4))
            copied = await self.processed(process, self.sample(3, 4))
        assert self.rows(sliced) == self.rows(copied)

    @needs("deterministic")
    async def test_several_at_once_do_not_disturb_one_another(self, component: Processor, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as process:
            alone = [self.rows(await self.processed(process, self.sample(i * 5, 5))) for i in range(8)]
            together = await asyncio.gather(*(self.processed(process, self.sample(i * 5, 5)) for i in range(8)))
        assert [self.rows(results) for results in together] == alone

    @needs("keeps_metadata")
    async def test_metadata_is_kept_row_by_row(self, component: Processor, tmp_path: Path) -> None:
        batch = attach(self.sample(0, 5), Origin("suite", partition=3, offset=40, ext={"path": "a"}))
        async with self.opened(component, tmp_path) as process:
            results = await self.processed(process, batch)
        if component.row_wise() and sum(result.num_rows for result in results) == batch.num_rows:
            table = pa.Table.from_batches([result.select(SCHEMA.names) for result in results])
            assert rows_of(table) == rows_of(batch.select(SCHEMA.names))

    async def test_the_columns_it_says_it_reads_are_enough(self, component: Processor, tmp_path: Path) -> None:
        columns = component.columns_read()
        batch = self.sample(0, 5)
        if columns is not None:
            batch = batch.select([name for name in batch.schema.names if name in columns])
        async with self.opened(component, tmp_path) as process:
            await self.processed(process, batch)
