"""Windows across crashes: each is written once with the rows together with the positions, else never in part."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.buffers._replay import put_when
from penstock.buffers.tumbling_window import TumblingWindow
from penstock.checkpoint import Checkpoint, Ledger
from penstock.component import Context, Queue
from penstock.delivery import Delivery, Position
from penstock.errors import EndOfInput
from penstock.state.memory import MemoryStore

INTERVAL, JITTER, SKEW = 10, 4, 100
Row = tuple[int, int, int]
"""id, time in s, how many rows its payload decodes to"""


class LazyLedger(Ledger):
    """Saves when it is told to: what has moved since is lost in a crash."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store.save)
        self.waiting: dict[str, Position] = {}

    def move(self, key: str, position: Position) -> None:
        self.waiting[key] = position


def make_rows(random_: random.Random, count: int, expanding: bool) -> list[Row]:
    clock, rows = random_.randrange(-50, 50), []
    for number in range(count):
        clock += random_.choice((0, 0, 1, 1, 2, 15))
        rows.append((number, clock - random_.randrange(JITTER + 1), random_.choice((0, 1, 1, 2)) if expanding else 1))
    return rows


def decoded(rows: list[Row]) -> pa.RecordBatch:
    cells = [(number, time) for number, time, copies in rows for _ in range(copies)]
    return pa.record_batch(
        {
            "id": pa.array([number for number, _ in cells], pa.int64()),
            "at": pa.array([time for _, time in cells], pa.int64()),
        }
    )


