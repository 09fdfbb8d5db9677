"""Approximate distinct values and quantiles in windows: near the exact ones, bounded, and through restarts."""

from __future__ import annotations

import datetime
import random
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.buffers._aggregation import Aggregation
from penstock.component import Buffer
from penstock.errors import EndOfInput, PermanentError
from penstock.state.memory import MemoryStore
from penstock.testing.contexts import lend_context

QUERY = (
    "SELECT k, approx_distinct(x) AS d, approx_percentile_cont(x, 0.9) AS p, approx_median(x) AS m, "
    "approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY x) AS w, "
    "approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY x DESC) AS low, count(*) AS n FROM flow GROUP BY k"
)


def aggregate(aggregation: Aggregation, parts: list[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Compute the result of batches as windows do: begun one by one, then combined."""
    kept, first = [], 0
    for part in parts:
        groups = pa.table({name: part.column(name) for name in aggregation.keys})
        kept.append(aggregation.begin(part, groups, first))
        first += part.num_rows
    whole = aggregation.combine(pa.concat_tables(kept), aggregation.keys)
    bound = pa.repeat(pa.scalar(datetime.datetime(2026, 1, 1), pa.timestamp("us", "UTC")), whole.num_rows)
    for name in ("window_start", "window_end"):
        whole = whole.append_column(name, bound)
    return [row for batch in aggregation.finish(whole, aggregation.types(parts[0])) for row in batch.to_pylist()]


def test_results_are_near_the_exact_ones_and_small() -> None:
    chance = random.Random(3)
    keys = [chance.choice("ab") for _ in range(40_000)]
    values = [chance.randrange(10_000) for _ in keys]
    batch = pa.record_batch({"k": keys, "x": values})
    aggregation = Aggregation.of(QUERY)
    parts = [batch.slice(at, 5_000) for at in range(0, 40_000, 5_000)]
    for row in aggregate(aggregation, parts):
        own = np.array([value for key, value in zip(keys, values, strict=True) if key == row["k"]])
        assert row["n"] == len(own)
        assert row["d"] == pytest.approx(len(np.unique(own)), rel=0.06)
        for name, share in (("p", 0.9), ("w", 0.9), ("m", 0.5), ("low", 0.1)):
            assert abs((own < row[name]).mean() - share) < 0.03, name
    groups = pa.table({"k": batch.column("k")})
    assert aggregation.begin(batch, groups, 0).nbytes < 2 * 8_192, "what is kept does not grow with the rows"


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(-50, 50)), max_size=30), min_size=1))
@settings(max_examples=50, deadline=None)
def test_few_values_are_counted_exactly_however_they_are_cut(parts: list[list[tuple[str, int | None]]]) -> None:
    batches = [
        pa.record_batch(
            {"k": pa.array([k for k, _ in part], pa.string()), "x": pa.array([x for _, x in part], pa.int64())}
        )
        for part in parts
    ]
    rows = [cell for part in parts for cell in part]
    if not rows:
        return
    for row in aggregate(Aggregation.of(QUERY), batches):
        own = sorted(x for k, x in rows if k == row["k"] and x is not None)
        assert row["d"] == len(set(own))
        if not own:
            assert row["m"] is row["p"] is None
        elif len(own) < 200:  # nothing is left out yet
            assert row["m"] in own
            assert sum(x < row["m"] for x in own) <= len(own) / 2 <= sum(x <= row["m"] for x in own)


MOMENT = datetime.datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        (pa.array(["", "a", "", None, "a"]), 2),
        (pa.array([True, False, None, True]), 2),
        (pa.array([b"", b"\x00", b"\xff", b""]), 3),
        (pa.array([MOMENT, MOMENT, None], pa.timestamp("ms")), 1),
        (pa.array([MOMENT.date()], pa.date32()), 1),
        (pa.array([0, 1 << 63, (1 << 64) - 1], pa.uint64()), 3),
        (pa.array([1, 2, 2], pa.decimal128(10, 2)), 2),
        (pa.nulls(3, pa.string()), 0),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_of_each_type_are_counted(values: pa.Array, count: int) -> None:
    batch = pa.record_batch({"k": ["a"] * len(values), "x": values})
    (row,) = aggregate(Aggregation.of("SELECT k, approx_distinct(x) AS d FROM flow GROUP BY k"), [batch, batch])
    assert row["d"] == count


def test_lists_are_refused() -> None:
    batch = pa.record_batch({"k": ["a"], "x": [[1]]})
    aggregation = Aggregation.of("SELECT k, approx_distinct(x) AS d FROM flow GROUP BY k")
    with pytest.raises(PermanentError, match="of type list"):
        aggregate(aggregation, [batch])


def test_what_is_no_number_is_in_no_quantile() -> None:
    batch = pa.record_batch({"k": ["a"] * 4, "x": [float("nan"), 1.0, 2.0, 3.0]})
    (row,) = aggregate(Aggregation.of("SELECT k, approx_median(x) AS m FROM flow GROUP BY k"), [batch])
    assert row["m"] == 2.0


@pytest.mark.parametrize(
    "call",
    ["approx_percentile_cont(x, 0.5, 100)", "approx_percentile_cont_with_weight(x, y, 0.5)", "approx_median(x + 1)"],
)
def test_other_forms_hold_the_rows(call: str) -> None:
    buffer = Buffer.parse(
        {"type": "tumbling_window", "size": "10s", "time": "event", "timestamp_field": "at"}
        | {"query": f"SELECT {call} AS d FROM flow"}
    )
    assert buffer.why_rows_are_held() is not None  # type: ignore[attr-defined]


async def test_a_restart_goes_on_with_the_sketches(tmp_path: Path) -> None:
    options = {"type": "tumbling_window", "size": "1h", "time": "event", "timestamp_field": "at"}
    buffer = Buffer.parse({**options, "query": "SELECT approx_distinct(x) AS d, approx_median(x) AS m FROM flow"})
    assert buffer.why_rows_are_held() is None  # type: ignore[attr-defined]
    store, found = MemoryStore(), []
    for life in range(3):
        lent = lend_context(tmp_path, store, is_stopping=partial(bool, life < 2))
        async with lent as context, buffer.open(context) as queue:
            checkpoint = await context.checkpoint("in")
            batch = pa.record_batch({"at": [life] * 10, "x": range(life * 5, life * 5 + 10)})
            await queue.put(await checkpoint.deliver(batch, life + 1))
            queue.end()
            with suppress(EndOfInput):
                while True:
                    delivery = await queue.get()
                    found += delivery.batch.to_pylist() if delivery.batch.num_rows else []
                    await delivery.ack()
    (row,) = found
    assert row["d"] == 20
    assert row["m"] in (9, 10)
