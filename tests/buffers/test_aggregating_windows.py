"""Windows with a query: what is computed as rows come equals a batch computation, also over restarts."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock import Engine, Stream
from penstock.clock import Clock
from penstock.component import Buffer
from penstock.delivery import Batch
from penstock.errors import EndOfInput
from penstock.outputs import memory
from penstock.sql.query import PreparedQuery
from penstock.state.memory import MemoryStore
from penstock.testing.clock import FakeClock, jumping
from penstock.testing.contexts import lend_context
from penstock.testing.suites import BufferSuite

START = 1_700_000_000_000
EVENT = {"time": "event", "timestamp_field": "at", "out_of_orderness": "10s"}
CALLS = (
    "count(*) AS n, count(x) AS nx, sum(x) AS s, avg(x) AS m, min(f) AS low, max(f) AS high, sum(f) AS sf, "
    "min(text) AS t, first_value(x) AS first, last_value(x) AS last"
)
WINDOWS = {
    "tumbling": {"type": "tumbling_window", "size": "10s"},
    "sliding": {"type": "sliding_window", "size": "30s", "slide": "10s"},
    "uneven": {"type": "sliding_window", "size": "25s", "slide": "10s"},
    "session": {"type": "session_window", "gap": "3s", "key": "k"},
}


def window(name: str, query: str = f"SELECT k, {CALLS} FROM flow GROUP BY k", **options: Any) -> Buffer:
    return Buffer.parse({**WINDOWS[name], **EVENT, "query": query, **options})


class TestAggregatingTumblingWindow(BufferSuite):
    keeps_rows = False
    ordered = False
    bounded = False

    @pytest.fixture
    def component(self) -> Buffer:
        options = {"type": "tumbling_window", "size": "1s", "time": "event", "timestamp_field": "at"}
        return Buffer.parse({**options, "query": "SELECT count(*) AS n FROM flow"})

    def sample(self, start: int, rows: int) -> Batch:
        return pa.record_batch({"at": [START + 100 * n for n in range(start, start + rows)]})


Row = tuple[str | None, int, int | None, float, str]


def batch_of(rows: Sequence[Row]) -> Batch:
    keys, times, numbers, floats, texts = zip(*rows, strict=True) if rows else ((),) * 5
    return pa.record_batch(
        {
            "k": pa.array(keys, pa.string()),
            "at": pa.array([START + time for time in times], pa.int64()),
            "x": pa.array(numbers, pa.int64()),
            "f": pa.array(floats, pa.float64()),
            "text": pa.array(texts, pa.string()),
        }
    )


def expected(name: str, rows: Sequence[Row], condition: str = "true") -> set[tuple[Any, ...]]:
    """Compute the windows over all rows at once, by DuckDB."""
    flow = pa.Table.from_batches([batch_of(rows)])
    flow = flow.append_column("r", pa.array(range(flow.num_rows), pa.int64()))
    connection = duckdb.connect()
    connection.register("flow", flow)
    calls = CALLS.replace("first_value(x)", "first(x ORDER BY r)").replace("last_value(x)", "last(x ORDER BY r)")
    options = WINDOWS[name]
    if options["type"] == "session_window":
        gap = 3000
        windowed = f"""
            SELECT *, min("at") OVER w AS ws, max("at") OVER w + {gap} AS we FROM (
                SELECT *, sum(begins) OVER (PARTITION BY k ORDER BY "at", r) AS session FROM (
                    SELECT *, CASE WHEN "at" - lag("at") OVER (PARTITION BY k ORDER BY "at", r) < {gap}
                    THEN 0 ELSE 1 END
                    AS begins FROM flow WHERE {condition}))
            WINDOW w AS (PARTITION BY k, session)"""
    else:
        size = int(float(options["size"][:-1]) * 1000)
        slide = int(float(options.get("slide", options["size"])[:-1]) * 1000)
        windowed = f"""
            SELECT flow.*, ws, ws + {size} AS we FROM flow,
            (SELECT unnest(generate_series({START - 10 * slide}, {START + 1_000_000}, {slide})) AS ws)
            WHERE "at" >= ws AND "at" < ws + {size} AND {condition}"""
    found = connection.execute(f"SELECT ws, we, k, {calls} FROM ({windowed}) GROUP BY ws, we, k").fetchall()
    return {rounded(row) for row in found}


def rounded(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(f"{value:.6g}" if isinstance(value, float) else value for value in row)


def found(batches: Sequence[Batch]) -> list[tuple[Any, ...]]:
    rows = [row for batch in batches for row in batch.to_pylist()]
    names = ["k", "n", "nx", "s", "m", "low", "high", "sf", "t", "first", "last"]
    return [
        rounded([millis(row["window_start"]), millis(row["window_end"]), *(row[name] for name in names)])
        for row in rows
    ]


def millis(time: datetime.datetime) -> int:
    return round(time.timestamp() * 1000)


def stream_of(data: st.DataObject) -> list[Row]:
    """Draw rows whose times are at most ten seconds out of order."""
    seed, count = data.draw(st.integers(0, 1 << 30)), data.draw(st.integers(0, 120))
    chance = random.Random(seed)
    span = chance.choice([5_000, 60_000, 300_000])
    times = sorted(chance.randrange(span) for _ in range(count))
    keys = [None, "a", "b", "c", "d"][: chance.randrange(1, 6)]
    rows: list[Row] = [
        (
            chance.choice(keys),
            time - chance.randrange(0, 9_999) if chance.random() < 0.5 else time,
            chance.choice([None, 0, 7, -5, 1 << 40]),
            chance.uniform(-10, 10),
            chance.choice("xyz"),
        )
        for time in times
    ]
    return [row if row[1] >= 0 else (row[0], 0, *row[2:]) for row in rows]


def cut(rows: Sequence[Row], data: st.DataObject) -> list[list[Row]]:
    bounds = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8)))
    return [list(rows[start:end]) for start, end in itertools.pairwise([0, *bounds, len(rows)])]


async def run(buffer: Buffer, parts: Sequence[Sequence[Row]], path: Path) -> list[Batch]:
    batches: list[Batch] = []
    async with lend_context(path) as context, buffer.open(context) as queue:
        checkpoint = await context.checkpoint("in")

        async def fill() -> None:
            for at, part in enumerate(parts):
                await queue.put(await checkpoint.deliver(batch_of(part), at + 1))
            queue.end()

        async def drain() -> None:
            while True:
                try:
                    delivery = await queue.get()
                except EndOfInput:
                    return
                assert delivery.error is None, delivery.error
                batches.append(delivery.batch)
                await delivery.ack()

        await asyncio.gather(fill(), drain())
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWS)
@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_the_result_is_that_of_a_batch_computation(name: str, data: st.DataObject, tmp_path: Path) -> None:
    rows = stream_of(data)
    batches = asyncio.run(run(window(name), cut(rows, data), tmp_path))
    assert sorted(found(batches), key=repr) == sorted(expected(name, rows), key=repr)


class Hasty(Clock):
    """A clock on which so much time passes that everything is saved at once."""

    _now = 0.0

    def monotonic(self) -> float:
        self._now += 10.0
        return self._now


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWS)
@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_a_restart_at_any_moment_changes_no_result(name: str, data: st.DataObject, tmp_path: Path) -> None:
    """What was acked is not read again, and still is in the windows; what was not acked is in them once."""
    rows = stream_of(data)
    parts = cut(rows, data)
    chance = random.Random(data.draw(st.integers(0, 1 << 30)))
    store = MemoryStore()
    results: list[Batch] = []

    async def live(crash: bool) -> bool:
        async with (
            lend_context(tmp_path, store, clock=Hasty()) as context,
            window(name).open(context) as queue,
        ):
            checkpoint = await context.checkpoint("in")
            begin = checkpoint.position or 0
            ended = False

            async def fill() -> None:
                nonlocal ended
                for at in range(begin, len(parts)):
                    if crash and chance.random() < 0.3:
                        return
                    await queue.put(await checkpoint.deliver(batch_of(parts[at]), at + 1))
                    await asyncio.sleep(0)
                if not crash:
                    ended = True
                    queue.end()

            async def drain() -> None:
                while True:
                    try:
                        delivery = await queue.get()
                    except EndOfInput:
                        return
                    results.append(delivery.batch)
                    await delivery.ack()

            draining = asyncio.ensure_future(drain())
            await fill()
            if crash:
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                draining.cancel()
                await asyncio.wait({draining})
            else:
                await draining
            return ended

    for _ in range(chance.randrange(4)):
        asyncio.run(live(crash=True))
    assert asyncio.run(live(crash=False))
    assert set(found(results)) == expected(name, rows)


@pytest.mark.parametrize("name", ["tumbling", "session"])
def test_a_condition_and_what_is_computed_of_results_are_as_in_sql(name: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    rows: list[Row] = [(chance.choice("ab"), n * 100, n, float(n), "x") for n in range(300)]
    query = f"SELECT k, {CALLS} FROM flow WHERE x % 2 = 0 AND f > 10 GROUP BY k HAVING count(*) > 0 ORDER BY k"
    batches = asyncio.run(run(window(name, query), [rows[:100], rows[100:]], tmp_path))
    assert set(found(batches)) == expected(name, rows, "x % 2 = 0 AND f > 10")
    query = "SELECT upper(k) AS k, sum(x) / count(*) AS ratio, sum(x) FROM flow GROUP BY k"
    batches = asyncio.run(run(window(name, query), [rows], tmp_path))
    assert set(batches[0].schema.names) == {"k", "ratio", "sum(flow.x)", "window_start", "window_end"}
    assert {row["k"] for row in batches[0].to_pylist()} == {"A", "B"}


def test_a_sum_is_exact_or_refused(tmp_path: Path) -> None:
    async def results(numbers: list[int]) -> list[Any]:
        buffer = window("tumbling", "SELECT k, sum(x) AS s FROM flow GROUP BY k")
        got = []
        async with lend_context(tmp_path) as context, buffer.open(context) as queue:
            checkpoint = await context.checkpoint("in")
            for at, number in enumerate(numbers):
                await queue.put(await checkpoint.deliver(batch_of([("a", 0, number, 0.0, "x")]), at + 1))
            queue.end()
            while True:
                try:
                    delivery = await queue.get()
                except EndOfInput:
                    return got
                got.append(delivery.error or delivery.batch.to_pylist()[0]["s"])
                await delivery.ack()

    biggest = (1 << 63) - 1
    assert asyncio.run(results([biggest, biggest, -biggest])) == [biggest]
    (refused,) = asyncio.run(results([biggest, 1]))
    assert "out of range" in str(refused)


async def drain_now(queue: Any) -> list[Batch]:
    batches = []
    while True:
        try:
            delivery = await asyncio.wait_for(queue.get(), 3600)
        except (EndOfInput, TimeoutError):
            return batches
        if delivery.error is not None:
            batches.append(str(delivery.error))
        else:
            batches.append(delivery.batch)
        await delivery.ack()


@jumping
async def test_late_rows_are_dropped_routed_or_update_their_window(tmp_path: Path) -> None:
    first = batch_of([("a", 1000, 1, 0.0, "x"), ("a", 25_000, 1, 0.0, "x")])
    late = batch_of([("a", 2000, 5, 0.0, "x")])
    query = "SELECT k, sum(x) AS s FROM flow GROUP BY k"
    outcomes: dict[str, list[Any]] = {}
    for policy, more in (("drop", {}), ("route", {}), ("update", {"allowed_lateness": "1h"})):
        buffer = Buffer.parse(
            {**WINDOWS["tumbling"], **EVENT, "out_of_orderness": "0s", "query": query, "late": policy, **more}
        )
        async with lend_context(tmp_path / policy, clock=FakeClock()) as context, buffer.open(context) as queue:
            checkpoint = await context.checkpoint("in")
            for at, batch in enumerate((first, late)):
                await queue.put(await checkpoint.deliver(batch, at + 1))
            got = await drain_now(queue)
            outcomes[policy] = [one if isinstance(one, str) else [row["s"] for row in one.to_pylist()] for one in got]
    assert [one for one in outcomes["drop"] if one] == [[1]]
    assert [one for one in outcomes["update"] if one] == [[1], [6]]
    assert [one for one in outcomes["route"] if isinstance(one, list) and one] == [[1]]
    assert [one for one in outcomes["route"] if isinstance(one, str) and one.startswith("late")]


@jumping
async def test_results_so_far_go_out_on_a_period(tmp_path: Path) -> None:
    buffer = window("tumbling", "SELECT k, sum(x) AS s FROM flow GROUP BY k", emit_every="1m")
    async with lend_context(tmp_path, clock=FakeClock()) as context, buffer.open(context) as queue:
        checkpoint = await context.checkpoint("in")
        for at in range(2):
            await queue.put(await checkpoint.deliver(batch_of([("a", at, 1, 0.0, "x")]), at + 1))
            assert [b.to_pylist()[0]["s"] for b in await drain_now(queue) if b.num_rows] == [at + 1]
        assert [b for b in await drain_now(queue) if b.num_rows] == []


@jumping
async def test_a_silent_source_is_not_waited_for(tmp_path: Path) -> None:
    buffer = window("session", "SELECT k, sum(x) AS s FROM flow GROUP BY k", idle_timeout="1m")
    async with lend_context(tmp_path, clock=FakeClock()) as context, buffer.open(context) as queue:
        checkpoint = await context.checkpoint("in")
        await queue.put(await checkpoint.deliver(batch_of([("a", 0, 1, 0.0, "x")]), 1))
        assert [b.to_pylist()[0]["s"] for b in await drain_now(queue) if b.num_rows] == [1]


async def test_a_stop_keeps_windows_open_and_reads_nothing_again(tmp_path: Path) -> None:
    store = MemoryStore()
    buffer = window("tumbling", "SELECT k, sum(x) AS s FROM flow GROUP BY k")
    got: list[Batch] = []
    for at in range(3):
        lent = lend_context(tmp_path, store, is_stopping=partial(bool, at < 2))
        async with lent as context, buffer.open(context) as queue:
            checkpoint = await context.checkpoint("in")
            assert (checkpoint.position or 0) == at
            await queue.put(await checkpoint.deliver(batch_of([("a", at, 1, 0.0, "x")]), at + 1))
            queue.end()
            got = await drain_now(queue)
    assert [b.to_pylist()[0]["s"] for b in got if b.num_rows] == [3]


def test_rows_whose_columns_do_not_fit_are_refused_with_a_reason(tmp_path: Path) -> None:
    async def results() -> list[Any]:
        buffer = window("tumbling", "SELECT k, sum(x) AS s FROM flow GROUP BY k")
        async with lend_context(tmp_path) as context, buffer.open(context) as queue:
            checkpoint = await context.checkpoint("in")
            texts = pa.record_batch({"k": ["a"], "at": [START], "x": ["one"]})
            lacking = pa.record_batch({"at": [START]})
            floats = pa.record_batch({"k": ["a"], "at": [START], "x": [0.5]})
            for at, batch in enumerate([batch_of([("a", 0, 1, 0.0, "x")]), texts, lacking, floats]):
                await queue.put(await checkpoint.deliver(batch, at + 1))
            queue.end()
            return await drain_now(queue)

    got = asyncio.run(results())
    assert sum(isinstance(one, str) for one in got) == 1
    (result,) = [one for one in got if not isinstance(one, str) and one.num_rows]
    assert {row["k"]: row["s"] for row in result.to_pylist()} == {"a": 1.5, None: None}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT k, median(x) FROM flow GROUP BY k", "median"),
        ("SELECT k, count(DISTINCT x) FROM flow GROUP BY k", "DISTINCT"),
        ("SELECT k, sum(x + 1) FROM flow GROUP BY k", "not of a column"),
        ("SELECT upper(k), sum(x) FROM flow GROUP BY upper(k)", "groups by"),
        ("SELECT * FROM flow", "does not only group"),
        ("SELECT k, sum(x) FROM flow GROUP BY k LIMIT 1", "does not only group"),
        ("SELECT k, first_value(x ORDER BY f) FROM flow GROUP BY k", "ORDER BY"),
    ],
)
def test_a_query_that_needs_all_rows_holds_them_and_has_the_same_result(
    query: str, reason: str, tmp_path: Path
) -> None:
    buffer = window("tumbling", query)
    assert reason in (buffer.why_rows_are_held() or "")  # type: ignore[attr-defined]
    rows: list[Row] = [("a", n * 1000, n, float(n), "x") for n in range(30)]
    batches = asyncio.run(run(buffer, [rows[:7], rows[7:]], tmp_path))
    first = next(batch for batch in batches if batch.num_rows)
    assert {"window_start", "window_end"} <= set(first.schema.names)
    own = batch_of(rows[:10])
    assert first.column(0).to_pylist() == PreparedQuery(query).run(own)[0].column(0).to_pylist()


def test_contradicting_options_are_refused() -> None:
    for options, message in (
        ({"query": "SELECT x FROM"}, "query"),
        ({"query": None, "key": "k"}, "`key` needs `query`"),
        ({"query": "SELECT k, median(x) FROM flow GROUP BY k"}, "median"),
        ({"query": "SELECT sum(x) FROM flow"}, "does not group by k"),
    ):
        with pytest.raises(ValidationError, match=message):
            Buffer.parse({**WINDOWS["session"], **EVENT, **options})


@pytest.mark.parametrize(
    "query", ["SELECT k, sum(x) AS s FROM flow GROUP BY k", "SELECT k, median(x) AS s FROM flow GROUP BY k"]
)
async def test_what_reads_the_result_does_not_take_columns_from_the_query(query: str, tmp_path: Path) -> None:
    memory.clear("windows")
    one = Stream.model_validate(
        {
            "input": {"type": "memory", "messages": [{"k": "a", "at": START, "x": 3, "y": 1}], "codec": "json"},
            "buffer": {**WINDOWS["tumbling"], **EVENT, "query": query},
            "pipeline": [{"type": "sql", "query": "SELECT s FROM flow"}],
            "output": {"type": "memory", "key": "windows"},
        }
    )
    await Engine([one], state="memory", data=tmp_path).run()
    assert [row["s"] for row in memory.rows("windows")] == [3]
