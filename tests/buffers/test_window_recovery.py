"""Windows across crashes: each is written once with the rows together with the positions, else never in part."""

from __future__ import annotations

import asyncio
import random
import tempfile
import weakref
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.buffers._replay import Replay
from penstock.buffers.tumbling_window import TumblingWindow
from penstock.checkpoint import Checkpoint, Ledger
from penstock.component import Buffer, Queue
from penstock.context import Context
from penstock.delivery import Delivery, Position
from penstock.errors import EndOfInput
from penstock.state.memory import MemoryStore

INTERVAL, SLIDE, GAP, JITTER, SKEW = 10, 4, 6, 4, 100
WINDOWS = {
    "tumbling_window": {"interval": f"{INTERVAL}s"},
    "sliding_window": {"size": f"{INTERVAL}s", "slide": f"{SLIDE}s"},
    "session_window": {"gap": f"{GAP}s"},
}
Life = tuple[int | None, int | None]
Cut = tuple[int | None, int | None, bool]
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


def expected(rows: list[Row], kind: str = "tumbling_window") -> dict[int, list[int]]:
    """The rows of each window, by its start."""
    windows: dict[int, list[int]] = defaultdict(list)
    begin = before = -(1 << 40)
    for number, time, copies in sorted((row for row in rows if row[2]), key=lambda row: row[1]):
        begin, before = (time if time - before >= GAP else begin), time
        if kind == "session_window":
            starts = [begin]
        elif kind == "sliding_window":
            starts = list(range(time // SLIDE * SLIDE, time - INTERVAL, -SLIDE))
        else:
            starts = [time // INTERVAL * INTERVAL]
        for start in starts:
            windows[start] += [number] * copies
    return {start: sorted(numbers) for start, numbers in windows.items()}


class World:
    """A source of several partitions, a store that survives crashes, and what was written."""

    def __init__(
        self, seed: int, rows: list[Row], partitions: int, transactional: bool, kind: str = "tumbling_window"
    ) -> None:
        self.random, self.saving = random.Random(seed), random.Random(seed)
        self.rows, self.partitions, self.transactional = rows, partitions, transactional
        self.kind, self.updates = kind, False
        self.max_rows = random.Random(seed + 1).choice((3, 20, 1000))
        self.store = MemoryStore()
        self._folder = tempfile.TemporaryDirectory()
        weakref.finalize(self, self._folder.cleanup)
        self.folder = Path(self._folder.name)
        self.written: list[tuple[int, list[int]]] = []

    async def run(self, writes: int | None, reads: int | None = None, cut_off: bool = False) -> None:
        """Go on from what is saved; crash after so many writes, stop after so many reads, or reach the end.

        Where it is ``cut_off``, it crashes after so many reads too.
        """
        ledger = LazyLedger(self.store)
        context = Context("s", self.store, ledger, self.folder)
        disorder = f"{JITTER if self.partitions == 1 else JITTER + SKEW}s"
        window = Buffer.parse(
            {
                "type": self.kind,
                **WINDOWS[self.kind],
                "time": "event",
                "timestamp_field": "at",
                "timestamp_unit": "s",
                "max_rows": self.max_rows,
                **(
                    {"late": "update", "allowed_lateness": disorder} if self.updates else {"out_of_orderness": disorder}
                ),
            }
        )
        async with window.open(context) as queue:
            feeding = asyncio.create_task(self._feed(context, queue, ledger, reads))
            writing = asyncio.create_task(self._write(queue, ledger, writes))
            await asyncio.wait({writing, feeding}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done() and not (feeding.result() and cut_off):
                queue.end()
                await writing
            for task in (feeding, writing):
                task.cancel()
            for outcome in await asyncio.gather(feeding, writing, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
            assert queue.late_rows == 0  # type: ignore[attr-defined]

    async def _feed(self, context: Context, queue: Queue, ledger: LazyLedger, reads: int | None) -> bool:
        """Read and put; returns whether it stopped before the end."""
        own = [self.rows[partition :: self.partitions] for partition in range(self.partitions)]
        checkpoints = [await context.checkpoint(f"{partition}") for partition in range(self.partitions)]
        at = [checkpoint.position or 0 for checkpoint in checkpoints]
        window = await self.store.load("s/window")
        furthest = window["position"]["furthest"] if window is not None else {}
        again = [furthest.get(checkpoint.key, (0, 0))[0] for checkpoint in checkpoints]
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
            if not self.transactional and self.saving.random() < 0.3:
                await self.store.save(ledger.waiting)
        return reads == 0

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
    lambda seed, count, expanding, partitions, transactional, kind: World(
        seed, make_rows(random.Random(seed), count, expanding), partitions, transactional, kind
    ),
    st.integers(0, 1 << 32),
    st.integers(0, 120),
    st.booleans(),
    st.sampled_from((1, 2)),
    st.just(False),
    st.sampled_from(sorted(WINDOWS)),
)
crashes = st.lists(
    st.tuples(st.integers(0, 4), st.none(), st.just(True)) | st.tuples(st.none(), st.integers(0, 12), st.just(True)),
    max_size=6,
)
stops_too = st.lists(st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(0, 12)), max_size=8)
cuts_too = st.lists(st.tuples(st.none() | st.integers(0, 4), st.none() | st.integers(0, 12), st.booleans()), max_size=8)


def live(world: World, crashes: Sequence[Life | Cut]) -> None:
    async def lives() -> None:
        for life in crashes:
            await asyncio.wait_for(world.run(*life), 60)
        await asyncio.wait_for(world.run(None), 60)

    asyncio.run(lives())


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(worlds, crashes)
def test_each_window_is_written_once_when_rows_and_positions_are_one(world: World, crashes: list[Cut]) -> None:
    world.transactional = True
    live(world, crashes)
    assert sorted(world.written) == sorted(expected(world.rows, world.kind).items())


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(worlds, crashes)
def test_no_window_is_ever_written_in_part(world: World, crashes: list[Cut]) -> None:
    live(world, crashes)
    windows = expected(world.rows, world.kind)
    assert {start for start, _ in world.written} == set(windows)
    for start, numbers in world.written:
        assert numbers == windows[start]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(worlds.filter(lambda world: world.kind != "session_window"), crashes, st.booleans())
def test_the_last_update_of_a_window_has_all_its_rows(world: World, crashes: list[Cut], transactional: bool) -> None:
    world.updates, world.transactional = True, transactional
    live(world, crashes)
    assert dict(world.written) == expected(world.rows, world.kind)


@pytest.mark.slow
@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize("kind", WINDOWS)
def test_a_crash_after_every_single_write(kind: str, transactional: bool) -> None:
    rows = make_rows(random.Random(7), 200, expanding=True)
    world = World(7, rows, 2, transactional, kind)
    live(world, [(1, None)] * 60)
    windows = expected(rows, kind)
    assert all(numbers == windows[start] for start, numbers in world.written)
    assert {start for start, _ in world.written} == set(windows)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(worlds, stops_too)
@example(World(183, make_rows(random.Random(183), 26, True), 2, False), [(2, None), (None, 1)])
def test_no_row_is_lost_when_a_stop_lets_go_of_open_windows(world: World, lives: list[Life]) -> None:
    """A window whose rows came before and after a stop goes out in two batches, which share no row."""
    world.transactional = True
    live(world, lives)
    written: dict[int, list[int]] = defaultdict(list)
    for start, numbers in world.written:
        written[start] += numbers
    if world.kind == "session_window":  # what is left of a session after a stop begins later
        ids = [number for number, _, copies in world.rows for _ in range(copies)]
        assert sorted(number for numbers in written.values() for number in numbers) == ids
    else:
        assert {start: sorted(numbers) for start, numbers in written.items()} == expected(world.rows, world.kind)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(worlds, cuts_too)
def test_no_row_is_lost_when_positions_are_saved_later(world: World, lives: list[Cut]) -> None:
    live(world, lives)
    written: dict[int, Counter[int]] = defaultdict(Counter)
    for start, numbers in world.written:
        written[start] += Counter(numbers)
    windows = expected(world.rows, world.kind)
    if world.kind == "session_window":  # what is left of a session after a stop begins later
        ids = [number for numbers in windows.values() for number in numbers]
        windows, written = {0: ids}, {0: sum(written.values(), Counter())}
    assert written.keys() == windows.keys()
    for start, numbers in windows.items():
        assert written[start] >= Counter(numbers)


async def test_rows_read_again_in_other_cuts_keep_their_numbers() -> None:
    store = MemoryStore()
    rows = [(0, 1, 2), (1, 2, 1), (2, 12, 1), (3, 3, 1), (4, 4, 1)]
    window = TumblingWindow(
        interval="10s", time="event", timestamp_field="at", timestamp_unit="s", out_of_orderness="1m"
    )
    written: list[list[int]] = []

    async def life(reads: list[int], writes: int) -> None:
        ledger = LazyLedger(store)
        context = Context("s", store, ledger, Path())
        async with window.open(context) as queue:
            checkpoint = await context.checkpoint("0")
            for count in reads:
                at = checkpoint.position or 0
                payloads = pa.record_batch({"__value__": pa.array([b""] * count)})
                delivery = await checkpoint.deliver(payloads, at + count)
                await queue.put(delivery.with_batch(decoded(rows[at : at + count])))
            if writes:
                queue.end()
            for _ in range(writes):
                delivery = await queue.get()
                written.append(delivery.batch.column("id").to_pylist())
                await delivery.ack()
            await store.save(ledger.waiting)

    await life([3], 1)  # stopped, then killed before the second window was written
    await life([1], 0)  # killed once a part of what is in the first window was read again and saved
    await life([1, 1, 1, 1], 2)
    assert written == [[0, 0, 1], [3, 4], [2]]


async def test_a_source_that_went_on_without_windows_is_not_waited_for() -> None:
    store = MemoryStore()
    position = {"marks": [[10, {"s/0": 6}]], "furthest": {"s/0": [4, 6]}}
    for read, put, awaited, known in ((3, 4, {"s/0": 6}, True), (4, 6, {}, False), (9, 4, {}, False)):
        await store.save({"s/0": {"position": read, "rows": read, "put": put}})
        replay = Replay(store)
        await replay.resume(position)
        assert replay.awaited == awaited
        checkpoint = Checkpoint("s/0", await store.load("s/0"))
        source, first = await replay.number(await checkpoint.deliver(decoded([(0, 0, 1)]), read + 1))
        assert replay.is_known(source, first) == known
