"""Joins over the time of rows: of two streams within an interval, and of a stream with a table that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .case import Case, Sample, Span, measured, rate

_ROWS, _BATCH = 500_000, 8192
_START, _SPAN = 1_700_000_000_000, 3_600_000
_MINUTES = 5
_JOIN = {"left": "a", "right": "b", "key": "k", "timestamp_field": "at", "out_of_orderness": "1s", "unmatched": "drop"}
_JOINS: dict[str, dict[str, Any]] = {
    "interval": {"type": "interval_join", "before": f"{_MINUTES}m", "after": f"{_MINUTES}m"},
    "temporal": {"type": "temporal_join", "valid_for": f"{_MINUTES}m"},
}


def _data(rows: int, name: str) -> Any:
    import numpy as np
    import pyarrow as pa

    chance = np.random.default_rng(ord(name))
    times = np.sort(chance.integers(0, _SPAN, rows)) + _START
    keys = chance.integers(0, rows // 4, rows)
    source = pa.repeat(pa.scalar(name), rows)
    return pa.record_batch({"k": keys, "at": times, name: chance.random(rows), "__meta_source": source})


async def _run(folder: Path, kind: str, rows: int) -> Span:
    from penstock.component import Buffer
    from penstock.errors import EndOfInput
    from penstock.testing.contexts import lend_context

    sides = {name: _data(rows, name) for name in "ab"}
    async with lend_context(folder) as context, Buffer.parse({**_JOINS[kind], **_JOIN}).open(context) as queue:
        checkpoints = {name: await context.checkpoint(name) for name in sides}

        async def fill() -> None:
            for start in range(0, rows, _BATCH):
                for name, data in sides.items():
                    await queue.put(await checkpoints[name].deliver(data.slice(start, _BATCH), start + _BATCH))
            queue.end()

        async def drain() -> None:
            while True:
                try:
                    delivery = await queue.get()
                except EndOfInput:
                    return
                assert delivery.error is None
                await delivery.ack()

        with measured() as span:
            await asyncio.gather(fill(), drain())
    return span


def _penstock(kind: str) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        asyncio.run(_run(folder / "few", kind, 10_000))
        return rate(2 * _ROWS, asyncio.run(_run(folder, kind, _ROWS)))

    return measure


def _duckdb(folder: Path) -> Sample:
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    for name in "ab":
        connection.register(name, _data(_ROWS, name))
    reach = _MINUTES * 60_000
    with measured() as span:
        connection.execute(
            'SELECT a.k, a.a, b.b FROM a JOIN b ON a.k = b.k AND b."at" BETWEEN a."at" - $1 AND a."at" + $1', [reach]
        ).fetchall()
    return rate(2 * _ROWS, span)


CASES = [
    Case(
        "interval-join",
        "joins",
        "Penstock: two streams of 500 k rows, joined within 5 min",
        "rows/s",
        _penstock("interval"),
        reach=5e5,
    ),
    Case("interval-join-duckdb", "joins", "DuckDB in one shot, 1 thread", "rows/s", _duckdb, role="ceiling"),
    Case(
        "temporal-join",
        "joins",
        "Penstock: 500 k rows with the version that held, of 500 k",
        "rows/s",
        _penstock("temporal"),
        reach=5e5,
    ),
]
