from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.checkpoint import Checkpoint, Ledger
from penstock.context import Context
from penstock.delivery import Delivery, Position, merge
from penstock.errors import ConnectionLost, PenstockError, PermanentError
from penstock.state.memory import MemoryStore

BATCH = pa.record_batch({"n": [1, 2]})


class Moves(dict[str, Position]):
    """Where each key was last moved to."""

    def __call__(self, key: str, saved: Mapping[str, Position]) -> None:
        previous = self.get(key, {"position": 0, "rows": 0})
        assert saved["position"] > previous["position"]
        assert saved["rows"] >= previous["rows"]
        self[key] = saved


# -- Checkpoint --------------------------------------------------------------------------------------------------------


async def test_it_goes_on_from_what_was_saved() -> None:
    moves = Moves()
    checkpoint = Checkpoint("k", {"position": 7, "rows": 40}, moves)
    assert (checkpoint.position, checkpoint.rows) == (7, 40)
    delivery = await checkpoint.deliver(BATCH, 8)
    assert delivery.loans[0].rows_end == 42
    await delivery.ack()
    assert moves == {"k": {"position": 8, "rows": 42}}


async def test_what_a_buffer_counted_is_saved_with_the_position() -> None:
    moves = Moves()
    checkpoint = Checkpoint("k", {"position": 7, "rows": 40, "put": 55}, moves)
    first, became_nothing, last = [await checkpoint.deliver(BATCH, position) for position in (8, 9, 10)]
    first.loans[0].put, last.loans[0].put = 58, 60
    ahead = merge(BATCH, [first, became_nothing])
    assert ahead.positions() == {"k": {"position": 9, "rows": 44, "put": 58}}
    await became_nothing.ack()
    await last.ack()
    assert moves == {}
    await first.ack()
    assert moves == {"k": {"position": 10, "rows": 46, "put": 60}}


async def test_it_moves_only_past_what_is_acked() -> None:
    moves = Moves()
    checkpoint = Checkpoint("k", move=moves)
    first, second, third = [await checkpoint.deliver(BATCH, position) for position in (1, 2, 3)]
    await third.ack()
    await second.ack()
    assert moves == {}
    await first.ack()
    assert moves == {"k": {"position": 3, "rows": 6}}


async def test_a_nack_stops_it_for_ever() -> None:
    moves = Moves()
    checkpoint = Checkpoint("k", move=moves)
    first, second, third = [await checkpoint.deliver(BATCH, position) for position in (1, 2, 3)]
    error = PermanentError("not writable")
    await second.nack(error)
    await third.ack()
    await first.ack()
    assert moves == {"k": {"position": 1, "rows": 2}}
    assert third.positions() == {}
    with pytest.raises(PenstockError, match="k: a batch was refused: not writable") as raised:
        await checkpoint.deliver(BATCH, 4)
    assert raised.value.__cause__ is error


async def test_a_nack_wakes_a_reader_that_waits_for_room() -> None:
    checkpoint = Checkpoint("k", limit=1)
    first = await checkpoint.deliver(BATCH, 1)
    waiting = asyncio.ensure_future(checkpoint.deliver(BATCH, 2))
    await asyncio.sleep(0)
    await first.nack(PermanentError("no"))
    with pytest.raises(PenstockError, match="refused"):
        await asyncio.wait_for(waiting, 60)


async def test_a_loan_is_entered_in_order_and_never_waits() -> None:
    moves = Moves()
    checkpoint = Checkpoint("k", move=moves, limit=1)
    first, second = Delivery(BATCH, [checkpoint.lend(1)]), Delivery(BATCH, [checkpoint.lend(2, rows=5)])
    await second.ack()
    assert moves == {}
    await first.ack()
    assert moves == {"k": {"position": 2, "rows": 5}}


