"""Kill -9 at random moments: nothing accepted is lost, and with ``checkpoint: output`` nothing is doubled."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.servers import free_port

from .harness import Process, kill_repeatedly, query

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
KILLS = 20
SLOW = {
    "type": "python",
    "function": "slow",
    "script": "import asyncio\nasync def slow(batch):\n    await asyncio.sleep(0.02)\n    return batch\n",
}


@contextmanager
def running(folder: Path, stream: dict[str, Any], *, broken: str | None = None) -> Iterator[Process]:
    process = Process(folder, {"streams": [stream]}, broken=broken)
    try:
        yield process
    finally:
        process.close()


def database(folder: Path, **options: Any) -> dict[str, Any]:
    return {"type": "sql", "url": f"sqlite:///{folder / 'out.db'}", "table_name": "rows", **options}


class Lines:
    """A file of numbered JSON lines that can be made longer."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def add(self, count: int) -> None:
        with self.path.open("a") as file:
            for n in range(self.count, self.count + count):
                file.write(json.dumps({"n": n, "name": f"row {n}", "even": n % 2 == 0}) + "\n")
        self.count += count


def copying(folder: Path, checkpoint: str) -> dict[str, Any]:
    """A stream that copies the lines that are not divisible by seven, and takes its time."""
    return {
        "id": "copy",
        "input": {"type": "file", "path": str(folder / "rows.jsonl"), "chunk_size": 600},
        "pipeline": {
            "thread_num": 2,
            "processors": [
                {"type": "filter", "condition": "n % 7 <> 0"},
                SLOW,
                {"type": "sql", "query": "SELECT n, upper(name) AS name FROM flow"},
            ],
        },
        "output": database(folder),
        "checkpoint": checkpoint,
        "max_in_flight": 2,
    }


def copy_under_fire(folder: Path, checkpoint: str, seed: int) -> Counter[str]:
    lines = Lines(folder / "rows.jsonl")
    lines.add(3000)
    with running(folder, copying(folder, checkpoint)) as process:
        kill_repeatedly(process, KILLS, random.Random(seed), more=lambda: lines.add(500))
        process.start()
        assert process.wait() == 0, process.tail()
    return count_copied(folder, lines, process)


def count_copied(folder: Path, lines: Lines, process: Process) -> Counter[str]:
    found = Counter(n for (n,) in query(folder / "out.db", "SELECT n FROM rows"))
    expected = {n for n in range(lines.count) if n % 7}
    return Counter(
        kills=process.kills,
        early=process.early,
        rows=len(expected),
        lost=len(expected - set(found)),
        doubled=sum(count - 1 for count in found.values()),
        invented=len(set(found) - expected),
    )


def test_file_to_sqlite_with_checkpoint_in_the_state_loses_nothing(tmp_path: Path) -> None:
    counts = copy_under_fire(tmp_path, "state", 1)
    print("file -> sqlite, checkpoint: state:", dict(counts))
    assert counts["kills"] >= KILLS
    assert counts["lost"] == counts["invented"] == 0


def test_file_to_sqlite_with_checkpoint_in_the_output_writes_each_row_once(tmp_path: Path) -> None:
    counts = copy_under_fire(tmp_path, "output", 2)
    print("file -> sqlite, checkpoint: output:", dict(counts))
    assert counts["kills"] >= KILLS
    assert counts["lost"] == counts["doubled"] == counts["invented"] == 0


def test_an_ack_before_the_write_would_be_noticed(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "rows.jsonl")
    lines.add(3000)
    stream = copying(tmp_path, "state")
    state = tmp_path / "data/state.db"
    saved = "SELECT * FROM _penstock_checkpoints WHERE key LIKE 'copy/%' AND position ->> 'rows' > 0"
    with running(tmp_path, stream, broken="ack") as process:
        process.start()
        process.wait_for(lambda: state.exists() and query(state, saved), "position of rows that are not written")
        process.kill()
    with running(tmp_path, stream) as process:
        process.start()
        assert process.wait() == 0, process.tail()
    assert count_copied(tmp_path, lines, process)["lost"] > 0


