"""State and positions agree, whatever is settled in which order, and wherever saving them ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import pyarrow as pa
import pytest

from penstock.checkpoint import Ledger
from penstock.context import Context
from penstock.delivery import Delivery, Position, merge
from penstock.keyedstate import Changes, KeyedState, Prune
from penstock.state.memory import MemoryStore
from penstock.statelog import StateLog

BATCH = pa.record_batch({"n": [1]})
PARTITIONS = ("a", "b", "c")


class Failing(MemoryStore):
    """Fails where it is told to: before or after a save took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = ""

    async def save(self, positions: Mapping[str, Position]) -> None:
        if self.fails == "before positions":
            raise OSError(self.fails)
        await super().save(positions)
        if self.fails == "after positions":
            raise OSError(self.fails)

    async def save_state(self, stream: str, number: int, changes: Changes, prune: Prune) -> None:
        if self.fails == "before state":
            raise OSError(self.fails)
        await super().save_state(stream, number, changes, prune)
        if self.fails == "after state":
            raise OSError(self.fails)


class Life:
    """A stream between two crashes: it reads partitions, remembers which rows it has processed, and settles them."""

    def __init__(self, store: Failing) -> None:
        self.store = store
        self.ledger = Ledger(store.save, interval=3600)
        log = StateLog("s", store, store, move=self.ledger.move)
        self.context = Context("s", store, self.ledger, states=log.component("remembering"))
        self.log = log
        self.state: KeyedState
        self.read: list[Delivery] = []
        self.processed: list[Delivery] = []

    async def begin(self) -> None:
        await self.ledger.restart(self.log.save)
        self.state = await self.context.state()

    async def take(self, partition: str) -> None:
        checkpoint = await self.context.checkpoint(partition)
        offset = (checkpoint.position or 0) + 1
        delivery = await checkpoint.deliver(BATCH, offset)
        if offset % 5:
            self.read.append(delivery)
        else:
            await delivery.ack()  # filtered before anything is remembered

    def regroup(self, count: int) -> None:
        """Make one delivery of several, or of parts of several."""
        if len(self.read) >= count:
            some, self.read = self.read[:count], self.read[count:]
            parts = [each.split([BATCH, BATCH]) for each in some]
            whole = merge(BATCH, [first for first, _ in parts])
            rest = merge(BATCH, [second for _, second in parts])
            self.read[:0] = [whole, rest]

    def process(self) -> None:
        if self.read:
            delivery = self.read.pop(0)
            for loan in delivery.loans:
                assert loan.tracker is not None
                key = f"{loan.tracker.key}@{loan.position}"
                self.state.put(key, self.state.get(key, 0) + loan.shares)
            self.context.states.enter(delivery)
            self.processed.append(delivery)

    async def ack(self, at: int) -> None:
        if self.processed:
            await self.processed.pop(at % len(self.processed)).ack()

    async def save(self, fails: str) -> None:
        self.store.fails = fails
        try:
            await self.ledger.flush()
        except OSError:
            pass
        finally:
            self.store.fails = ""

    async def write(self, count: int, fails: str) -> None:
        """Write as an output does that keeps positions: with the rows, and what is refused again one by one."""
        self.store.fails = fails
        group, self.processed = self.processed[:count], self.processed[count:]
        try:
            await self._write(group)
        except OSError:
            self.store.fails = ""
            if fails == "before positions":  # refused
                for each in group:
                    await self._write([each])
            else:
                await self._write(group)
        finally:
            self.store.fails = ""

    async def _write(self, group: list[Delivery]) -> None:
        unsaved = self.log.prepare(merge(BATCH, group))
        try:
            await unsaved.keep()
            await self.store.save(unsaved.positions)
        except OSError:
            if self.store.fails != "after positions":
                raise
        self.log.note_written(unsaved)
        for each in group:
            await each.ack()


async def check(store: Failing) -> None:
    """What is remembered is what lies below the positions, each as often as it was processed before they moved."""
    life = Life(store)
    await life.begin()
    remembered = {key: life.state.get(key) for key in life.state}
    covered = set()
    for partition in PARTITIONS:
        position = (await life.context.checkpoint(partition)).position or 0
        covered |= {f"s/{partition}@{offset}" for offset in range(1, position + 1) if offset % 5}
    assert set(remembered) == covered


FAILURES = ["", "", "before state", "after state", "before positions", "after positions"]
STEPS = ["take", "take", "process", "process", "regroup", "crash"]
STEPS_IN_STATE = [*STEPS, "ack", "ack", "save", "save"]
STEPS_IN_OUTPUT = [*STEPS, "ack", "write", "write"]


async def live(chance: random.Random, steps: list[str]) -> None:
    """Do random steps, and see after each that a crash at this moment would do no harm."""
    store = Failing()
    life = Life(store)
    await life.begin()
    for _ in range(100):
        match chance.choice(steps):
            case "take":
                await life.take(chance.choice(PARTITIONS))
            case "process":
                life.process()
            case "regroup":
                life.regroup(chance.randint(1, 3))
            case "ack":
                await life.ack(chance.randint(0, 9))
            case "save":
                await life.save(chance.choice(FAILURES))
            case "write":
                await life.write(chance.randint(1, 4), chance.choice(FAILURES))
            case "crash" if chance.random() < 0.3:
                life = Life(store)
                await life.begin()
        await check(store)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("steps", [STEPS_IN_STATE, STEPS_IN_OUTPUT], ids=["state", "output"])
def test_positions_agree_with_the_state_whenever_it_crashes(steps: list[str], seed: int) -> None:
    for number in range(seed * 20, seed * 20 + 20):
        asyncio.run(live(random.Random(number), steps))
