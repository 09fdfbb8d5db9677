"""Kill -9 windows whose query is computed as rows come: each result is written once, and is that of a batch job."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import duckdb
import pytest

from .harness import kill_repeatedly, query
from .test_kill import KILLS, SLOW, START, database, running

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
WINDOWS: dict[str, dict[str, Any]] = {
    "tumbling": {"type": "tumbling_window", "size": "10s"},
    "sliding": {"type": "sliding_window", "size": "20s", "slide": "10s"},
    "session": {"type": "session_window", "gap": "1s", "key": "sensor"},
}
GAP = 1000
SLOWER = {**SLOW, "script": SLOW["script"].replace("0.02", "0.05")}
"""Takes so long that the work outlasts all kills, whatever the machine."""


def write_readings(path: Path, seconds: int) -> list[tuple[str, int, int]]:
    """Write readings, some of them a little out of order; return them."""
    chance = random.Random(12)
    rows = [
        (f"s{chance.randrange(3)}", START * 1000 + chance.randrange(seconds * 1000), chance.randrange(1000))
        for _ in range(seconds * 3)
    ]
    rows.sort(key=lambda row: row[1] + chance.randrange(3000))
    with path.open("w") as file:
        file.writelines(json.dumps({"sensor": s, "at": at, "value": value}) + "\n" for s, at, value in rows)
    return rows


def compute(kind: str, rows: list[tuple[str, int, int]]) -> set[tuple[str, int, int, int, int]]:
    """Compute all windows over all rows at once."""
    found: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    if kind == "session":
        by_sensor: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for sensor, at, value in rows:
            by_sensor[sensor].append((at, value))
        for sensor, readings in by_sensor.items():
            session: list[tuple[int, int]] = []
            for reading in [*sorted(readings), (1 << 62, 0)]:
                if session and reading[0] - session[-1][0] >= GAP:
                    found[sensor, session[0][0], session[-1][0] + GAP] = [value for _, value in session]
                    session = []
                session.append(reading)
    else:
        length = 10_000 if kind == "tumbling" else 20_000
        for sensor, at, value in rows:
            for start in range(at // 10_000 * 10_000 - length + 10_000, at + 1, 10_000):
                found[sensor, start, start + length].append(value)
    return {(*key, len(values), sum(values)) for key, values in found.items()}


@pytest.mark.parametrize("checkpoint", ["output", "state"])
@pytest.mark.parametrize("kind", WINDOWS)
def test_results_are_those_of_a_batch_computation(tmp_path: Path, kind: str, checkpoint: str) -> None:
    rows = write_readings(tmp_path / "readings.jsonl", 3000)
    stream = {
        "id": "windows",
        "input": {"type": "file", "path": str(tmp_path / "readings.jsonl"), "chunk_size": 1500},
        "buffer": {
            **WINDOWS[kind],
            "time": "event",
            "timestamp_field": "at",
            "out_of_orderness": "4s",
            "query": "SELECT sensor, count(*) AS readings, sum(value) AS total FROM flow GROUP BY sensor",
        },
        "pipeline": [SLOWER],
        "output": database(tmp_path),
        "checkpoint": checkpoint,
        "max_in_flight": 2,
    }
    with running(tmp_path, stream) as process:
        kill_repeatedly(
            process, KILLS if checkpoint == "output" else 5, random.Random(13), longest=0.25, more=lambda: None
        )
        process.start()
        assert process.wait() == 0, process.tail()
    times = ", ".join(f"CAST(round(julianday({n}) * 86400000 - 210866760000000) AS INTEGER)" for n in BOUNDS)
    written = query(tmp_path / "out.db", f"SELECT sensor, {times}, readings, total FROM rows")
    assert set(written) == compute(kind, rows)
    if checkpoint == "output":
        assert len(written) == len(set(written))


def test_a_join_of_two_files_is_that_of_a_batch_computation(tmp_path: Path) -> None:
    chance = random.Random(14)
    rows: dict[str, list[tuple[int, int, int]]] = {"orders": [], "payments": []}
    for name, found in rows.items():
        for n in range(1500):
            found.append((n * 2000 + chance.randrange(2000), chance.randrange(8), n))
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            file.writelines(json.dumps({"at": START * 1000 + at, "k": k, name: n}) + "\n" for at, k, n in found)
    windows: dict[str, dict[tuple[int, int], list[int]]] = {name: defaultdict(list) for name in rows}
    for name, found in rows.items():
        for at, k, n in found:
            windows[name][(START * 1000 + at) // 10_000 * 10_000, k].append(n)
    keys = {*windows["orders"], *windows["payments"]}
    expected = {
        (start, order, payment)
        for start, k in keys
        for order in windows["orders"].get((start, k), [None])  # type: ignore[list-item]
        for payment in windows["payments"].get((start, k), [None])  # type: ignore[list-item]
    }
    inputs = [
        {"type": "file", "name": name, "path": str(tmp_path / f"{name}.jsonl"), "chunk_size": 1500} for name in rows
    ]
    stream = {
        "id": "joined",
        "input": {"type": "multiple_inputs", "inputs": inputs},
        "buffer": {
            "type": "tumbling_window",
            "size": "10s",
            "time": "event",
            "timestamp_field": "at",
            "out_of_orderness": "3s",
            "idle_timeout": "1h",
            "join": {"query": "SELECT orders, payments FROM orders FULL JOIN payments ON orders.k = payments.k"},
        },
        "pipeline": [SLOWER],
        "output": database(tmp_path),
        "checkpoint": "output",
        "max_in_flight": 2,
    }
    with running(tmp_path, stream) as process:
        kill_repeatedly(process, KILLS, random.Random(15), longest=0.25, more=lambda: None)
        process.start()
        assert process.wait() == 0, process.tail()
    start = "CAST(round(julianday(window_start) * 86400000 - 210866760000000) AS INTEGER)"
    written = query(tmp_path / "out.db", f"SELECT {start}, orders, payments FROM rows")
    assert set(written) == expected
    assert len(written) == len(expected)


def test_windows_that_spill_have_each_row_once(tmp_path: Path) -> None:
    rows = write_readings(tmp_path / "readings.jsonl", 2000)
    stream = {
        "id": "spilled",
        "input": {"type": "file", "path": str(tmp_path / "readings.jsonl"), "chunk_size": 1500},
        "buffer": {
            "type": "tumbling_window",
            "size": "60s",
            "time": "event",
            "timestamp_field": "at",
            "out_of_orderness": "4s",
            "max_rows": 40,
        },
        "pipeline": [SLOWER],
        "output": database(tmp_path),
        "checkpoint": "output",
        "max_in_flight": 2,
    }
    with running(tmp_path, stream) as process:
        kill_repeatedly(process, KILLS, random.Random(18), longest=0.25, more=lambda: None)
        process.start()
        assert process.wait() == 0, process.tail()
    written = query(tmp_path / "out.db", 'SELECT sensor, "at", value FROM rows')
    assert sorted(written) == sorted(rows)
    assert not [path for path in (tmp_path / "data").rglob("*.arrow") if "spill" in path.parts]


JOINS: dict[str, tuple[dict[str, Any], str]] = {
    "interval": (
        {"type": "interval_join", "before": "2s", "after": "3s", "how": "full"},
        "SELECT orders, payments FROM orders FULL JOIN payments ON orders.k = payments.k "
        "AND payments.at BETWEEN orders.at - 2000 AND orders.at + 3000",
    ),
    "temporal": (
        {"type": "temporal_join", "how": "left"},
        "SELECT orders, payments FROM orders ASOF LEFT JOIN payments ON orders.k = payments.k "
        "AND orders.at >= payments.at",
    ),
}


@pytest.mark.parametrize("kind", JOINS)
def test_a_join_over_time_is_that_of_a_batch_computation(tmp_path: Path, kind: str) -> None:
    options, statement = JOINS[kind]
    chance = random.Random(16)
    for name in ("orders", "payments"):
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            for n in range(3000):
                row = {"at": START * 1000 + n * 1000 + chance.randrange(3000), "k": chance.randrange(4), name: n}
                file.write(json.dumps(row) + "\n")
    inputs = [
        {"type": "file", "name": name, "path": str(tmp_path / f"{name}.jsonl"), "chunk_size": 1500}
        for name in ("orders", "payments")
    ]
    stream = {
        "id": "joined",
        "input": {"type": "multiple_inputs", "inputs": inputs},
        "buffer": {
            **options,
            "left": "orders",
            "right": "payments",
            "key": "k",
            "timestamp_field": "at",
            "out_of_orderness": "3s",
        },
        "pipeline": [SLOWER, {"type": "sql", "query": "SELECT orders, payments_payments AS payments FROM flow"}],
        "output": database(tmp_path),
        "checkpoint": "output",
        "max_in_flight": 2,
    }
    with running(tmp_path, stream) as process:
        kill_repeatedly(process, KILLS, random.Random(17), longest=0.25, more=lambda: None)
        process.start()
        assert process.wait() == 0, process.tail()
    connection = duckdb.connect(config={"threads": 1})
    for name in ("orders", "payments"):
        connection.execute(f"CREATE VIEW {name} AS FROM '{tmp_path / name}.jsonl'")
    expected = connection.execute(statement).fetchall()
    written = query(tmp_path / "out.db", "SELECT orders, payments FROM rows")
    assert sorted(written, key=repr) == sorted(expected, key=repr)


BOUNDS = ("window_start", "window_end")
