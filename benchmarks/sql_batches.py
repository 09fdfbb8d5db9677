"""Microseconds a batch costs in SQL: planned once for its schema, or again for every batch.

Run with ``python benchmarks/sql_batches.py``; it takes less than half a minute.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from datafusion import SessionConfig, SessionContext

from penstock.query import PreparedQuery

QUERIES = {
    "filter": "SELECT * FROM flow WHERE temperature > 20",
    "project": "SELECT sensor, temperature * 1.8 + 32 AS fahrenheit, battery + 1 AS b FROM flow",
    "group by": "SELECT sensor, avg(temperature) AS mean, count(*) AS n FROM flow GROUP BY sensor",
}
SIZES = (1, 100, 1000, 8192)
ROUNDS = 5
SECONDS_A_ROUND = 0.08


@dataclass(frozen=True)
class Row:
    """One line of the table: microseconds a batch, the median of the rounds with the least and the most."""

    query: str
    way: str
    size: int
    median: float
    least: float
    most: float


def batch_of(size: int) -> pa.RecordBatch:
    """Readings of a hundred sensors in eight columns; half of them pass the filter."""
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


def planned_again(sql: str) -> Callable[[pa.RecordBatch], object]:
    """The plain way: one session, in which each batch is registered and queried."""
    session = SessionContext(SessionConfig().with_target_partitions(1))

    def run(batch: pa.RecordBatch) -> object:
        session.deregister_table("flow")
        session.register_record_batches("flow", [[batch]])
        return session.sql(sql).collect()

    return run


def measured(run: Callable[[pa.RecordBatch], object], batch: pa.RecordBatch) -> list[float]:
    """Microseconds a call in each round, after a warm-up."""
    for _ in range(20):
        run(batch)
    found = []
    for _ in range(ROUNDS):
        calls, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < SECONDS_A_ROUND:
            run(batch)
            calls += 1
        found.append(passed / calls * 1e6)
    return found


def rows() -> list[Row]:
    """Measure every query, way and size."""
    found = []
    for query, sql in QUERIES.items():
        for way, run in (("prepared", PreparedQuery(sql).run), ("planned again", planned_again(sql))):
            for size in SIZES:
                took = measured(run, batch_of(size))
                found.append(Row(query, way, size, statistics.median(took), min(took), max(took)))
    return found


def main() -> None:
    """Print the table with the machine it was measured on."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    print("us per batch, one thread: median (least-most) of", ROUNDS)
    print(f"{'query':10}{'way':15}" + "".join(f"{size:>20} rows" for size in SIZES))
    table = rows()
    for query in QUERIES:
        for way in ("prepared", "planned again"):
            line = [row for row in table if (row.query, row.way) == (query, way)]
            cells = (f"{row.median:.0f} ({row.least:.0f}-{row.most:.0f})" for row in line)
            print(f"{query:10}{way:15}" + "".join(f"{cell:>25}" for cell in cells))


if __name__ == "__main__":
    main()
