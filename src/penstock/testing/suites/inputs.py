"""What every input promises: nothing is skipped, nothing that was acked comes again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ... import metadata
from ...checkpoint import CheckpointStore
from ...component import Input, MeasuredReader, Reader
from ...context import Context
from ...delivery import Delivery
from ...errors import EndOfInput, PenstockError
from ...state.memory import MemoryStore
from ..batches import rows_of
from ..contexts import lend_context
from .suite import Suite, needs


class InputSuite(Suite):
    """Give a ``component`` fixture: an input of at least five deliveries (five small batches, not one)."""

    replayable = True
    """What was not acked is delivered again when it is opened again."""
    checkpointed = True
    """Its positions are saved in the context's store (not by a broker), so they must be JSON."""
    committing = False
    """A broker keeps its positions: it passes ``commit`` for its checkpoints."""
    partitioned = False
    """Its deliveries belong to several checkpoints, each of which goes on by itself."""
    bounded = True
    """It ends; otherwise give ``expected``."""
    ordered = True
    """Rows come in the same order each time."""
    limited = True
    """It stops reading when as many deliveries are unsettled as the context allows."""
    requeues = False
    """A nacked delivery comes again by itself; otherwise reading stops after a nack."""

    @pytest.fixture
    def component(self) -> Input:
        """Return the input under test, with its source filled."""
        raise NotImplementedError("the suite needs a `component` fixture that returns the input")

    async def supply(self, component: Input, context: Context) -> None:
        """Make rows arrive, for an input that is pushed to: runs beside the reading and is cancelled with it."""

    def expected(self, component: Input) -> list[Any] | None:
        """Return all rows that it delivers, in order; None to take what a first reading gives."""
        return None

    def rows(self, component: Input, delivery: Delivery) -> list[Any]:
        """Return the rows of a delivery in a form that can be compared, decoded as a stream would decode them."""
        batch, codec = delivery.batch, component.payload_codec()
        decode = delivery.decoder or (codec.decoder() if codec is not None else None)
        if decode is not None and metadata.VALUE in batch.schema.names:
            batch = decode(batch.column(metadata.VALUE))
        return rows_of(metadata.without_metadata(batch))

    @asynccontextmanager
    async def opened(
        self, component: Input, directory: Path, store: CheckpointStore | None = None, **options: Any
    ) -> AsyncIterator[Reader]:
        """Open the input, with rows arriving; on leaving, everything that was acked is saved."""
        async with (
            lend_context(directory / "penstock-data", store, **options) as context,
            self.connected(component, context) as reader,
        ):
            yield reader
            if any(ledger is not context.ledger for ledger in context.ledgers):
                assert self.committing, "it passes `commit` for a checkpoint: the suite needs `committing = True`"
                await self._commit(context)

    @asynccontextmanager
    async def connected(self, component: Input, context: Context) -> AsyncIterator[Reader]:
        """Open the input in a context that is open already, with rows arriving."""
        opening = component.open(context)
        reader = await self.soon(opening.__aenter__())
        supplying = asyncio.ensure_future(self.supply(component, context))
        try:
            yield reader
        finally:
            supplying.cancel()
            await asyncio.wait({supplying})
            await self.soon(opening.__aexit__(None, None, None))
        if not supplying.cancelled():
            supplying.result()

    async def read_all(self, component: Input, reader: Reader, count: int | None, *, ack: bool) -> list[Any]:
        """Read ``count`` rows, or to the end when ``count`` is None."""
        rows: list[Any] = []
        while count is None or len(rows) < count:
            try:
                delivery = await self.soon(reader.read())
            except EndOfInput:
                break
            rows += self.rows(component, delivery)
            if ack:
                await delivery.ack()
        return rows

    async def everything(self, component: Input, directory: Path) -> list[Any]:
        """Return all rows of the input: as expected, else as a first reading without acks finds them."""
        expected = self.expected(component)
        if expected is None:
            assert self.bounded, "an unbounded input needs `expected`"
            async with self.opened(component, directory / "first") as reader:
                expected = await self.read_all(component, reader, None, ack=False)
        assert expected, "the suite needs an input with rows"
        return expected

    def count(self, rows: list[Any]) -> int | None:
        """Return how many rows to read for ``rows``: to the end, where there is one."""
        return None if self.bounded else len(rows)

    def assert_same(self, found: list[Any], expected: list[Any]) -> None:
        """Raise AssertionError unless the rows are the same, in order if the input promises that."""
        if not self.ordered:
            found, expected = sorted(found, key=repr), sorted(expected, key=repr)
        assert found == expected

    async def test_opens_closes_and_opens_again(self, component: Input, tmp_path: Path) -> None:
        store = MemoryStore()
        for _ in range(3):
            async with self.opened(component, tmp_path, store):
                pass

    def test_it_is_a_frozen_value(self, component: Input) -> None:
        assert component.model_copy(deep=True) == component
        with pytest.raises(ValidationError):
            component.name = "another"  # type: ignore[misc]

    async def test_reads_everything_in_order(self, component: Input, tmp_path: Path) -> None:
        expected = await self.everything(component, tmp_path)
        async with self.opened(component, tmp_path) as reader:
            self.assert_same(await self.read_all(component, reader, self.count(expected), ack=True), expected)

    @needs("bounded")
    async def test_end_of_input_is_said_each_time(self, component: Input, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as reader:
            await self.read_all(component, reader, None, ack=True)
            for _ in range(3):
                with pytest.raises(EndOfInput):
                    await self.soon(reader.read())

    @needs("replayable")
    async def test_unacked_is_delivered_again_after_a_restart(self, component: Input, tmp_path: Path) -> None:
        expected, store = await self.everything(component, tmp_path), MemoryStore()
        async with self.opened(component, tmp_path, store) as reader:
            for _ in range(3):
                await self.soon(reader.read())
        async with self.opened(component, tmp_path, store) as reader:
            self.assert_same(await self.read_all(component, reader, self.count(expected), ack=True), expected)

    @needs("replayable", "ordered")
    async def test_resumes_exactly_after_the_last_ack(self, component: Input, tmp_path: Path) -> None:
        expected, store = await self.everything(component, tmp_path), MemoryStore()
        acked: list[Any] = []
        async with self.opened(component, tmp_path, store) as reader:
            for _ in range(2):
                delivery = await self.soon(reader.read())
                acked += self.rows(component, delivery)
                await delivery.ack()
            await self.soon(reader.read())
        rest = expected[len(acked) :]
        async with self.opened(component, tmp_path, store) as reader:
            assert acked + await self.read_all(component, reader, self.count(rest), ack=True) == expected

    @needs("replayable", "bounded")
    async def test_what_was_acked_never_comes_again(self, component: Input, tmp_path: Path) -> None:
        store = MemoryStore()
        async with self.opened(component, tmp_path, store) as reader:
            assert await self.read_all(component, reader, None, ack=True)
        async with self.opened(component, tmp_path, store) as reader:
            assert await self.read_all(component, reader, None, ack=True) == []

    @needs("replayable", "ordered")
    async def test_out_of_order_acks_never_skip(self, component: Input, tmp_path: Path) -> None:
        """Of A B C D E only A, B and D are acked: C and E must come again, D may, A and B must not."""
        expected, store = await self.everything(component, tmp_path), MemoryStore()
        async with self.opened(component, tmp_path, store) as reader:
            a, b, c, d, _e = [await self._one_of_five(reader) for _ in range(5)]
            for delivery in (a, b, d):
                await delivery.ack()
        before, middle = (sum(len(self.rows(component, one)) for one in some) for some in ((a, b), (c, d)))
        rest = expected[before:]
        async with self.opened(component, tmp_path, store) as reader:
            if (self.checkpointed or self.committing) and not self.partitioned:
                assert await self.read_all(component, reader, self.count(rest), ack=True) == rest
                return
            without_d = expected[before : before + len(self.rows(component, c))] + expected[before + middle :]
            found = await self.read_all(component, reader, self.count(without_d), ack=True)
            assert [row for row in without_d if row not in found] == []
            assert [row for row in expected[:before] if row in found] == []

    async def _one_of_five(self, reader: Reader) -> Delivery:
        try:
            return await self.soon(reader.read())
        except EndOfInput:
            raise AssertionError("the suite needs an input of at least five deliveries") from None

    @needs("replayable")
    async def test_a_nacked_delivery_comes_again(self, component: Input, tmp_path: Path) -> None:
        expected, store = await self.everything(component, tmp_path), MemoryStore()
        found: list[Any] = []
        async with self.opened(component, tmp_path, store) as reader:
            refused = await self.soon(reader.read())
            nacked = self.rows(component, refused)
            await refused.nack(PenstockError("refused by the suite"))
            if self.requeues:
                found = await self.read_all(component, reader, len(expected), ack=True)
            else:
                with pytest.raises(PenstockError):
                    await self.read_all(component, reader, None, ack=False)
        if not self.requeues:
            async with self.opened(component, tmp_path, store) as reader:
                found = await self.read_all(component, reader, self.count(expected), ack=True)
        assert [row for row in nacked if row not in found] == []

    async def test_a_cancelled_read_loses_nothing(self, component: Input, tmp_path: Path) -> None:
        expected = await self.everything(component, tmp_path)
        found: list[Any] = []
        async with self.opened(component, tmp_path) as reader:
            for pauses in (0, 1, 2, 3, 5, 8, 13):
                delivery = await self._interrupted(reader, pauses)
                if delivery is not None:
                    found += self.rows(component, delivery)
                    await delivery.ack()
            rest = None if self.bounded else len(expected) - len(found)
            found += await self.read_all(component, reader, rest, ack=True)
        self.assert_same(found, expected)

    async def _interrupted(self, reader: Reader, pauses: int) -> Delivery | None:
        reading = asyncio.ensure_future(reader.read())
        for pause in range(pauses):
            await asyncio.sleep(0 if pause % 4 else 0.001)
        reading.cancel()
        await asyncio.wait({reading}, timeout=self.patience)
        if reading.cancelled() or isinstance(reading.exception(), EndOfInput):
            return None
        return reading.result()

    @needs("limited")
    async def test_stops_reading_at_the_limit(self, component: Input, tmp_path: Path) -> None:
        """With one unsettled delivery allowed, reading waits; a read cancelled there loses nothing."""
        expected = await self.everything(component, tmp_path)
        found: list[Any] = []
        async with self.opened(component, tmp_path, limit=1) as reader:
            held = [await self.soon(reader.read())]
            reading = asyncio.ensure_future(reader.read())
            while await self.happens(reading):
                held.append(reading.result())
                reading = asyncio.ensure_future(reader.read())
            reading.cancel()
            await asyncio.wait({reading}, timeout=self.patience)
            for delivery in held:
                found += self.rows(component, delivery)
                await delivery.ack()
            assert len(found) < len(expected), "it read everything although nothing was settled"
            rest = None if self.bounded else len(expected) - len(found)
            found += await self.read_all(component, reader, rest, ack=True)
        self.assert_same(found, expected)

    async def test_tells_where_rows_came_from(self, component: Input, tmp_path: Path) -> None:
        async with self.opened(component, tmp_path) as reader:
            delivery = await self.soon(reader.read())
            batch = metadata.attach(delivery.batch, delivery.origin)
            await delivery.ack()
        for field in metadata.SCHEMA:
            assert field.name in batch.schema.names, f"{field.name} is missing: the delivery has no origin"
            assert batch.schema.field(field.name).type == field.type
            assert len(batch.column(field.name)) == batch.num_rows
        batch.validate(full=True)
        assert set(batch.column("__meta_source").to_pylist()) <= {component.type_name}
        assert batch.column("__meta_ingest_time").null_count == 0

    @needs("replayable", "checkpointed")
    async def test_positions_are_json(self, component: Input, tmp_path: Path) -> None:
        store = MemoryStore()
        async with self.opened(component, tmp_path, store) as reader:
            for _ in range(2):
                delivery = await self.soon(reader.read())
                positions = delivery.positions()
                assert positions, "acking this delivery would move no checkpoint"
                assert json.loads(json.dumps(positions)) == positions
                await delivery.ack()
        assert store.positions
        assert json.loads(json.dumps(store.positions)) == store.positions

    async def test_progress_only_grows(self, component: Input, tmp_path: Path) -> None:
        expected = await self.everything(component, tmp_path)
        async with self.opened(component, tmp_path) as reader:
            done, found = 0, 0
            while isinstance(reader, MeasuredReader) and found < len(expected):
                delivery = await self.soon(reader.read())
                found += len(self.rows(component, delivery))
                await delivery.ack()
                now = reader.progress()
                assert now.done >= done
                assert now.total is None or now.done <= now.total
                done = now.done

    @needs("replayable", "committing")
    async def test_commits_go_to_the_connection_that_is_open(self, component: Input, tmp_path: Path) -> None:
        """What is acked after the connection was lost, also of deliveries before, is committed by the next one."""
        expected = await self.everything(component, tmp_path)
        async with lend_context(tmp_path / "penstock-data") as context:
            async with self.connected(component, context) as reader:
                first, held = [await self._one_of_five(reader) for _ in range(2)]
                found = self.rows(component, first) + self.rows(component, held)
                await first.ack()
            async with self.connected(component, context) as reader:
                await held.ack()
                await self._read_until(component, reader, expected, found)
                await self._commit(context)
        async with self.opened(component, tmp_path) as reader:
            reading = asyncio.ensure_future(reader.read())
            if await self.happens(reading):
                with pytest.raises(EndOfInput):
                    reading.result()
            reading.cancel()
            await asyncio.wait({reading}, timeout=self.patience)

    @needs("replayable", "committing")
    async def test_what_was_in_flight_when_its_partition_was_released_comes_again(
        self, component: Input, tmp_path: Path
    ) -> None:
        await self.everything(component, tmp_path)
        async with lend_context(tmp_path / "penstock-data") as context, self.connected(component, context) as reader:
            acked, held = [await self._one_of_five(reader) for _ in range(2)]
            await acked.ack()
            for key in list(context.checkpoints):
                await context.release(key.removeprefix(context.name).removeprefix("/"))
            await held.ack()
            await self._commit(context)
        found: list[Any] = []
        async with self.opened(component, tmp_path) as reader:
            await self._read_until(component, reader, self.rows(component, held), found)
        assert [row for row in self.rows(component, acked) if row in found] == []

    async def _read_until(self, component: Input, reader: Reader, expected: list[Any], found: list[Any]) -> None:
        """Read and ack, adding to ``found``, until all ``expected`` rows are in it."""
        while any(row not in found for row in expected):
            try:
                delivery = await self.soon(reader.read())
            except EndOfInput:
                raise AssertionError("rows that nobody acked did not come again") from None
            found += self.rows(component, delivery)
            await delivery.ack()

    async def _commit(self, context: Context) -> None:
        """Commit what is acked while the connection is open."""
        for ledger in context.ledgers:
            try:
                await self.soon(ledger.flush())
            except Exception as error:
                raise AssertionError(f"a commit did not go to the connection that is open: {error}") from error