def expected(rows: list[Row]) -> dict[int, list[int]]:
    windows: dict[int, list[int]] = defaultdict(list)
    for number, time, copies in rows:
        windows[time // INTERVAL * INTERVAL] += [number] * copies
    return {start: sorted(numbers) for start, numbers in windows.items() if numbers}


class World:
    """A source of several partitions, a store that survives crashes, and what was written."""

    def __init__(self, seed: int, rows: list[Row], partitions: int, transactional: bool) -> None:
        self.random = random.Random(seed)
        self.rows, self.partitions, self.transactional = rows, partitions, transactional
        self.updates = False
        self.store = MemoryStore()
        self.written: list[tuple[int, list[int]]] = []

    async def run(self, writes: int | None, reads: int | None = None) -> None:
        """Go on from what is saved; crash after so many writes, stop after so many reads, or reach the end."""
        ledger = LazyLedger(self.store)
        context = Context("s", self.store, ledger, Path())
        disorder = f"{JITTER if self.partitions == 1 else JITTER + SKEW}s"
        window = TumblingWindow.model_validate(
            {
                "interval": f"{INTERVAL}s",
                "time": "event",
                "timestamp_field": "at",
                "timestamp_unit": "s",
                **(
                    {"late": "update", "allowed_lateness": disorder} if self.updates else {"out_of_orderness": disorder}
                ),
            }
        )
        async with window.open(context) as queue:
            tasks = {asyncio.create_task(self._feed(context, queue, reads))}
            writing = asyncio.create_task(self._write(queue, ledger, writes))
            await asyncio.wait(
                {writing, *tasks}, return_when=asyncio.FIRST_EXCEPTION if writes is None else "FIRST_COMPLETED"
            )
            await writing
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert queue.late_rows == 0  # type: ignore[attr-defined]

    async def _feed(self, context: Context, queue: Queue, reads: int | None) -> None:
        own = [self.rows[partition :: self.partitions] for partition in range(self.partitions)]
        checkpoints = [await context.checkpoint(f"{partition}") for partition in range(self.partitions)]
        at = [checkpoint.position or 0 for checkpoint in checkpoints]
        bounds: Mapping[str, Any] = (await self.store.load("s/window") or {"position": {"bounds": {}}})["position"][
            "bounds"
        ]
        again = [bounds[checkpoint.key][-1][0] if checkpoint.key in bounds else 0 for checkpoint in checkpoints]
        while reads != 0 and any(at[partition] < len(own[partition]) for partition in range(self.partitions)):
            reads = None if reads is None else reads - 1
            behind = [partition for partition in range(self.partitions) if at[partition] < again[partition]]
            if behind:
                partition = self.random.choice(behind)
            else:
                left = [partition for partition in range(self.partitions) if at[partition] < len(own[partition])]
                partition = min(left, key=lambda partition: own[partition][at[partition]][0])
            rows = own[partition][
                at[partition] : at[partition] + self.random.randrange(1, 8 if self.partitions == 1 else 4)
            ]
            at[partition] += len(rows)
            await self._put(queue, checkpoints[partition], rows, at[partition])
            await asyncio.sleep(0)
        queue.end()

    async def _put(self, queue: Queue, checkpoint: Checkpoint, rows: list[Row], position: int) -> None:
        delivery = await checkpoint.deliver(pa.record_batch({"__value__": pa.array([b""] * len(rows))}), position)
        batch = decoded(rows)
        if not batch.num_rows:
            await delivery.ack()
            return
        cut = self.random.randrange(batch.num_rows)
        parts = [batch] if not cut else [batch.slice(0, cut), batch.slice(cut)]
        for part in delivery.split(parts):
            await queue.put(part)

    async def _write(self, queue: Queue, ledger: LazyLedger, writes: int | None) -> None:
        pending: list[Delivery] = []
        while writes is None or writes > 0:
            try:
                pending.append(await queue.get())
            except EndOfInput:
                for delivery in pending:
                    await self._settle(delivery, ledger)
                await self.store.save(ledger.waiting)
                return
            if len(pending) > self.random.randrange(3):
                await self._settle(pending.pop(0), ledger)
                writes = None if writes is None else writes - 1

    async def _settle(self, delivery: Delivery, ledger: LazyLedger) -> None:
        starts = delivery.batch.column("window_start").unique()
        assert len(starts) == 1
        self.written.append((starts[0].value // 1_000_000, sorted(delivery.batch.column("id").to_pylist())))
        if self.transactional:
            await self.store.save(delivery.positions())
            ledger.waiting.clear()
        await delivery.ack()
        if self.transactional:
            ledger.waiting.clear()
        elif self.random.random() < 0.4:
            await self.store.save(ledger.waiting)


worlds = st.builds(
    lambda seed, count, expanding, partitions, transactional: World(
        seed, make_rows(random.Random(seed), count, expanding), partitions, transactional
    ),
    st.integers(0, 1 << 32),
    st.integers(0, 120),
    st.booleans(),
    st.sampled_from((1, 2)),
    st.just(False),
)
crashes = st.lists(st.tuples(st.integers(0, 4), st.none()), max_size=6)
stops_too = st.lists(st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(0, 12)), max_size=8)


def live(world: World, crashes: Sequence[tuple[int | None, int | None]]) -> None:
    async def lives() -> None:
        for writes, reads in crashes:
            await asyncio.wait_for(world.run(writes, reads), 10)
        await asyncio.wait_for(world.run(None), 10)

    asyncio.run(lives())


@settings(max_examples=150, deadline=None)
@given(worlds, crashes)
def test_each_window_is_written_once_when_rows_and_positions_are_one(
    world: World, crashes: list[tuple[int, None]]
) -> None:
    world.transactional = True
    live(world, crashes)
    assert sorted(world.written) == sorted(expected(world.rows).items())


@settings(max_examples=150, deadline=None)
@given(worlds, crashes)
def test_no_window_is_ever_written_in_part(world: World, crashes: list[tuple[int, None]]) -> None:
    live(world, crashes)
    windows = expected(world.rows)
    assert {start for start, _ in world.written} == set(windows)
    for start, numbers in world.written:
        assert numbers == windows[start]


@settings(max_examples=150, deadline=None)
@given(worlds, crashes, st.booleans())
def test_the_last_update_of_a_window_has_all_its_rows(
    world: World, crashes: list[tuple[int, None]], transactional: bool
) -> None:
    world.updates, world.transactional = True, transactional
    live(world, crashes)
    assert dict(world.written) == expected(world.rows)


@pytest.mark.parametrize("transactional", [True, False])
def test_a_crash_after_every_single_write(transactional: bool) -> None:
    rows = make_rows(random.Random(7), 200, expanding=True)
    world = World(7, rows, 2, transactional)
    live(world, [(1, None)] * 60)
    windows = expected(rows)
    assert all(numbers == windows[start] for start, numbers in world.written)
    assert {start for start, _ in world.written} == set(windows)


@settings(max_examples=150, deadline=None)
@given(worlds, stops_too)
def test_no_row_is_lost_when_a_stop_lets_go_of_open_windows(
    world: World, lives: list[tuple[int | None, int | None]]
) -> None:
    """A window whose rows came before and after a stop goes out in two batches, which share no row."""
    world.transactional = True
    live(world, lives)
    written: dict[int, list[int]] = defaultdict(list)
    for start, numbers in world.written:
        written[start] += numbers
    assert {start: sorted(numbers) for start, numbers in written.items()} == expected(world.rows)


def test_what_was_put_when_so_much_was_read() -> None:
    bounds = [[10, 0], [15, 5], [20, 35], [25, 40]]
    assert put_when(9, bounds) is None
    assert [put_when(read, bounds) for read in (10, 13, 15, 20, 22, 25, 99)] == [0, 3, 5, 35, 37, 40, 40]
    assert put_when(17, bounds) == 5, "no row of a loan that was not settled is known to be put"