class Client(threading.Thread):
    """Posts rows with ids of their own until it is told to stop, and notes what each request was answered."""

    def __init__(self, port: int, first: int) -> None:
        super().__init__(daemon=True)
        self._port, self._ids, self.stopping = port, itertools.count(first, 1000), threading.Event()
        self.acked: list[int] = []
        self.unanswered: list[int] = []

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self.stopping.is_set():
            ids = [next(self._ids), next(self._ids)]
            body = json.dumps([{"id": number, "text": "x" * 50} for number in ids])
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
                connection.request("POST", "/rows", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                (self.acked if answer.status == 200 else self.unanswered).extend(ids)
            except (OSError, http.client.HTTPException):
                self.unanswered += ids
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.01)
            time.sleep(0.002)
        if connection is not None:
            connection.close()


ACKED_A_KILL = 50
"""How many rows are acknowledged before each kill that is not an early one."""


def receive_under_fire(
    folder: Path, seed: int, *, kills: int = KILLS, broken: str | None = None, key: str | None = None, **options: Any
) -> Counter[str]:
    port = free_port()
    stream = {
        "id": "receive",
        "input": {"type": "http", "address": f"127.0.0.1:{port}", "path": "/rows", "codec": "json"},
        "durability": {"segment_bytes": 20_000},
        "pipeline": [SLOW],
        "output": database(folder, **({"key": [key]} if key else {})),
        "max_in_flight": 4,
        **options,
    }
    clients = [Client(port, first) for first in range(4)]
    with running(folder, stream, broken=broken) as process:
        for client in clients:
            client.start()

        def acked() -> int:
            return sum(len(client.acked) for client in clients)

        def wait_for_answers() -> None:
            wanted = acked() + (1 if broken else ACKED_A_KILL)
            process.wait_for(lambda: acked() >= wanted, "answer to requests")

        # On a busy machine the first answer may come later than the kill, which then would show nothing.
        kill_repeatedly(process, kills, random.Random(seed), before=wait_for_answers)
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join(30)
        process.start()
        process.wait_until_running()
        code, took = process.terminate()
        assert code == 0, process.tail()
    found = Counter(n for (n,) in query(folder / "out.db", "SELECT id FROM rows"))
    answered = {number for client in clients for number in client.acked}
    unanswered = {number for client in clients for number in client.unanswered}
    segments = list((folder / "data" / "wal").rglob("*.wal"))
    return Counter(
        kills=process.kills,
        early=process.early,
        acked=len(answered),
        unanswered=len(unanswered),
        lost=len(answered - set(found)),
        doubled=sum(count - 1 for count in found.values()),
        invented=len(set(found) - answered - unanswered),
        segments=len(segments),
        stop_ms=round(took * 1000),
    )


def test_acknowledged_requests_are_in_the_database_with_checkpoint_in_the_state(tmp_path: Path) -> None:
    counts = receive_under_fire(tmp_path, 4)
    print("http -> log -> sqlite, checkpoint: state:", dict(counts))
    assert counts["kills"] >= KILLS
    assert counts["acked"] > KILLS / 2 * ACKED_A_KILL
    assert counts["lost"] == counts["invented"] == 0
    assert counts["segments"] <= 3, "what is written is pruned"


def test_acknowledged_requests_are_in_the_database_once_with_a_key(tmp_path: Path) -> None:
    counts = receive_under_fire(tmp_path, 5, key="id")
    print("http -> log -> sqlite with a key:", dict(counts))
    assert counts["kills"] >= KILLS
    assert counts["acked"] > KILLS / 2 * ACKED_A_KILL
    assert counts["lost"] == counts["doubled"] == counts["invented"] == 0


def test_acknowledged_requests_are_in_the_database_once_with_checkpoint_in_the_output(tmp_path: Path) -> None:
    counts = receive_under_fire(tmp_path, 6, checkpoint="output")
    print("http -> log -> sqlite, checkpoint: output:", dict(counts))
    assert counts["kills"] >= KILLS
    assert counts["acked"] > KILLS / 2 * ACKED_A_KILL
    assert counts["lost"] == counts["doubled"] == counts["invented"] == 0


