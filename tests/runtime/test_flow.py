"""How deliveries travel: order, filtering, refusal, retry, settlement, stop."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import (
    Buffer,
    Codec,
    Context,
    Engine,
    Input,
    Output,
    PenstockError,
    PermanentError,
    Processor,
    RowsRejected,
    Stream,
    TransientError,
)
from penstock.component import Process, Writer
from penstock.delivery import Batch, Delivery
from penstock.errors import ConnectionLost, EndOfInput
from penstock.outputs import memory
from penstock.runtime import section as module
from penstock.testing.waiting import until


class Numbers(Input, type="test_numbers"):
    """Counts up, one delivery a batch; the settlements are kept for the test."""

    count: int = 100
    rows: int = 1

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Any]:
        yield _Counting(self, await context.checkpoint())


class _Counting:
    def __init__(self, options: Numbers, checkpoint: Any) -> None:
        self._options, self._checkpoint = options, checkpoint

    async def read(self) -> Delivery:
        first = self._checkpoint.position or 0
        if first >= self._options.count:
            raise EndOfInput
        batch = pa.RecordBatch.from_pydict({"n": list(range(first, first + self._options.rows))})
        return await self._checkpoint.deliver(batch, first + self._options.rows)


class Jitter(Processor, type="test_jitter"):
    """Takes a random time in a thread."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        time.sleep(random.random() * 0.003)
        return [batch]


class EveryFifth(Processor, type="test_every_fifth"):
    """Filters every fifth batch."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        return [] if batch.column("n")[0].as_py() % 5 == 0 else [batch]


class Picky(Processor, type="test_picky"):
    """Refuses odd thirteens, and can say whether it works row by row."""

    by_row: bool = True

    def process(self, batch: Batch) -> Sequence[Batch]:
        if 13 in batch.column("n").to_pylist():
            raise ValueError("thirteen is unlucky")
        return [batch]

    def row_wise(self) -> bool:
        return self.by_row


class Asynchronous(Processor, type="test_asynchronous"):
    """Doubles on the event loop."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        async def process(batch: Batch) -> Sequence[Batch]:
            await asyncio.sleep(0)
            return [pa.RecordBatch.from_pydict({"n": [2 * n for n in batch.column("n").to_pylist()]})]

        yield process


FAULTS: dict[str, list[Exception]] = {}


class Failing(Output, type="test_failing"):
    """Raises what the test queued under ``key``, then writes to the memory output of that name."""

    key: str

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        async with memory.Memory(key=self.key).open(context) as writer:
            yield _Failing(writer, FAULTS.setdefault(self.key, []))


class _Failing:
    def __init__(self, inner: Writer, faults: list[Exception]) -> None:
        self._inner, self._faults = inner, faults

    async def write(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if 13 in batch.column("n").to_pylist():
                raise PermanentError("thirteen cannot be written")
        if self._faults:
            raise self._faults.pop(0)
        await self._inner.write(batches)


async def flow(tmp_path: Path, **options: Any) -> list[dict[str, Any]]:
    memory.clear("out")
    memory.clear("errors")
    stream = Stream.model_validate({"output": {"type": "memory", "key": "out"}, "retry": FAST, **options})
    await Engine([stream], data=tmp_path).run()
    return memory.rows("out")


FAST = {"initial": "1ms", "maximum": "2ms"}
ERRORS = {"type": "memory", "key": "errors"}
FRAGILE = {"restart": {"attempts": 0}}


async def test_r2_output_order_is_input_order_with_many_threads(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 300},
        pipeline={"thread_num": 4, "processors": ["test_jitter"]},
    )
    assert [row["n"] for row in rows] == list(range(300))


async def test_r1_filtered_batches_never_stall(tmp_path: Path) -> None:
    rows = await flow(tmp_path, input={"type": "test_numbers", "count": 3000}, pipeline=["test_every_fifth"])
    assert [row["n"] for row in rows] == [n for n in range(3000) if n % 5]


async def test_everything_filtered_ends_and_moves_the_checkpoint(tmp_path: Path) -> None:
    pipeline = [{"type": "sql", "query": "SELECT * FROM flow WHERE n < 0"}]
    source = {"type": "test_numbers", "count": 500}
    assert await flow(tmp_path, input=source, pipeline=pipeline) == []
    assert await flow(tmp_path, input=source) == []  # resumed behind the last row


