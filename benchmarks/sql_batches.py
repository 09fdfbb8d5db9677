"""What a batch costs in SQL: planned once for its schema, or again for every batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .case import Case, Sample, measured, peak_memory

_QUERIES = {
    "filter": "SELECT * FROM flow WHERE temperature > 20",
    "project": "SELECT sensor, temperature * 1.8 + 32 AS fahrenheit, battery + 1 AS b FROM flow",
    "group-by": "SELECT sensor, avg(temperature) AS mean, count(*) AS n FROM flow GROUP BY sensor",
}
_SIZES = (1, 100, 1000, 8192)
_SECONDS = 0.5


def _batch(size: int) -> Any:
    """Readings of a hundred sensors in eight columns; half of them pass the filter."""
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(size)
    return pa.record_batch(
        {
            "id": np.arange(size),
            "sensor": [f"sensor-{n % 100}" for n in range(size)],
            "temperature": random.uniform(0, 40, size),
            "battery": random.integers(0, 100, size),
            "humidity": random.uniform(0, 1, size),
            "at": random.integers(0, 10**12, size),
            "site": [f"site {n % 7}" for n in range(size)],
            "ok": random.integers(0, 2, size).astype(bool),
        }
    )


def _prepared(sql: str) -> Callable[[Any], object]:
    from penstock.sql.query import PreparedQuery

    return PreparedQuery(sql).run


def _planned_again(sql: str) -> Callable[[Any], object]:
    """The plain way: one session, in which each batch is registered and queried."""
    from datafusion import SessionConfig, SessionContext

    session = SessionContext(SessionConfig().with_target_partitions(1))

    def run(batch: Any) -> object:
        session.deregister_table("flow")
        session.register_record_batches("flow", [[batch]])
        return session.sql(sql).collect()

    return run


def _measure(way: Callable[[str], Callable[[Any], object]], sql: str, size: int) -> Callable[[Path], Sample]:
    def measure(folder: Path) -> Sample:
        run, batch = way(sql), _batch(size)
        for _ in range(20):
            run(batch)
        calls, until = 0, time.perf_counter() + _SECONDS
        with measured() as span:
            while time.perf_counter() < until:
                run(batch)
                calls += 1
        cpu = span.cpu / calls * 1e6
        return Sample(span.seconds / calls * 1e6, span.cpu, peak_memory(), {"us of processor time": cpu})

    return measure


def _cases(query: str, size: int) -> list[Case]:
    name, what = f"sql-{query}-{size}", f"{query.replace('-', ' ')} of {size} row{'s' if size > 1 else ''}"
    reach = 250 if size == max(_SIZES) else None
    ours = _measure(_prepared, _QUERIES[query], size)
    again = _measure(_planned_again, _QUERIES[query], size)
    return [
        Case(name, "sql", f"Penstock: {what}, prepared", "us", ours, reach, more_is_better=False),
        Case(f"{name}-again", "sql", f"{what}, planned again", "us", again, more_is_better=False, role="ceiling"),
    ]


CASES = [case for query in _QUERIES for size in _SIZES for case in _cases(query, size)]
