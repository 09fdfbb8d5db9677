"""Conformance tests for processors: results, metadata, columns read, row by row, and retries behind them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pytest
from pydantic import PrivateAttr, ValidationError

from ...backoff import Backoff
from ...checkpoint import Ledger
from ...component import Input, Output, Process, Processor, Writer
from ...context import Context
from ...delivery import Batch
from ...errors import PenstockError, TransientError
from ...metadata import SCHEMA, Origin, attach, has_metadata, without_metadata
from ...observe.metrics import StreamMetrics
from ...runtime.flow import Flow
from ...stream import Pipeline, Stream
from .. import batches
from ..batches import rows_of
from ..contexts import lend_context
from ..crashes import Crashed, Disk, DiskOutput, DiskStore
from .suite import Suite, needs


class ProcessorSuite(Suite):
    """Give a ``component`` fixture; and ``sample`` if it needs other columns than ``id``, ``name`` and ``value``."""

    deterministic = True
    """The same batch gives the same result, whatever was processed before; false where rows are remembered."""
    keeps_metadata = True
    """Where there is one row out for each row in, the ``__meta_*`` columns are kept."""

    keeps_state = False
    """It keeps state across restarts (``Context.state``)."""

    @pytest.fixture
    def component(self) -> Processor:
        """Return the processor under test."""
        raise NotImplementedError("the suite needs a `component` fixture that returns the processor")

    def sample(self, start: int, rows: int) -> Batch:
        """Return rows ``start`` and on of a table that never ends, which the processor can process."""
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
        """Return the rows of a result in a form that can be compared."""
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
        for batch in results:
            batch.validate(full=True)
        if component.row_wise():
            assert self.rows(results) == []

    @needs("deterministic")
    async def test_row_wise_means_row_by_row(self, component: Processor, tmp_path: Path) -> None:
        """Halves processed apart give what the whole gives where ``row_wise`` says so, and leave no trace anywhere."""
        whole = self.sample(0, 7)
        async with self.opened(component, tmp_path) as process:
            together = self.rows(await self.processed(process, whole))
            for cut in (1, 3, 6):
                left = self.rows(await self.processed(process, whole.slice(0, cut)))
                right = self.rows(await self.processed(process, whole.slice(cut)))
                if component.row_wise():
                    assert left + right == together
            assert self.rows(await self.processed(process, whole)) == together

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
        """What a row becomes carries the metadata of that row, and no row carries what no row had."""
        batch = attach(self.sample(0, 5), Origin("suite", partition=3, offset=40, ext={"path": "a"}))
        before = rows_of(batch.select(SCHEMA.names))
        async with self.opened(component, tmp_path) as process:
            for result in await self.processed(process, batch):
                if component.row_wise() or has_metadata(result.schema):
                    assert all(row in before for row in rows_of(result.select(SCHEMA.names)))
            for at in range(batch.num_rows if component.row_wise() and self.deterministic else 0):
                for result in await self.processed(process, batch.slice(at, 1)):
                    assert rows_of(result.select(SCHEMA.names)) == [before[at]] * result.num_rows

    async def test_the_columns_it_says_it_reads_are_enough(self, component: Processor, tmp_path: Path) -> None:
        columns = component.columns_read()
        whole = batch = self.sample(0, 5)
        if columns is not None:
            batch = batch.select([name for name in batch.schema.names if name in columns])
        async with self.opened(component, tmp_path / "narrow") as process:
            found = self.rows(await self.processed(process, batch))
        async with self.opened(component, tmp_path / "whole") as process:
            expected = self.rows(await self.processed(process, whole))
        assert len(found) == len(expected)
        assert found == expected or not self.deterministic

    async def test_a_retry_behind_it_loses_nothing(self, component: Processor, tmp_path: Path) -> None:
        """While a later stage fails, what was made is kept: no row is processed twice and all rows arrive."""
        batches = [self.sample(start, 5) for start in range(0, 40, 5)]
        watched, received = _Watched(component), _Received()
        stream = Stream(
            input=Input.parse({"type": "memory", "messages": batches}),
            pipeline=Pipeline(processors=[watched, _Interrupted()]),
            output=received,
            retry=Backoff.model_validate({"initial": "1ms", "maximum": "2ms"}),
        )
        async with lend_context(tmp_path) as context:
            await self.soon(Flow(stream, context, asyncio.Event(), StreamMetrics("suite")).run())
        assert watched.calls == len(batches)
        written = self.rows(received.batches)
        assert written, "nothing came of the sample: override `sample` with rows that the processor keeps"
        assert sorted(map(repr, written)) == sorted(map(repr, self.rows(watched.results)))

    async def test_it_keeps_state_only_where_that_survives(self, component: Processor, tmp_path: Path) -> None:
        async with lend_context(tmp_path) as context, component.open(context):
            assert bool(context.states.opened) == self.keeps_state

    @needs("keeps_state")
    async def test_a_crash_at_any_point_changes_nothing(self, component: Processor, tmp_path: Path) -> None:
        """With positions in the output, the rows behind a crash are those without one, wherever it came."""
        expected, operations = await self._run_and_crash(component, tmp_path, "output", None)
        assert expected, "nothing came of the sample: override `sample` with rows that the processor keeps"
        for crash_at in range(operations * 2):
            found, _ = await self._run_and_crash(component, tmp_path, "output", crash_at)
            assert found == expected, f"after a crash at operation {crash_at / 2:g}"

    @needs("keeps_state")
    async def test_a_crash_at_any_point_loses_nothing(self, component: Processor, tmp_path: Path) -> None:
        """With positions in the state, rows may come twice after a crash; none is missing, and none is another."""
        expected, operations = await self._run_and_crash(component, tmp_path, "state", None)
        for crash_at in range(operations * 2):
            found, _ = await self._run_and_crash(component, tmp_path, "state", crash_at)
            assert {*map(repr, found)} == {*map(repr, expected)}, f"after a crash at operation {crash_at / 2:g}"

    async def _run_and_crash(
        self, component: Processor, folder: Path, positions: Literal["state", "output"], crash_at: int | None
    ) -> tuple[list[Any], int]:
        """Run a stream that crashes once, and again until it ends; return its rows and how often it saved anything."""
        disk = Disk()
        for crash in [None] if crash_at is None else [crash_at, None]:
            disk.start(crash)
            stream = Stream(
                id="suite",
                input=Input.parse({"type": "memory", "messages": [self.sample(at, 5) for at in range(0, 24, 3)]}),
                pipeline=Pipeline(processors=[component]),
                output=DiskOutput.on(disk),
                checkpoint=positions,
                max_in_flight=2,
            )
            store = DiskStore(disk)
            context = Context("", store, Ledger(store.save, interval=0), folder)
            running = Flow(stream, context, asyncio.Event(), StreamMetrics("suite")).run()
            try:
                await self.soon(running)
            except (Crashed, PenstockError):
                assert disk.has_crashed
        return self.rows(disk.rows), disk.operations


class _Watched(Processor):
    """Another processor, of which the calls are counted and the results are kept."""

    _inner: Processor = PrivateAttr()
    _results: list[Sequence[Batch]] = PrivateAttr(default_factory=list)

    def __init__(self, inner: Processor) -> None:
        super().__init__()
        self._inner = inner

    @property
    def calls(self) -> int:
        """How often it returned."""
        return len(self._results)

    @property
    def results(self) -> list[Batch]:
        """All that it returned."""
        return [batch for results in self._results for batch in results]

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        async with self._inner.open(context) as process:
            if inspect.iscoroutinefunction(process):

                async def call(batch: Batch) -> Sequence[Batch]:
                    return self._keep(await process(batch))

                yield call
            else:
                yield lambda batch: self._keep(process(batch))  # type: ignore[arg-type]

    def _keep(self, results: Sequence[Batch]) -> Sequence[Batch]:
        self._results.append(results)
        return results

    def row_wise(self) -> bool:
        return self._inner.row_wise()

    def columns_read(self) -> frozenset[str] | None:
        return self._inner.columns_read()

    def reads_metadata(self) -> bool:
        return self._inner.reads_metadata()


class _Interrupted(Processor):
    """Fail every other call for a while, as a lookup would whose server comes and goes."""

    _calls: list[None] = PrivateAttr(default_factory=list)

    def process(self, batch: Batch) -> Sequence[Batch]:
        self._calls.append(None)
        if len(self._calls) % 2:
            raise TransientError("the lookup is away")
        return [batch]


class _Received(Output):
    """Keep what is written."""

    _batches: list[Batch] = PrivateAttr(default_factory=list)

    @property
    def batches(self) -> list[Batch]:
        """All that was written."""
        return self._batches

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield self

    async def write(self, batches: Sequence[Batch]) -> None:
        self._batches += batches