async def test_a_coroutine_processor_runs_on_the_loop(tmp_path: Path) -> None:
    rows = await flow(tmp_path, input={"type": "test_numbers", "count": 5}, pipeline=["test_asynchronous"])
    assert [row["n"] for row in rows] == [0, 2, 4, 6, 8]


async def test_a_bad_row_fails_alone(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 100, "rows": 50},
        pipeline=["test_picky"],
        error_output=ERRORS,
    )
    assert [row["n"] for row in rows] == [n for n in range(100) if n != 13]
    letters = memory.rows("errors")
    assert [(letter["payload"], letter["stage"]) for letter in letters] == [('{"n":13}', "0.test_picky")]
    assert "thirteen is unlucky" in letters[0]["reason"]


async def test_what_is_not_row_wise_fails_as_a_whole(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 100, "rows": 50},
        pipeline=[{"type": "test_picky", "by_row": False}],
        error_output=ERRORS,
    )
    assert [row["n"] for row in rows] == list(range(50, 100))
    assert len(memory.rows("errors")) == 50


async def test_a_row_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 100, "rows": 50},
        output={"type": "test_failing", "key": "out"},
        error_output=ERRORS,
    )
    assert sorted(row["n"] for row in rows) == [n for n in range(100) if n != 13]
    assert [letter["stage"] for letter in memory.rows("errors")] == ["output"]


async def test_without_an_error_output_a_bad_row_stops_the_stream_and_is_not_passed_over(tmp_path: Path) -> None:
    source = {"type": "test_numbers", "count": 100, "rows": 10}
    with pytest.raises(PenstockError, match="thirteen is unlucky"):
        await flow(tmp_path, input=source, pipeline=["test_picky"], **FRAGILE)
    assert [row["n"] for row in memory.rows("out")] == list(range(10))
    rows = await flow(tmp_path, input=source)
    assert [row["n"] for row in rows] == list(range(10, 100))


@pytest.mark.parametrize("fault", [TransientError("busy"), ConnectionLost("gone"), ConnectionResetError("reset")])
async def test_an_output_that_fails_for_a_while_loses_nothing(tmp_path: Path, fault: Exception) -> None:
    FAULTS["out"] = [fault] * 4
    rows = await flow(
        tmp_path, input={"type": "test_numbers", "count": 10}, output={"type": "test_failing", "key": "out"}
    )
    assert [row["n"] for row in rows] == list(range(10))
    assert FAULTS["out"] == []


async def test_attempts_may_be_limited(tmp_path: Path) -> None:
    FAULTS["out"] = [TransientError("busy")] * 100
    with pytest.raises(PenstockError, match="busy"):
        await flow(
            tmp_path,
            input={"type": "test_numbers", "count": 10},
            retry={**FAST, "attempts": 3},
            output={"type": "test_failing", "key": "out"},
            **FRAGILE,
        )
    assert len(FAULTS["out"]) == 97


async def test_a_stop_during_an_outage_ends_promptly_and_the_rows_are_read_again(tmp_path: Path) -> None:
    FAULTS["out"] = [TransientError("busy")] * 10_000
    memory.clear("out")
    stream = Stream.model_validate(
        {"input": {"type": "test_numbers", "count": 10}, "output": {"type": "test_failing", "key": "out"}}
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(Engine([stream], data=tmp_path).run(stop))
    await until(lambda: len(FAULTS["out"]) < 10_000)
    stop.set()
    started = time.monotonic()
    await running
    assert time.monotonic() - started < 20  # the shutdown timeout is 30 s
    FAULTS["out"] = []
    assert len(await flow(tmp_path, input={"type": "test_numbers", "count": 10})) == 10


async def test_rejected_rows_are_refused_and_the_rest_written_with_the_position(tmp_path: Path) -> None:
    class Rejecting(Output, type="test_rejecting"):
        @asynccontextmanager
        async def open(self, context: Context) -> AsyncIterator[Writer]:
            async with memory.Memory(key="out").open(context) as writer:
                inner: Any = writer

                class Writing:
                    load, save, write = inner.load, inner.save, inner.write

                    async def write_and_save(self, batches: Sequence[Batch], positions: Any) -> None:
                        bad = {
                            i: "unlucky"
                            for b in batches
                            for i, n in enumerate(b.column("n").to_pylist())
                            if n % 13 == 5
                        }
                        if bad:
                            raise RowsRejected(bad)
                        await inner.write_and_save(batches, positions)

                yield Writing()  # type: ignore[misc]

    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 100, "rows": 50},
        output={"type": "test_rejecting"},
        checkpoint="output",
        error_output=ERRORS,
    )
    assert [row["n"] for row in rows] == [n for n in range(100) if n % 13 != 5]
    assert memory.positions["out"]["stream"]["position"] == 100


