"""Windows whose query is computed as rows come: sliding, sessions of each key, and a long one over many keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .case import Case, Sample, Span, measured, memory, peak_memory, rate

_ROWS, _BATCH = 2_000_000, 8192
_KEYS, _MANY_KEYS = 1000, 1_000_000
_START = 1_699_999_200_000
_SPAN = 3_500_000
_QUERY = "SELECT k, count(*) AS n, sum(v) AS total, avg(f) AS mean FROM flow GROUP BY k"
_EVENT = {"time": "event", "timestamp_field": "at", "out_of_orderness": "2s", "query": _QUERY}
_WINDOWS: dict[str, dict[str, Any]] = {
    "sliding": {"type": "sliding_window", "size": "5m", "slide": "1m"},
    "session": {"type": "session_window", "gap": "10s", "key": "k"},
    "hour": {"type": "tumbling_window", "size": "1h"},
}


def _data(rows: int, keys: int) -> Any:
    import numpy as np
    import pyarrow as pa

    chance = np.random.default_rng(1)
    times = np.sort(chance.integers(1000, _SPAN, rows)) + _START + chance.integers(-500, 500, rows)
    columns = {"k": chance.integers(0, keys, rows), "at": times, "v": chance.integers(0, 1000, rows)}
    return pa.record_batch({**columns, "f": chance.random(rows)})


async def _run(folder: Path, kind: str, data: Any) -> Span:
    from penstock.component import Buffer
    from penstock.errors import EndOfInput
    from penstock.testing.contexts import lend_context

    buffer = Buffer.parse({**_WINDOWS[kind], **_EVENT})
    async with lend_context(folder) as context, buffer.open(context) as queue:
        checkpoint = await context.checkpoint("input")

        async def fill() -> None:
            for start in range(0, data.num_rows, _BATCH):
                await queue.put(await checkpoint.deliver(data.slice(start, _BATCH), start + _BATCH))
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
        asyncio.run(_run(folder / "few", kind, _data(20_000, _KEYS)))
        return rate(_ROWS, asyncio.run(_run(folder, kind, _data(_ROWS, _KEYS))))

    return measure


def _duckdb(folder: Path) -> Sample:
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    connection.register("flow", _data(_ROWS, _KEYS))
    with measured() as span:
        connection.execute(
            "SELECT start, k, count(*), sum(v), avg(f) FROM (SELECT *, "
            'unnest(range("at" // 60000 - 4, "at" // 60000 + 1)) AS start FROM flow) GROUP BY ALL'
        ).fetchall()
    return rate(_ROWS, span)


def _memory(folder: Path) -> Sample:
    """Return how many bytes more the process has while a window of an hour is open, for each of a million keys."""
    asyncio.run(_run(folder / "few", "hour", _data(20_000, _KEYS)))
    data = _data(_ROWS, _MANY_KEYS)
    keys = data.column("k").unique()
    before, peak = memory(), peak_memory()
    span = asyncio.run(_run(folder, "hour", data))
    used = (max(peak_memory(), peak) - before) * (1 << 20)
    return Sample(used / len(keys), span.cpu, peak_memory(), {"rows/s": _ROWS / span.seconds, "keys": len(keys)})


CASES = [
    Case(
        "sliding",
        "windows",
        "Penstock: sliding 5 min / 1 min, count, sum, avg of 1000 keys",
        "rows/s",
        _penstock("sliding"),
        reach=1e6,
    ),
    Case("sliding-duckdb", "windows", "DuckDB in one shot, 1 thread", "rows/s", _duckdb, role="ceiling"),
    Case(
        "session",
        "windows",
        "Penstock: sessions of each of 1000 keys, gap 10 s",
        "rows/s",
        _penstock("session"),
        reach=1e6,
    ),
    Case(
        "hour",
        "windows",
        "Penstock: memory of a window of one hour over 1 M keys",
        "bytes a key",
        _memory,
        reach=600,
        more_is_better=False,
    ),
]
