"""A stream with several outputs: each is retried by itself, and rows are acked once all have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from pydantic import PrivateAttr

from penstock import Context, Engine, Input, Output, PenstockError, PermanentError, Stream, TransientError
from penstock.checkpoint import Ledger
from penstock.component import Writer
from penstock.delivery import Batch
from penstock.errors import ConnectionLost, RowsRejected
from penstock.observe.metrics import StreamMetrics
from penstock.outputs import memory
from penstock.runtime.branches import find_leaves
from penstock.runtime.flow import Flow
from penstock.testing.crashes import Crashed, Disk, DiskOutput, DiskStore, DiskWriter
from penstock.testing.waiting import until

FAST = {"initial": "1ms", "maximum": "2ms"}
KEYS = ("a", "b", "c", "errors")
FAULTS: dict[str, list[Exception]] = {}


@pytest.fixture(autouse=True)
def _clear() -> None:
    FAULTS.clear()
    for key in KEYS:
        memory.clear(key)


class Fragile(Output, type="test_fragile"):
    """Raises what the test queued under ``key``, refuses numbers, else writes to the memory output of that name."""

    key: str
    refused: list[int] = []
    names_rows: bool = True

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield _Fragile(self)


class _Fragile:
    def __init__(self, options: Fragile) -> None:
        self._options = options

    async def write(self, batches: Sequence[Batch]) -> None:
        if faults := FAULTS.get(self._options.key):
            raise faults.pop(0)
        numbers = [n for batch in batches for n in batch.column("n").to_pylist()]
        bad = {at: f"{n} is refused" for at, n in enumerate(numbers) if n in self._options.refused}
        if bad:
            raise RowsRejected(bad, across=True) if self._options.names_rows else PermanentError("refused")
        memory.kept[self._options.key] += batches


def numbers(*groups: Sequence[int]) -> dict[str, Any]:
    payloads = [f'{{"n": {n}}}' for group in groups for n in group]
    return {"type": "memory", "messages": payloads, "codec": "json"}


def fan_out(*outputs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "fan_out", "outputs": list(outputs)}


def fragile(key: str, **options: Any) -> dict[str, Any]:
    return {"type": "test_fragile", "name": key, "key": key, **options}


async def run(tmp_path: Path, **options: Any) -> None:
    stream = Stream.model_validate({"id": "branching", "retry": FAST, **options})
    await Engine([stream], data=tmp_path).run()


def found(key: str) -> list[int]:
    return [row["n"] for row in memory.rows(key)]


@pytest.mark.parametrize("fault", [TransientError("later"), ConnectionLost("gone"), OSError("disk"), TimeoutError()])
async def test_an_output_is_retried_without_writing_to_the_others_again(tmp_path: Path, fault: Exception) -> None:
    FAULTS["b"] = [fault, fault, fault]
    await run(tmp_path, input=numbers(range(50)), output=fan_out(fragile("a"), fragile("b"), fragile("c")))
    assert found("a") == found("b") == found("c") == list(range(50))


@pytest.mark.parametrize("names_rows", [True, False])
async def test_a_row_that_one_output_refuses_is_kept_by_the_others(tmp_path: Path, names_rows: bool) -> None:
    await run(
        tmp_path,
        input=numbers(range(30)),
        output=fan_out(
            fragile("a"), fragile("b", refused=[7, 8, 20], names_rows=names_rows), fragile("c", refused=[7])
        ),
        error_output={"type": "memory", "key": "errors"},
    )
    assert found("a") == list(range(30))
    assert found("b") == [n for n in range(30) if n not in (7, 8, 20)]
    assert found("c") == [n for n in range(30) if n != 7]
    letters = sorted((row["stage"], row["payload"]) for row in memory.rows("errors"))
    assert letters == [(f"output.{key}", f'{{"n": {n}}}') for key, n in [("b", 20), ("b", 7), ("b", 8), ("c", 7)]]


async def test_a_refused_row_that_goes_nowhere_stops_the_stream_and_doubles_nothing_before_it(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="20 is refused"):
        await run(
            tmp_path,
            input=numbers(range(30)),
            output=fan_out(fragile("a"), fragile("b", refused=[20])),
            restart={"attempts": 0},
        )
    assert sorted(set(found("a"))) == sorted(found("a")), "no row is written twice in one run"
    assert set(found("b")) <= set(range(20))


async def test_rows_are_acked_once_every_output_has_them(tmp_path: Path) -> None:
    FAULTS["b"] = [ConnectionLost("away")] * 10_000
    stream = Stream.model_validate(
        {"id": "s", "retry": FAST, "input": numbers(range(5)), "output": fan_out(fragile("a"), fragile("b"))}
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(Engine([stream], data=tmp_path).run(stop))
    await until(lambda: bool(found("a")))
    stop.set()
    await asyncio.gather(running, return_exceptions=True)
    assert found("b") == []
    FAULTS.clear()
    await Engine([stream], data=tmp_path).run()
    assert found("b") == list(range(5)), "what one output lacked is read again"
    assert set(found("a")) == set(range(5))


async def test_rows_go_where_their_condition_says(tmp_path: Path) -> None:
    output = {
        "type": "switch",
        "cases": [
            {"when": "n % 3 = 0", "output": fragile("a", refused=[6])},
            {"when": "n % 3 = 1", "output": fan_out(fragile("b"), {"type": "drop"})},
            {"output": fragile("c")},
        ],
    }
    await run(tmp_path, input=numbers(range(9)), output=output, error_output={"type": "memory", "key": "errors"})
    assert (found("a"), found("b"), found("c")) == ([0, 3], [1, 4, 7], [2, 5, 8])
    (letter,) = memory.rows("errors")
    assert (letter["stage"], letter["payload"]) == ("output.a", '{"n": 6}')


async def test_a_row_that_no_case_takes_or_can_judge_is_refused_with_its_reason(tmp_path: Path) -> None:
    output = {"type": "switch", "cases": [{"when": "10 / n > 4", "output": fragile("a")}]}
    await run(tmp_path, input=numbers([1, 0, 2, 9]), output=output, error_output={"type": "memory", "key": "errors"})
    assert found("a") == [1, 2]
    letters = memory.rows("errors")
    assert [row["payload"] for row in letters] == ['{"n": 0}', '{"n": 9}']
    assert "Divide by zero" in letters[0]["reason"]
    assert "meets no condition" in letters[1]["reason"]


async def test_a_switch_within_a_fan_out_refuses_what_it_does_not_take(tmp_path: Path) -> None:
    inner = {"type": "switch", "cases": [{"when": "n < 2", "output": fragile("b")}]}
    await run(
        tmp_path,
        input=numbers(range(4)),
        output=fan_out(fragile("a"), inner),
        error_output={"type": "memory", "key": "errors"},
    )
    assert found("b") == [0, 1]
    assert [row["payload"] for row in memory.rows("errors")] == ['{"n": 2}', '{"n": 3}']


def test_outputs_are_named_by_their_place() -> None:
    inner = {"type": "switch", "name": "by-size", "cases": [{"output": "drop"}]}
    output = Output.parse(fan_out({"type": "drop"}, {"type": "drop"}, {"type": "memory", "name": "kept"}, inner))
    names = [leaf.name for leaf in find_leaves(output)]
    assert names == ["output.drop", "output.drop-2", "output.kept", "output.by-size.drop"]
    assert [leaf.name for leaf in find_leaves(Output.parse("drop"))] == ["output"]


async def test_the_last_output_has_to_keep_positions_where_they_are_kept_by_an_output(tmp_path: Path) -> None:
    with pytest.raises(PenstockError, match="'test_fragile' cannot keep positions beside its rows"):
        await run(tmp_path, checkpoint="output", input=numbers([1]), output=fan_out({"type": "memory"}, fragile("a")))


class Tagged(DiskOutput):
    """An output on a shared disk that notes which one it is."""

    _tag: str = PrivateAttr()

    @classmethod
    def called(cls, tag: str, disk: Disk) -> Tagged:
        output = cls.on(disk)
        assert isinstance(output, Tagged)
        output._tag = tag
        return output

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Writer]:
        yield _Tagging(self._disk, self._tag)


class _Tagging(DiskWriter):
    def __init__(self, disk: Disk, tag: str) -> None:
        super().__init__(disk)
        self._tag = tag

    async def write_and_save(self, batches: Sequence[Batch], positions: Any) -> None:
        tagged = [batch.append_column("to", pa.repeat(self._tag, batch.num_rows)) for batch in batches]
        await super().write_and_save(tagged, positions)


@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_a_crash_at_any_point_loses_nothing_and_the_keeper_of_positions_doubles_nothing(
    tmp_path: Path, checkpoint: Literal["state", "output"]
) -> None:
    batches = [pa.record_batch({"n": pa.array(range(at, at + 3))}) for at in range(0, 15, 3)]
    crash_at, operations = -1, 0
    while crash_at < operations * 2:
        disk = Disk()
        for crash in (crash_at if crash_at >= 0 else None, None):
            disk.start(crash)
            output = Output.parse(
                {"type": "fan_out", "outputs": [Tagged.called(tag, disk) for tag in ("first", "last")]}
            )
            stream = Stream(
                id="crashing",
                input=Input.parse({"type": "memory", "messages": batches}),
                output=output,
                checkpoint=checkpoint,
                max_in_flight=2,
            )
            store = DiskStore(disk)
            context = Context("", store, Ledger(store.save, interval=0), tmp_path)
            try:
                await Flow(stream, context, asyncio.Event(), StreamMetrics("crashing")).run()
            except (Crashed, PenstockError):
                assert disk.has_crashed
        operations = max(operations, disk.operations)
        rows = [row for batch in disk.rows for row in batch.to_pylist()]
        first, last = ([row["n"] for row in rows if row["to"] == tag] for tag in ("first", "last"))
        assert set(first) == set(last) == set(range(15)), f"after a crash at operation {crash_at / 2:g}"
        if checkpoint == "output":
            assert sorted(last) == list(range(15)), f"after a crash at operation {crash_at / 2:g}"
        crash_at += 1