@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_each_row_counts_as_written_or_as_refused_by_the_output(tmp_path: Path, checkpoint: str) -> None:
    target = {"type": "sql", "url": f"sqlite:///{tmp_path}/rows.db", "table_name": "rows"}
    with sqlite3.connect(tmp_path / "rows.db") as made:
        made.execute("CREATE TABLE rows (n INTEGER CHECK (n % 13 <> 5))")
    made.close()
    stream = Stream.model_validate(
        {
            "input": {"type": "test_numbers", "count": 100, "rows": 50},
            "output": target,
            "checkpoint": checkpoint,
            "error_output": ERRORS,
        }
    )
    engine = Engine([stream], data=tmp_path)
    await engine.run()
    metrics = engine.supervised[0].metrics
    refused = len([n for n in range(100) if n % 13 == 5])
    assert (metrics.rows_in, metrics.rows_out, metrics.refused) == (100, 100 - refused, refused)


async def test_decode_errors_reach_the_error_output_with_the_original_payload(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "memory", "messages": ['{"n": 1}', "nonsense", '{"n": 3}'], "codec": "json"},
        buffer={"type": "memory", "capacity": 10, "timeout": "10ms"},
        error_output=ERRORS,
    )
    assert [row["n"] for row in rows] == [1, 3]
    letters = memory.rows("errors")
    assert [(letter["payload"], letter["stage"], letter["encoding"]) for letter in letters] == [
        ("nonsense", "decode", "utf-8")
    ]
    assert '"source":"memory"' in letters[0]["metadata"]
    assert '"offset":1' in letters[0]["metadata"]


async def test_metadata_is_there_for_who_names_it_and_is_not_written(tmp_path: Path) -> None:
    source = {"type": "memory", "messages": ['{"n": 1}', '{"n": 2}'], "codec": "json"}
    query = "SELECT *, __meta_offset AS offset FROM flow"
    rows = await flow(tmp_path, input=source, pipeline=[{"type": "sql", "query": query}])
    assert rows == [{"n": 1, "offset": 0}, {"n": 2, "offset": 1}]


async def test_a_batch_processor_regroups_without_losing_its_tail(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 25},
        pipeline=[
            {"type": "batch", "count": 10, "timeout_ms": 10_000},
            {"type": "sql", "query": "SELECT count(*) c FROM flow"},
        ],
    )
    assert [row["c"] for row in rows] == [10, 10, 5]