class Reading:
    """Deliveries of several sources in all the shapes they take on their way, and what is still unacked."""

    def __init__(self, seed: int, sources: int) -> None:
        self.random = random.Random(seed)
        self.moves = Moves()
        self.checkpoints = [Checkpoint(str(source), move=self.moves) for source in range(sources)]
        self.held: list[Delivery] = []
        self.nacked: set[tuple[str, int]] = set()

    async def read(self) -> None:
        checkpoint = self.random.choice(self.checkpoints)
        position = (checkpoint.position or 0) + 1
        self.held.append(await checkpoint.deliver(BATCH, position))

    def split(self) -> None:
        self.held += self._take().split([BATCH] * self.random.randrange(1, 4))

    def merge(self) -> None:
        self.held.append(merge(BATCH, [self._take() for _ in range(min(len(self.held), self.random.randrange(1, 4)))]))

    def _take(self) -> Delivery:
        return self.held.pop(self.random.randrange(len(self.held)))

    async def ack(self) -> None:
        delivery = self._take()
        promised, before = delivery.positions(), dict(self.moves)
        await delivery.ack()
        moved = {key: saved for key, saved in self.moves.items() if before.get(key) != saved}
        assert promised == moved, "what may be saved with a delivery is what is moved to once it is acked"

    async def nack(self) -> None:
        delivery = self._take()
        self.nacked |= {(loan.tracker.key, loan.position) for loan in delivery.loans if loan.tracker}
        await delivery.nack(PermanentError("no"))

    def check(self) -> None:
        unacked = {(loan.tracker.key, loan.position) for one in self.held for loan in one.loans if loan.tracker}
        for checkpoint in self.checkpoints:
            moved = self.moves.get(checkpoint.key, {"position": 0})["position"]
            first = min((position for key, position in unacked | self.nacked if key == checkpoint.key), default=None)
            expected = checkpoint.rows // BATCH.num_rows if first is None else first - 1
            assert moved == expected


@given(st.integers(0, 1 << 32), st.integers(1, 3), st.lists(st.sampled_from("rrrrsmaaan"), max_size=80))
def test_nothing_ever_passes_an_unacked_share(seed: int, sources: int, steps: list[str]) -> None:
    async def run() -> None:
        reading = Reading(seed, sources)
        for step in steps:
            if step == "r":
                if all(checkpoint.failure is None for checkpoint in reading.checkpoints):
                    await reading.read()
            elif reading.held:
                action = {"s": reading.split, "m": reading.merge, "a": reading.ack, "n": reading.nack}[step]
                waiting = action()
                if waiting is not None:
                    await waiting
            reading.check()
        while reading.held:
            await reading.ack()
            reading.check()

    asyncio.run(run())


# -- Ledger ------------------------------------------------------------------------------------------------------------


class Store:
    """Notes each save; fails as often as it is told to; takes as long as ``gate`` is closed."""

    def __init__(self, failures: int = 0) -> None:
        self.saves: list[dict[str, Position]] = []
        self.failures = failures
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered, self.failed, self.saved = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def save(self, positions: Mapping[str, Position]) -> None:
        self.entered.set()
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise OSError("disk full")
        self.saves.append(dict(positions))
        self.saved.set()


async def until_saved(store: Store) -> None:
    async with asyncio.timeout(60):
        await store.saved.wait()


async def test_moves_are_saved_together_behind_the_flow() -> None:
    store = Store()
    ledger = Ledger(store.save, interval=0.02)
    for position in range(100):
        ledger.move("a", position)
    ledger.move("b", 1)
    assert store.saves == []
    await until_saved(store)
    assert store.saves == [{"a": 99, "b": 1}]


async def test_flush_saves_at_once_and_only_what_moved() -> None:
    store = Store()
    ledger = Ledger(store.save, interval=3600)
    await ledger.flush()
    ledger.move("a", 1)
    await asyncio.sleep(0)
    await asyncio.wait_for(ledger.flush(), 60)
    await ledger.flush()
    assert store.saves == [{"a": 1}]
    ledger.move("a", 2)
    await asyncio.wait_for(ledger.flush(), 60)
    assert store.saves == [{"a": 1}, {"a": 2}]


