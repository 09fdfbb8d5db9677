"""Keyed state in a stream: one batch at a time in the order of reading, and nothing of a call that failed."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import ConfigError, Context, Engine, Output, PenstockError, Processor, Stream, TransientError
from penstock.buffers.memory import Memory as MemoryBuffer
from penstock.component import Process
from penstock.delivery import Batch
from penstock.errors import RowsRejected
from penstock.inputs.memory import Memory
from penstock.keyedstate import MAX_KEY_SIZE, KeyedState
from penstock.outputs import memory
from penstock.processors.batch import Batch as BatchProcessor
from penstock.state.memory import MemoryStore
from penstock.statelog import StateLog


class Running(Processor, type="test_running"):
    """Add up a column, over all rows that were ever read; takes a random time, and fails now and then."""

    on_loop: bool = False
    fails: bool = False
    _states: list[KeyedState] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        state = await context.state()

        def add(batch: Batch) -> Sequence[Batch]:
            sums = []
            for n in batch.column("n").to_pylist():
                state.put("sum", state.get("sum", 0) + n)
                sums.append(state.get("sum"))
            if self.fails and random.random() < 0.3:
                raise TransientError("not now")
            rejected = {at: "negative" for at, n in enumerate(batch.column("n").to_pylist()) if n < 0}
            if rejected:
                raise RowsRejected(rejected)
            return [batch.append_column("sum", pa.array(sums))]

        async def add_on_loop(batch: Batch) -> Sequence[Batch]:
            await asyncio.sleep(random.random() * 0.003)
            return add(batch)

        def add_in_thread(batch: Batch) -> Sequence[Batch]:
            time.sleep(random.random() * 0.003)
            return add(batch)

        yield add_on_loop if self.on_loop else add_in_thread


class Pause(Processor, type="test_pause"):
    """Take a random time."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        time.sleep(random.random() * 0.003)
        return [batch]


async def run(folder: Path, rows: Sequence[int], *pipeline: Processor, state: str = "state.db", **options: Any) -> None:
    messages = [pa.record_batch({"n": [n]}) for n in rows]
    stream = Stream(
        id=options.pop("id", "s"),
        input=Memory(messages=messages),
        pipeline=list(pipeline),
        output=memory.Memory(key=str(folder)),
        retry={"initial": "1ms", "maximum": "2ms"},
        restart={"attempts": 0},
        **options,
    )
    await Engine([stream], state=str(folder / state), data=folder / "data").run()


def written(folder: Path) -> list[dict[str, Any]]:
    return memory.rows(str(folder))


@pytest.mark.parametrize("on_loop", [True, False])
async def test_batches_are_processed_in_the_order_of_reading(tmp_path: Path, on_loop: bool) -> None:
    await run(tmp_path, range(60), Pause(), Running(on_loop=on_loop, fails=True), Pause())
    assert [row["n"] for row in written(tmp_path)] == list(range(60))
    assert [row["sum"] for row in written(tmp_path)] == [sum(range(n + 1)) for n in range(60)]


async def test_state_goes_on_in_the_next_run(tmp_path: Path) -> None:
    await run(tmp_path, [1, 2], Running())
    await run(tmp_path, [1, 2, 3, 4], Running())
    assert written(tmp_path)[-1] == {"n": 4, "sum": 10}


async def test_rows_that_are_refused_leave_no_trace(tmp_path: Path) -> None:
    refused = memory.Memory(key=f"{tmp_path}-refused")
    await run(tmp_path, [1, -1, 2], BatchProcessor(count=3), Running(), error_output=refused)
    assert [row["sum"] for row in written(tmp_path)] == [1, 3]
    assert len(memory.rows(f"{tmp_path}-refused")) == 1


async def test_it_stands_before_and_behind_buffers(tmp_path: Path) -> None:
    """Each processor has a state of its own, told apart by its type and place, or by its name."""
    both = [Running(), BatchProcessor(count=4), Rename(), Running(name="second")]
    await run(tmp_path, range(10), *both, buffer=MemoryBuffer(capacity=3))
    assert [row["first"] for row in written(tmp_path)] == [sum(range(n + 1)) for n in range(10)]
    assert [row["sum"] for row in written(tmp_path)] == [sum(range(n + 1)) for n in range(10)]


class Rename(Processor, type="test_rename"):
    """Call the first sum something else."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        return [batch.rename_columns(["n", "first"])]


async def test_state_that_does_not_go_with_the_positions_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Positions are in the output, and the file of the engine's state is put back to what it was, or is lost."""
    before, now = tmp_path / "before.db", tmp_path / "state.db"

    async def run_again(rows: Sequence[int]) -> bool:
        messages = [pa.record_batch({"n": [n]}) for n in rows]
        output = Output.parse({"type": "sql", "url": f"sqlite:///{tmp_path}/out.db", "table_name": "t"})
        stream = Stream(
            id="s", input=Memory(messages=messages), pipeline=[Running()], output=output, checkpoint="output"
        )
        caplog.clear()
        await Engine([stream], state=str(now), data=tmp_path / "data").run()
        return "what it remembers by key is not what its positions go with" in caplog.text

    assert not await run_again([1])
    await asyncio.to_thread(shutil.copy, now, before)
    assert not await run_again([1, 2])
    await asyncio.to_thread(shutil.copy, before, now)
    assert await run_again([1, 2, 3])
    assert not await run_again([1, 2, 3, 4])
    await asyncio.to_thread(now.unlink)
    assert await run_again([1, 2, 3, 4, 5])


async def test_a_record_of_another_shape_is_refused() -> None:
    store = MemoryStore()
    await store.save({"s/state": {"version": "many"}})
    with pytest.raises(ConfigError, match="'s/state' is of another shape"):
        await StateLog("s", store, store).component("p").open("", None, 1)


class Twice(Processor, type="test_twice"):
    """Ask for the same state twice."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        await context.state("a")
        await context.state("b")
        await context.state("a")
        yield self.process


async def test_a_state_is_asked_for_once(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, PenstockError), match="two components keep the state 'test_twice/a'"):
        await run(tmp_path, [1], Twice())


def test_what_cannot_be_kept_is_refused_and_changes_nothing() -> None:
    state = KeyedState("s")
    for key, value in (("k" * (MAX_KEY_SIZE + 1), 1), ("nul\0", 1), ("half \ud800", 1), ("large", "x" * (1 << 20))):
        with pytest.raises(ValueError, match=r"kept|keep"):
            state.put_all({"fine": 1, key: value})
    assert len(state) == 0
    assert state.take() == {}


def test_a_value_is_a_copy() -> None:
    state = KeyedState("s")
    value = {"list": [1]}
    state.put("k", value)
    value["list"].append(2)
    state.get("k")["list"].append(3)
    assert state.get("k") == {"list": [1]}


def test_a_call_that_failed_is_undone() -> None:
    state = KeyedState("s", max_entries=3)
    for key in "abc":
        state.put(key, key)
    assert set(state.take()) == {("s", "a"), ("s", "b"), ("s", "c")}
    state.put("a", 1)
    state.delete("b")
    state.put_all({"d": 1, "e": 1})
    state.roll_back()
    assert {key: state.get(key) for key in state} == {"a": "a", "b": "b", "c": "c"}
    assert state.take() == {}