class Choosing(Buffer, type="test_choosing"):
    """Hands out what it takes, and keeps what was asked of it for the test."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Any]:
        yield _Choosing()


class _Choosing:
    asked = 0

    def __init__(self) -> None:
        self._held: asyncio.Queue[Delivery | None] = asyncio.Queue()

    async def put(self, delivery: Delivery) -> None:
        await self._held.put(delivery)

    async def get(self) -> Delivery:
        type(self).asked += 1
        if (delivery := await self._held.get()) is None:
            raise EndOfInput
        return delivery

    def end(self) -> None:
        self._held.put_nowait(None)


async def test_a_buffer_is_asked_when_there_is_room_so_that_it_chooses_late(tmp_path: Path) -> None:
    asked: list[int] = []

    class Slow(Output, type="test_slow_output"):
        @asynccontextmanager
        async def open(self, context: Context) -> AsyncIterator[Any]:
            yield self

        async def write(self, batches: Sequence[Batch]) -> None:
            for _ in range(100):  # the buffer could be asked meanwhile
                await asyncio.sleep(0)
            asked.append(_Choosing.asked)

    _Choosing.asked = 0
    await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 10},
        buffer={"type": "test_choosing"},
        output={"type": "test_slow_output"},
        max_in_flight=1,
    )
    assert asked == [min(2 + written, 11) for written in range(10)]  # what is written, and what is next


async def test_the_write_ahead_log_acks_before_the_output_and_replays(tmp_path: Path) -> None:
    FAULTS["out"] = [TransientError("busy")] * 10_000
    memory.clear("out")
    settled: list[int] = []

    class Queue(Input, type="test_queue"):
        @asynccontextmanager
        async def open(self, context: Context) -> AsyncIterator[Any]:
            yield _Queue(settled)

    options = {"input": {"type": "test_queue"}, "output": {"type": "test_failing", "key": "out"}, "durability": {}}
    stream = Stream.model_validate(options)
    stop = asyncio.Event()
    running = asyncio.ensure_future(Engine([stream], data=tmp_path).run(stop))
    await until(lambda: len(settled) >= 20)
    stop.set()
    await running
    assert settled == list(range(20))
    assert memory.rows("out") == []
    FAULTS["out"] = []
    rows = await flow(tmp_path, input={"type": "test_numbers", "count": 0}, durability={})
    assert [row["n"] for row in rows] == list(range(20))
    assert await flow(tmp_path, input={"type": "test_numbers", "count": 0}, durability={}) == []


async def test_rows_in_a_log_and_values_in_the_state_are_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        await flow(tmp_path, input={"type": "test_numbers", "count": 3}, durability={})
    finally:
        os.umask(before)
    [log] = (tmp_path / "wal").iterdir()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (log, *tmp_path.glob("state.db*"))}
    assert modes.pop(log.name) == 0o700
    assert set(modes.values()) == {0o600}


class _Queue:
    def __init__(self, settled: list[int]) -> None:
        self._settled, self._next = settled, 0

    async def read(self) -> Delivery:
        if self._next == 20:
            raise EndOfInput
        number, self._next = self._next, self._next + 1

        async def settle(error: Exception | None) -> None:
            assert error is None
            self._settled.append(number)

        return Delivery.settled_by(pa.RecordBatch.from_pydict({"n": [number]}), settle)


async def test_an_input_that_is_lost_goes_on_where_it_was(tmp_path: Path) -> None:
    lost = iter([False, False, True] * 100)

    class Losing(Numbers, type="test_losing"):
        @asynccontextmanager
        async def open(self, context: Context) -> AsyncIterator[Any]:
            async with super().open(context) as reader:
                read = reader.read

                async def losing() -> Delivery:
                    if next(lost):
                        raise ConnectionLost("the cable was pulled")
                    return await read()

                reader.read = losing
                yield reader

    rows = await flow(tmp_path, input={"type": "test_losing", "count": 40})
    assert [row["n"] for row in rows] == list(range(40))


SEEN: set[int] = set()


class Deduplicate(Processor, type="test_deduplicate"):
    """Drop rows whose number came before; what came before is remembered for as long as the process lives."""

    def process(self, batch: Batch) -> Sequence[Batch]:
        new = [at for at, n in enumerate(batch.column("n").to_pylist()) if n not in SEEN and not SEEN.add(n)]
        return [batch.take(pa.array(new, pa.int64()))] if new else []


class DeduplicateOnLoop(Deduplicate, type="test_deduplicate_on_loop"):
    """The same on the event loop."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        async def process(batch: Batch) -> Sequence[Batch]:
            return self.process(batch)

        yield process


class Away(Processor, type="test_away"):
    """Fails once for each number in ``fails``, as a lookup would that is away for a moment."""

    fails: list[int]
    by_row: bool = False
    _failed: set[int] = PrivateAttr(default_factory=set)

    def process(self, batch: Batch) -> Sequence[Batch]:
        numbers = batch.column("n").to_pylist()
        if len(numbers) > 1 and self.by_row:
            raise ValueError("only one at a time")
        for n in set(numbers) & set(self.fails) - self._failed:
            self._failed.add(n)
            raise TransientError("the lookup is away")
        return [batch]

    def row_wise(self) -> bool:
        return self.by_row