async def test_flush_waits_for_a_save_under_way() -> None:
    """An older save that was abandoned could finish last and move positions back."""
    store = Store()
    ledger = Ledger(store.save, interval=0)
    store.gate.clear()
    ledger.move("a", 1)
    await store.entered.wait()
    ledger.move("a", 2)
    flushing = [asyncio.ensure_future(ledger.flush()) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert store.saves == []
    store.gate.set()
    await asyncio.wait_for(asyncio.gather(*flushing), 60)
    assert store.saves == [{"a": 1}, {"a": 2}]


async def test_a_failed_save_is_tried_again_without_a_further_move(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(failures=1)
    ledger = Ledger(store.save, interval=0)
    with caplog.at_level(logging.WARNING):
        ledger.move("a", 1)
        async with asyncio.timeout(60):
            await store.failed.wait()
        await asyncio.sleep(0)
        assert isinstance(ledger.failure, OSError)
        ledger.move("b", 2)
        await until_saved(store)
    assert store.saves == [{"a": 1, "b": 2}]
    assert ledger.failure is None
    assert "disk full" in caplog.text


async def test_a_newer_move_survives_a_failed_save() -> None:
    store = Store(failures=1)
    ledger = Ledger(store.save, interval=0)
    store.gate.clear()
    ledger.move("a", 1)
    await store.entered.wait()
    ledger.move("a", 2)
    store.gate.set()
    await until_saved(store)
    assert store.saves == [{"a": 2}]


async def test_flush_raises_what_the_save_raised_and_keeps_what_moved() -> None:
    store = Store(failures=2)
    ledger = Ledger(store.save, interval=3600)
    ledger.move("a", 1)
    with pytest.raises(OSError, match="disk full"):
        await asyncio.wait_for(ledger.flush(), 60)
    await ledger.flush()
    assert store.saves == [{"a": 1}]


async def test_two_flushes_do_not_save_at_once() -> None:
    """A save that began earlier and finished later would move positions back."""
    saving, gate = 0, asyncio.Event()
    saves: list[dict[str, Position]] = []

    async def save(positions: Mapping[str, Position]) -> None:
        nonlocal saving
        saving += 1
        assert saving == 1
        await gate.wait()
        saves.append(dict(positions))
        saving -= 1

    ledger = Ledger(save, interval=3600)
    flushing = []
    for position in (1, 2):
        flushing.append(asyncio.ensure_future(ledger.flush()))
        ledger.move("a", position)
        await _until_idle()
    gate.set()
    await asyncio.wait_for(asyncio.gather(*flushing), 60)
    assert saves == [{"a": 1}, {"a": 2}]


async def _until_idle() -> None:
    """Let every task that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


# -- Connections and partitions ----------------------------------------------------------------------------------------


class Connection:
    """Takes commits until it is closed."""

    def __init__(self) -> None:
        self.committed: list[Position] = []
        self.is_open = True

    async def commit(self, position: Position) -> None:
        if not self.is_open:
            raise ConnectionLost("the connection is closed")
        self.committed.append(position)


def lent() -> Context:
    store = MemoryStore()
    return Context("stream", store, Ledger(store.save, interval=3600))


async def flush(context: Context) -> None:
    for ledger in context.ledgers:
        await ledger.flush()


async def test_commits_go_to_the_connection_that_is_open() -> None:
    context, first, second = lent(), Connection(), Connection()
    checkpoint = await context.checkpoint("0", commit=first.commit)
    before, after = await checkpoint.deliver(BATCH, 1), await checkpoint.deliver(BATCH, 2)
    await before.ack()
    await flush(context)
    first.is_open = False
    assert await context.checkpoint("0", commit=second.commit) is checkpoint
    await after.ack()
    await flush(context)
    assert (first.committed, second.committed) == ([1], [2])


async def test_nothing_is_committed_after_a_partition_was_released() -> None:
    context, connection = lent(), Connection()
    checkpoint = await context.checkpoint("0", commit=connection.commit)
    acked, in_flight = await checkpoint.deliver(BATCH, 1), await checkpoint.deliver(BATCH, 2)
    await acked.ack()
    await context.release("0")
    await in_flight.ack()
    await flush(context)
    assert connection.committed == [1]


async def test_a_partition_is_released_though_its_connection_is_lost() -> None:
    context, lost, live = lent(), Connection(), Connection()
    lost.is_open = False
    delivery = await (await context.checkpoint("0", commit=lost.commit)).deliver(BATCH, 1)
    await delivery.ack()
    await context.release("0")
    await context.checkpoint("0", commit=live.commit)
    await flush(context)
    assert live.committed == []


async def test_a_released_partition_starts_from_the_store_when_assigned_again() -> None:
    context = lent()
    checkpoint = await context.checkpoint("0")
    acked, in_flight = await checkpoint.deliver(BATCH, 1), await checkpoint.deliver(BATCH, 2)
    await acked.ack()
    await context.release("0")
    again = await context.checkpoint("0")
    assert (again.position, again.rows) == (1, 2)
    await in_flight.ack()
    await flush(context)
    assert (await context.store.load("stream/0")) == {"position": 1, "rows": 2}
