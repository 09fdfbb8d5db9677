"""Joins over the time of rows equal DuckDB's over the same rows, in any interleaving and over any restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock import Engine, Stream
from penstock.checkpoint import Checkpoint
from penstock.component import Buffer, Queue
from penstock.delivery import Batch, Delivery
from penstock.errors import PenstockError
from penstock.outputs import memory
from penstock.state.memory import MemoryStore
from penstock.testing.clock import FakeClock, jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import BufferSuite

from .queues import take, take_all

START = 1_700_000_000_000
JOIN = {"left": "a", "right": "b", "key": "k", "timestamp_field": "at", "out_of_orderness": "3s"}
INTERVAL = {"type": "interval_join", **JOIN, "before": "2s", "after": "4s"}
TEMPORAL = {"type": "temporal_join", **JOIN}
Row = tuple[int | None, int]
"""key and time in ms"""


class _JoinSuite(BufferSuite):
    keeps_rows = ordered = bounded = False

    def sample(self, start: int, rows: int) -> Batch:
        numbers = list(range(start, start + rows))
        names = ["ab"[n % 2] for n in numbers]
        return pa.record_batch(
            {"k": [n // 2 for n in numbers], "at": [START + n for n in numbers], "__meta_source": names}
        )


class TestIntervalJoin(_JoinSuite):
    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({**INTERVAL, "how": "full"})


class TestTemporalJoin(_JoinSuite):
    @pytest.fixture
    def component(self) -> Buffer:
        return Buffer.parse({**TEMPORAL, "how": "left", "unmatched": "drop"})


def side(name: str, rows: Sequence[Row], first: int = 0) -> Batch:
    numbers = range(first, first + len(rows))
    return pa.record_batch(
        {
            "k": pa.array([key for key, _ in rows], pa.int64()),
            "at": pa.array([START + at for _, at in rows], pa.int64()),
            "x" if name == "a" else "y": pa.array(numbers, pa.int64()),
            "__meta_source": pa.array([name] * len(rows), pa.string()),
        }
    )


async def run(
    folder: Path, options: dict[str, Any], rows: dict[str, list[Row]], chance: random.Random, restarts: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Join rows that come in any interleaving of the inputs, with stops between; return results and refused rows."""
    store = MemoryStore()
    found: list[Delivery] = []
    for life in range(restarts + 1):
        async with (
            lend_context(folder, store, clock=FakeClock(), is_stopping=lambda life=life: life < restarts) as context,
            Buffer.parse(options).open(context) as queue,
        ):
            checkpoints = {name: await context.checkpoint(name) for name in rows}

            async def fill(last: bool, checkpoints: dict[str, Checkpoint], queue: Queue) -> None:
                while left := [name for name, one in checkpoints.items() if (one.position or 0) < len(rows[name])]:
                    if not last and chance.random() < 0.2:
                        break
                    name = chance.choice(left)
                    begin = checkpoints[name].position or 0
                    end = min(len(rows[name]), begin + chance.randrange(1, 5))
                    batch = side(name, rows[name][begin:end], begin)
                    await queue.put(await checkpoints[name].deliver(batch, end))
                    await asyncio.sleep(0)
                queue.end()

            filling = asyncio.ensure_future(fill(life == restarts, checkpoints, queue))
            found += await take_all(queue)
            await filling
    written = [row for delivery in found if delivery.error is None for row in delivery.batch.to_pylist()]
    refused = [row for delivery in found if delivery.error is not None for row in delivery.batch.to_pylist()]
    return written, refused


def disordered(rows: Sequence[Row], chance: random.Random) -> list[Row]:
    """Rows by their time, but for less than the out-of-orderness."""
    return sorted(rows, key=lambda row: row[1] + chance.randrange(3000))


def ask_duckdb(query: str, rows: dict[str, list[Row]]) -> list[tuple[Any, ...]]:
    connection = duckdb.connect(config={"threads": 1})
    for name, one in rows.items():
        connection.register(name, pa.Table.from_batches([side(name, one)]))
    return sorted(connection.execute(query).fetchall(), key=repr)