class AwayOnLoop(Away, type="test_away_on_loop"):
    """The same on the event loop."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Process]:
        async def process(batch: Batch) -> Sequence[Batch]:
            return self.process(batch)

        yield process


@pytest.mark.parametrize("first", ["test_deduplicate", "test_deduplicate_on_loop"])
@pytest.mark.parametrize("second", ["test_away", "test_away_on_loop"])
@pytest.mark.parametrize("by_row", [False, True])
async def test_rows_were_lost_on_a_retry_behind_a_processor_that_remembers(
    first: str, second: str, by_row: bool, tmp_path: Path
) -> None:
    SEEN.clear()
    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 40, "rows": 4},
        pipeline=[first, {"type": second, "fails": [0, 2, 21, 39], "by_row": by_row}],
    )
    assert [row["n"] for row in rows] == list(range(40))


async def test_a_half_that_succeeded_is_not_processed_again(tmp_path: Path) -> None:
    calls: list[list[int]] = []

    class Noting(Away):
        def process(self, batch: Batch) -> Sequence[Batch]:
            found = super().process(batch)
            calls.append(batch.column("n").to_pylist())
            return found

    rows = await flow(
        tmp_path, input={"type": "test_numbers", "count": 4, "rows": 4}, pipeline=[Noting(fails=[1, 3], by_row=True)]
    )
    assert [row["n"] for row in rows] == [0, 1, 2, 3]
    assert calls == [[0], [1], [2], [3]]


async def test_refusals_of_an_earlier_stage_outlast_a_retry_behind_it(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "test_numbers", "count": 20, "rows": 20},
        pipeline=["test_picky", {"type": "test_away", "fails": [3, 15]}],
        error_output=ERRORS,
    )
    assert [row["n"] for row in rows] == [n for n in range(20) if n != 13]
    assert [letter["payload"] for letter in memory.rows("errors")] == ['{"n":13}']


async def test_a_decoder_is_not_called_again_when_a_stage_behind_it_fails(tmp_path: Path) -> None:
    decoded: list[bytes] = []

    class Counting(Codec, type="test_counting"):
        def decode(self, payloads: pa.BinaryArray) -> Batch:
            decoded.extend(payloads.to_pylist())
            return pa.record_batch({"n": [int(payload) for payload in payloads.to_pylist()]})

    source = {"type": "memory", "messages": ["1", "2", "3"], "codec": "test_counting"}
    rows = await flow(tmp_path, input=source, pipeline=[{"type": "test_away", "fails": [1, 2]}])
    assert [row["n"] for row in rows] == [1, 2, 3]
    assert sorted(decoded) == [b"1", b"2", b"3"]


async def test_a_stream_is_well_again_once_a_processor_has_recovered(tmp_path: Path) -> None:
    stream = Stream.model_validate(
        {
            "input": {"type": "test_numbers", "count": 3},
            "pipeline": [{"type": "test_away", "fails": [1]}],
            "output": {"type": "memory", "key": "out"},
            "retry": FAST,
        }
    )
    engine = Engine([stream], data=tmp_path)
    await engine.run()
    assert engine.supervised[0].status().trouble is None


class Gated(Output, type="test_gated"):
    """Write nothing until the gate is open; how many rows each call wrote is kept."""

    _gate: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)
    _writing: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)
    _rows: list[int] = PrivateAttr(default_factory=list)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield self

    async def write(self, batches: Sequence[Batch]) -> None:
        self._writing.set()
        await self._gate.wait()
        self._rows.append(sum(batch.num_rows for batch in batches))


async def test_a_write_has_a_bounded_number_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROUP_ROWS", 10)
    output = Gated()
    source = {"type": "test_numbers", "count": 100, "rows": 5}
    stream = Stream.model_validate({"input": source, "output": output, "max_in_flight": 8})
    engine = Engine([stream], data=tmp_path)
    running = asyncio.create_task(engine.run())
    async with asyncio.timeout(60):
        while not engine.supervised or engine.supervised[0].metrics.rows_in < 45:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        output._gate.set()
        await running
    assert sum(output._rows) == 100
    assert max(output._rows) == 10


async def test_a_stop_does_not_wait_longer_than_the_shutdown_timeout(tmp_path: Path) -> None:
    output, stop = Gated(), asyncio.Event()
    stream = Stream.model_validate({"input": "test_numbers", "output": output, "shutdown_timeout": "10ms"})
    running = asyncio.create_task(Engine([stream], data=tmp_path).run(stop))
    async with asyncio.timeout(60):
        await output._writing.wait()
        stop.set()
        with pytest.raises(PenstockError, match="within the shutdown timeout"):
            await running


async def test_metadata_is_kept_through_the_log(tmp_path: Path) -> None:
    rows = await flow(
        tmp_path,
        input={"type": "memory", "messages": ['{"n": 1}'], "codec": "json"},
        durability={},
        pipeline=[{"type": "sql", "query": "SELECT n, __meta_source AS source, __meta_offset AS at FROM flow"}],
    )
    assert rows == [{"n": 1, "source": "memory", "at": 0}]