def test_an_answer_before_the_log_is_written_would_be_noticed(tmp_path: Path) -> None:
    counts = receive_under_fire(tmp_path, 7, kills=6, broken="log")
    print("answered before the log was written, on purpose:", dict(counts))
    assert counts["lost"] > 0


SENSORS, ROWS_OF_A_WINDOW = 3, 20
START = 1_700_000_000


def readings(path: Path, windows: int) -> dict[tuple[str, int], tuple[int, float]]:
    """Write readings, some of them a little out of order; returns count and average by sensor and window start."""
    chance = random.Random(8)
    rows: list[tuple[float, str, float]] = []
    for window in range(windows):
        for sensor in range(SENSORS):
            count = chance.randrange(5, ROWS_OF_A_WINDOW)
            rows += [
                (window * 10 + chance.uniform(0, 9.99), f"s{sensor}", float(chance.randrange(1000)))
                for _ in range(count)
            ]
    rows.sort(key=lambda row: row[0] + chance.uniform(0, 3))
    by_window: dict[tuple[str, int], list[float]] = {}
    with path.open("w") as file:
        for at, sensor, value in rows:
            millis = START * 1000 + int(at * 1000)
            by_window.setdefault((sensor, millis // 10_000 * 10), []).append(value)
            file.write(json.dumps({"sensor": sensor, "at": millis, "value": value}) + "\n")
    return {key: (len(values), sum(values) / len(values)) for key, values in by_window.items()}


def windows_under_fire(folder: Path, checkpoint: str, seed: int) -> tuple[Process, dict[Any, Any], list[Any]]:
    expected = readings(folder / "readings.jsonl", 400)
    stream = {
        "id": "windows",
        "input": {"type": "file", "path": str(folder / "readings.jsonl"), "chunk_size": 1500},
        "buffer": {
            "type": "tumbling_window",
            "interval": "10s",
            "time": "event",
            "timestamp_field": "at",
            "out_of_orderness": "4s",
        },
        "pipeline": [
            SLOW,
            {
                "type": "sql",
                "query": "SELECT sensor, window_start, count(*) AS count, avg(value) AS average "
                "FROM flow GROUP BY sensor, window_start",
            },
        ],
        "output": database(folder),
        "checkpoint": checkpoint,
        "max_in_flight": 2,
    }
    with running(folder, stream) as process:
        kill_repeatedly(process, KILLS, random.Random(seed), longest=0.3)
        process.start()
        assert process.wait() == 0, process.tail()
    statement = "SELECT sensor, CAST(strftime('%s', window_start) AS INTEGER), count, average FROM rows"
    return process, expected, query(folder / "out.db", statement)


def right(found: list[Any], expected: dict[Any, Any]) -> list[Any]:
    """The written windows that are not exactly what they should be."""
    return [row for row in found if expected.get((row[0], row[1])) != (row[2], pytest.approx(row[3], abs=1e-6))]


def test_event_time_windows_are_written_exactly_once_with_checkpoint_in_the_output(tmp_path: Path) -> None:
    process, expected, found = windows_under_fire(tmp_path, "output", 9)
    wrong = right(found, expected)
    missing = set(expected) - {(row[0], row[1]) for row in found}
    print(
        f"event-time windows, checkpoint: output: {process.kills} kills ({process.early} early), {len(expected)} "
        f"windows, {len(missing)} lost, {len(found) - len(expected) + len(missing)} doubled, {len(wrong)} wrong"
    )
    assert process.kills >= KILLS
    assert (missing, wrong, len(found)) == (set(), [], len(expected))


def test_event_time_windows_are_never_written_in_part_with_checkpoint_in_the_state(tmp_path: Path) -> None:
    process, expected, found = windows_under_fire(tmp_path, "state", 10)
    wrong = right(found, expected)
    missing = set(expected) - {(row[0], row[1]) for row in found}
    print(
        f"event-time windows, checkpoint: state: {process.kills} kills ({process.early} early), {len(expected)} "
        f"windows, {len(missing)} lost, {len(found) - len(expected) + len(missing)} doubled, {len(wrong)} in part"
    )
    assert process.kills >= KILLS
    assert (missing, wrong) == (set(), [])