some_rows = st.lists(st.tuples(st.sampled_from([None, 0, 1, 2]), st.integers(0, 20_000)), max_size=25)
over_random = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@given(a=some_rows, b=some_rows, seed=st.integers(0, 1000), restarts=st.integers(0, 3))
@over_random
def test_an_interval_join_is_that_of_duckdb(
    how: str, a: list[Row], b: list[Row], seed: int, restarts: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    rows = {"a": disordered(a, chance), "b": disordered(b, chance)}
    written, refused = asyncio.run(run(tmp_path, {**INTERVAL, "how": how}, rows, chance, restarts))
    condition = "a.k = b.k AND b.at BETWEEN a.at - 2000 AND a.at + 4000"
    expected = ask_duckdb(f"SELECT coalesce(a.k, b.k), a.at, x, b.at, y FROM a {how} JOIN b ON {condition}", rows)
    got = [tuple(row.get(name) for name in ("k", "at", "x", "b_at", "b_y")) for row in written]
    assert sorted(got, key=repr) == expected
    kept = {"inner": (), "left": "x", "right": "y", "full": "xy"}[how]
    outer = ask_duckdb(f"SELECT x, y FROM a FULL JOIN b ON {condition}", rows)
    unmatched = [("x", x) for x, y in outer if y is None] + [("y", y) for x, y in outer if x is None]
    assert sorted((name, row[name]) for row in refused for name in ("x", "y") if name in row) == sorted(
        pair for pair in unmatched if pair[0] not in kept
    )


distinct_times = st.lists(
    st.tuples(st.sampled_from([None, 0, 1, 2]), st.integers(0, 20_000)), max_size=25, unique_by=lambda row: row[1]
)


@pytest.mark.parametrize("valid_for", [None, 3000])
@given(a=some_rows, b=distinct_times, seed=st.integers(0, 1000), restarts=st.integers(0, 3))
@over_random
def test_a_temporal_join_is_that_of_duckdb(
    valid_for: int | None, a: list[Row], b: list[Row], seed: int, restarts: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    rows = {"a": disordered(a, chance), "b": disordered(b, chance)}
    options = {**TEMPORAL, "how": "left", **({"valid_for": f"{valid_for}ms"} if valid_for else {})}
    written, refused = asyncio.run(run(tmp_path, options, rows, chance, restarts))
    found = "SELECT a.k, x, b.at, y FROM a ASOF LEFT JOIN b ON a.k = b.k AND a.at >= b.at"
    expected = ask_duckdb(found, rows)
    times = {number: START + at for number, (_, at) in enumerate(rows["a"])}
    if valid_for:
        expected = [
            (k, x, at, y) if at is None or times[x] - at <= valid_for else (k, x, None, None)
            for k, x, at, y in expected
        ]
    got = [tuple(row.get(name) for name in ("k", "x", "b_at", "b_y")) for row in written]
    assert sorted(got, key=repr) == sorted(expected, key=repr)
    assert refused == []


async def put(queue: Any, name: str, *rows: Row) -> None:
    await asyncio.wait_for(queue.put(Delivery(side(name, rows))), 60)


@jumping
async def test_late_and_unmatched_rows_go_to_the_error_output_unless_told_otherwise(tmp_path: Path) -> None:
    for late, unmatched, reasons in (
        ("route", "route", ["late: it is older", "unmatched: no row of b"]),
        ("drop", "drop", []),
        ("join", "route", ["unmatched: no row of b", "unmatched: no row of b"]),
    ):
        options = {**INTERVAL, "late": late, "unmatched": unmatched}
        async with lend_context(tmp_path, clock=FakeClock()) as context, Buffer.parse(options).open(context) as queue:
            await put(queue, "a", (1, 100_000))
            await put(queue, "a", (1, 50_000))
            queue.end()
            found = [one for one in await take_all(queue) if one.error is not None]
            refused = [str(one.error) for one in found for _ in range(one.batch.num_rows)]
            assert len(refused) == len(reasons)
            assert all(one.startswith(reason) for one, reason in zip(refused, reasons, strict=True)), refused


@jumping
async def test_results_go_out_before_the_end_and_a_silent_input_is_not_waited_for(tmp_path: Path) -> None:
    options = {**INTERVAL, "how": "left", "idle_timeout": "30s"}
    async with lend_context(tmp_path, clock=FakeClock()) as context, Buffer.parse(options).open(context) as queue:
        await put(queue, "a", (1, 0), (2, 0))
        await put(queue, "b", (1, 1000))
        found = await take(queue)
        while not found.batch.num_rows:
            found = await take(queue)
        assert found.batch.to_pylist() == [{"k": 1, "at": START, "x": 0, "b_at": START + 1000, "b_y": 0}]
        waiting = asyncio.ensure_future(take(queue))
        for at in range(1000, 60_000, 1000):
            await put(queue, "a", (3, at))
            await asyncio.sleep(1)
        found = await waiting
        while not found.batch.num_rows:
            found = await take(queue)
        assert found.batch.column("k").to_pylist()[0] == 2


@jumping
async def test_rows_wait_no_longer_than_their_ttl(tmp_path: Path) -> None:
    options = {**INTERVAL, "how": "left", "ttl": "10s"}
    async with lend_context(tmp_path, clock=FakeClock()) as context, Buffer.parse(options).open(context) as queue:
        await put(queue, "a", (1, 0), (2, 20_000))
        found = await take(queue)
        assert found.batch.to_pylist() == [{"k": 1, "at": START, "x": 0}]


@jumping
@pytest.mark.parametrize("overflow", ["stop", "release"])
async def test_no_more_than_max_rows_are_held(tmp_path: Path, overflow: str) -> None:
    options = {**INTERVAL, "how": "left", "max_rows": 10, "overflow": overflow}
    async with lend_context(tmp_path, clock=FakeClock()) as context, Buffer.parse(options).open(context) as queue:
        await put(queue, "a", *((n, n * 100) for n in range(20)))
        if overflow == "stop":
            with pytest.raises(PenstockError, match="max_rows"):
                await take(queue)
            return
        assert (await take(queue)).batch.column("x").to_pylist() == list(range(11))
        queue.end()
        assert [x for one in await take_all(queue) for x in one.batch.column("x").to_pylist()] == list(range(11, 20))


@jumping
async def test_rows_that_cannot_be_joined_are_refused_by_themselves(tmp_path: Path) -> None:
    async with lend_context(tmp_path, clock=FakeClock()) as context, Buffer.parse(INTERVAL).open(context) as queue:
        good = side("a", [(1, 0)])
        await queue.put(Delivery(good))
        for bad in (
            good.set_column(1, "at", pa.array(["never"])),
            good.drop_columns(["k"]),
            good.drop_columns(["at"]),
            good.set_column(0, "k", pa.array(["text"])),
            good.set_column(3, "__meta_source", pa.array(["c"])),
            good.set_column(3, "__meta_source", pa.nulls(1, pa.string())),
            side("b", [(1, 0)]).set_column(0, "k", pa.array(["text"])),
        ):
            await queue.put(Delivery(bad))
            assert (await take(queue)).error is not None
        await put(queue, "b", (1, 0))
        queue.end()
        (found,) = [one for one in await take_all(queue) if one.batch.num_rows]
        assert found.error is None


async def test_a_stream_joins_the_inputs_of_multiple_inputs(tmp_path: Path) -> None:
    memory.clear("joined")
    orders = [{"id": n, "at": START + n, "item": f"i{n}"} for n in range(4)]
    payments = [{"order": n, "paid": START + 500 + n, "amount": n * 10} for n in range(2, 6)]
    inputs = [
        {"type": "memory", "name": name, "messages": rows, "codec": "json"}
        for name, rows in (("orders", orders), ("payments", payments))
    ]
    options = {
        "input": {"type": "multiple_inputs", "inputs": inputs},
        "buffer": {
            "type": "interval_join",
            "left": "orders",
            "right": "payments",
            "key": "id",
            "right_key": "order",
            "timestamp_field": "at",
            "right_timestamp_field": "paid",
            "after": "1s",
            "how": "full",
        },
        "pipeline": [{"type": "sql", "query": "SELECT id, item, payments_amount AS amount FROM flow"}],
        "output": {"type": "memory", "key": "joined"},
    }
    await Engine([Stream.model_validate(options)], data=tmp_path).run()
    found = sorted(memory.rows("joined"), key=lambda row: row["id"])
    assert [(row["id"], row["item"], row["amount"]) for row in found] == [
        (0, "i0", None),
        (1, "i1", None),
        (2, "i2", 20),
        (3, "i3", 30),
        (4, None, 40),
        (5, None, 50),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**INTERVAL, "right": "a"}, "same input"),
        ({**INTERVAL, "right_key": ["x", "y"]}, "1 columns"),
        ({"type": "interval_join", **JOIN}, "`before`, `after`"),
        ({**TEMPORAL, "how": "full"}, "how"),
    ],
)
def test_joins_that_cannot_be_are_refused_when_they_are_loaded(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=message):
        Buffer.parse(options)


@pytest.mark.parametrize("options", [{**INTERVAL, "how": "full"}, {**TEMPORAL, "how": "left"}])
async def test_what_went_out_at_the_end_does_not_go_out_again(tmp_path: Path, options: dict[str, Any]) -> None:
    store = MemoryStore()
    for number in range(3):
        async with lend_context(tmp_path, store) as context, Buffer.parse(options).open(context) as queue:
            checkpoints = {name: await context.checkpoint(name) for name in "ab"}
            if number != 1:
                for name, checkpoint in checkpoints.items():
                    row = side(name, [(number, number * 60_000)])
                    await queue.put(await checkpoint.deliver(row, number + 1))
            queue.end()
            rows = [row for one in await take_all(queue) for row in one.batch.to_pylist()]
            assert [(row["k"], row["b_at"]) for row in rows] == [(number, START + number * 60_000)] * (number != 1)
