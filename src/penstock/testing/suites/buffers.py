"""What every buffer promises: a row is acked upstream only after it has gone out and been acked there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ...checkpoint import Checkpoint
from ...component import Buffer, Queue
from ...delivery import Batch, Delivery
from ...errors import EndOfInput, PenstockError
from ...metadata import without_metadata
from .. import batches
from ..batches import rows_of
from ..contexts import lend_context
from .suite import Suite, needs


class BufferSuite(Suite):
    """Give a ``component`` fixture: a buffer that lets go of its rows soon, or at the end."""

    keeps_rows = True
    """Rows go out as they came in; false for buffers that aggregate or join."""
    ordered = True
    """Rows go out in the order in which they came in."""
    bounded = True
    """It holds no more deliveries than ``most_held`` says."""
    deliveries = 12
    """How many deliveries each test puts."""

    @pytest.fixture
    def component(self) -> Buffer:
        """Return the buffer under test."""
        raise NotImplementedError("the suite needs a `component` fixture that returns the buffer")

    def sample(self, start: int, rows: int) -> Batch:
        """Return rows ``start`` and on of a table that never ends."""
        return batches.sample(start, rows)

    @asynccontextmanager
    async def opened(self, component: Buffer, directory: Path) -> AsyncIterator[Queue]:
        """Open the buffer."""
        async with lend_context(directory / "penstock-data") as context:
            opening = component.open(context)
            queue = await self.soon(opening.__aenter__())
            try:
                yield queue
            finally:
                await self.soon(opening.__aexit__(None, None, None))

    def _lend(self, settled: list[Exception | None], number: int, rows: int = 2) -> Delivery:
        async def settle(error: Exception | None) -> None:
            settled.append(error)

        return Delivery.settled_by(self.sample(number * 2, rows), settle)

    async def _fill(self, queue: Queue, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            await queue.put(delivery)
        queue.end()

    async def _drain(self, queue: Queue) -> list[Delivery]:
        found = []
        while True:
            try:
                found.append(await self.soon(queue.get()))
            except EndOfInput:
                return found
            await found[-1].ack()

    def _rows(self, deliveries: Sequence[Delivery]) -> list[Any]:
        rows = [row for delivery in deliveries for row in rows_of(without_metadata(delivery.batch))]
        return rows if self.ordered else sorted(rows, key=repr)

    async def test_opens_closes_and_opens_again(self, component: Buffer, tmp_path: Path) -> None:
        for _ in range(3):
            async with self.opened(component, tmp_path):
                pass

    def test_it_is_a_frozen_value(self, component: Buffer) -> None:
        assert component.model_copy(deep=True) == component
        with pytest.raises(ValidationError):
            component.name = "another"  # type: ignore[misc]

    @needs("keeps_rows")
    async def test_each_row_goes_out_once(self, component: Buffer, tmp_path: Path) -> None:
        settled: list[Exception | None] = []
        sent = [self._lend(settled, number) for number in range(self.deliveries)]
        async with self.opened(component, tmp_path) as queue, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fill(queue, sent))
            found = await self._drain(queue)
        assert self._rows(found) == self._rows(sent)

    async def test_everything_is_settled_after_the_end(self, component: Buffer, tmp_path: Path) -> None:
        """The end flushes what is held; batches without rows are settled too."""
        settled: list[Exception | None] = []
        sent = [self._lend(settled, number, rows=number % 3) for number in range(self.deliveries)]
        async with self.opened(component, tmp_path) as queue, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fill(queue, sent))
            await self._drain(queue)
        assert settled == [None] * self.deliveries

    async def test_an_empty_buffer_ends(self, component: Buffer, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as queue:
            getting = asyncio.ensure_future(queue.get())
            assert not await self.happens(getting), "something came out although nothing was put"
            queue.end()
            queue.end()
            with pytest.raises(EndOfInput):
                await self.soon(getting)
            for _ in range(2):
                with pytest.raises(EndOfInput):
                    await self.soon(queue.get())

    async def test_nothing_is_acked_before_it_is_acked_downstream(self, component: Buffer, tmp_path: Path) -> None:
        settled: list[Exception | None] = []
        sent = [self._lend(settled, number) for number in range(self.deliveries)]
        held: list[Delivery] = []
        async with self.opened(component, tmp_path) as queue:
            filling = asyncio.ensure_future(self._fill(queue, sent))
            while True:
                try:
                    held.append(await self.soon(queue.get()))
                except EndOfInput:
                    break
                assert settled == []
            await self.soon(filling)
            assert settled == []
            for delivery in held:
                await delivery.ack()
            assert settled == [None] * self.deliveries

    async def test_a_nack_goes_all_the_way_up(self, component: Buffer, tmp_path: Path) -> None:
        settled: list[Exception | None] = []
        error = PenstockError("refused by the suite")
        async with self.opened(component, tmp_path) as queue:
            filling = asyncio.ensure_future(self._fill(queue, [self._lend(settled, 0)]))
            try:
                while True:
                    await (await self.soon(queue.get())).nack(error)
            except EndOfInput:
                pass
            await self.soon(filling)
        assert settled == [error]

    async def test_the_checkpoint_reaches_the_end(self, component: Buffer, tmp_path: Path) -> None:
        checkpoint = Checkpoint("suite")
        sent = [await checkpoint.deliver(self.sample(2 * i, 2), i + 1) for i in range(self.deliveries)]
        async with self.opened(component, tmp_path) as queue, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fill(queue, sent))
            await self._drain(queue)
        assert checkpoint.position == self.deliveries

    @needs("keeps_rows")
    async def test_a_cancelled_get_loses_nothing(self, component: Buffer, tmp_path: Path) -> None:
        settled: list[Exception | None] = []
        sent = [self._lend(settled, number) for number in range(self.deliveries)]
        found: list[Delivery] = []
        async with self.opened(component, tmp_path) as queue, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fill(queue, sent))
            for pauses in (0, 1, 2, 3, 5, 8, 13):
                getting = asyncio.ensure_future(queue.get())
                for pause in range(pauses):
                    await asyncio.sleep(0 if pause % 4 else 0.001)
                getting.cancel()
                await asyncio.wait({getting}, timeout=self.patience)
                if not getting.cancelled() and getting.exception() is None:
                    found.append(getting.result())
                    await found[-1].ack()
            found += await self._drain(queue)
        assert self._rows(found) == self._rows(sent)
        assert settled == [None] * self.deliveries

    @needs("bounded")
    async def test_holds_no_more_than_it_says(self, component: Buffer, tmp_path: Path) -> None:
        most = component.most_held()
        assert most is not None, "a bounded buffer says how many deliveries it may hold"
        settled: list[Exception | None] = []
        taken = 0
        async with self.opened(component, tmp_path) as queue:
            putting = asyncio.ensure_future(queue.put(self._lend(settled, 0)))
            while await self.happens(putting):
                putting.result()
                taken += 1
                assert taken <= most, f"it took {taken} deliveries and said that it holds at most {most}"
                putting = asyncio.ensure_future(queue.put(self._lend(settled, taken)))
            draining = asyncio.ensure_future(self._drain(queue))
            await self.soon(putting)
            queue.end()
            await self.soon(draining)
        assert settled == [None] * (taken + 1)
