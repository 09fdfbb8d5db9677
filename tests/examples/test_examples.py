"""Every example runs as it is, and does what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from penstock.testing.servers import free_port

ROOT = Path(__file__).parents[2]
TESTS = sorted(path.name for path in (ROOT / "examples").glob("*.test.yaml"))
EXAMPLES = {path.stem for path in (ROOT / "examples").glob("*.yaml") if path.name not in TESTS}


class Examples:
    """The examples in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen[str]] = []
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, name: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "run", f"examples/{name}.yaml"],
            cwd=self.folder,
            env={**os.environ, "PENSTOCK_ADDRESS": self.address, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def run(self, name: str, **environment: str) -> list[Any]:
        """Run an example to its end and return the rows it printed."""
        return self._rows(self.start(name, **environment))

    def stop(self, process: subprocess.Popen[str]) -> list[Any]:
        """Stop an example and return the rows it printed."""
        process.send_signal(signal.SIGINT)
        return self._rows(process)

    def _rows(self, process: subprocess.Popen[str]) -> list[Any]:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        return [json.loads(line) if line.startswith("{") else line for line in out.splitlines()]

    def kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=60)

    def request(self, path: str, body: str | None = None, token: str = "") -> tuple[int, str]:
        """Ask until somebody listens; returns status and text."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        data = body.encode() if body is not None else None
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, headers=headers)
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return int(answer.status), answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in (404, 503) or time.monotonic() > deadline:
                        return error.code, error.read().decode()
            except urllib.error.URLError:
                assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.05)


@pytest.fixture
def examples(tmp_path: Path) -> Iterator[Examples]:
    found = Examples(tmp_path)
    yield found
    found.kill()


def _soon(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 90
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)
    return found


def _query(path: Path, sql: str) -> list[Any]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError:  # the table is not made yet
            return []


def test_quick_start(examples: Examples) -> None:
    assert examples.run("quick_start") == [{"sensor": "temp_1", "total": 100}] * 3


def test_routing(examples: Examples) -> None:
    alarms = examples.run("routing_example")
    assert alarms == [{"sensor": "a", "tags": tag, "celsius": 100} for tag in ("kettle", "kitchen")]
    kept = (examples.folder / "data" / "alarms.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == alarms
    (rest,) = (examples.folder / "data" / "readings.jsonl").read_text().splitlines()
    found = json.loads(rest)
    assert (found["sensor"], found["celsius"], found.get("tags")) == ("b", 10, None)


def test_generate(examples: Examples) -> None:
    assert examples.run("generate_example") == [{"total": 100, "mean": 10}] * 5


def test_python_processor(examples: Examples) -> None:
    rows = examples.run("python_processor_example")
    assert rows == [{"value": 20, "sensor": "temp_1"}, {"value": 24, "sensor": "temp_2"}]


def test_drop_output(examples: Examples) -> None:
    assert examples.run("drop_output_example") == []


def test_durability_in_a_bucket(examples: Examples, s3_endpoint: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    rows = examples.run("durability_s3_example", S3_ENDPOINT=s3_endpoint, **keys)
    assert rows == [{"sensor": "a", "value": 1}] * 20


def test_durability(examples: Examples) -> None:
    process = examples.start("durability_example")
    assert process.stdout is not None
    before = [process.stdout.readline() for _ in range(10)]
    process.kill()
    rest, _ = process.communicate(timeout=60)
    after = examples.run("durability_example")
    assert set(map(str.strip, [*before, *rest.splitlines()])) == {'{"value":10,"sensor":"temp_1"}'}
    assert len(before) + rest.count("\n") + len(after) >= 100
    assert examples.run("durability_example") == []


def test_http_server_and_client(examples: Examples) -> None:
    server = examples.start("http_server_example")
    assert examples.request("/data", '{"sensor": "a", "value": 1}', "wrong")[0] == 401
    assert examples.request("/data", '{"sensor": "a", "value": 1}', "not-a-secret") == (200, '{"accepted":1}')
    assert examples.run("http_client_example") == []
    rows = examples.stop(server)
    assert rows[0] == {"sensor": "a", "doubled": 2}
    assert rows[1:] == [{"sensor": "temp_1", "doubled": 20}] * 200


def test_exactly_once_and_sql_input(examples: Examples) -> None:
    for _ in range(2):
        assert examples.run("exactly_once_example") == []
        assert _query(examples.folder / "readings.db", "SELECT count(*) FROM readings") == [(8,)]
    with (examples.folder / "examples/data/readings.jsonl").open("a") as file:
        file.write('{"sensor": "roof", "celsius": 30, "measured_at": "2026-03-01T10:00:30Z"}\n')
    examples.run("exactly_once_example")
    assert _query(examples.folder / "readings.db", "SELECT count(*) FROM readings") == [(9,)]
    rows = examples.run("sql_input_example")
    assert [row["fahrenheit"] for row in rows] == [70.7, 72.5, 73.4, 77.0, 86.0]


@pytest.mark.server
def test_exactly_once_in_postgresql(examples: Examples, postgres_database: str) -> None:
    import psycopg

    for _ in range(2):
        examples.run("exactly_once_example", READINGS_URL=postgres_database)
    with psycopg.connect(postgres_database) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT measured_at) FROM readings").fetchone() == (8, 8)


def test_event_time_window(examples: Examples) -> None:
    rows = examples.run("event_time_window_example")
    found = [(row["window_start"][17:19], row["sensor"], row["readings"], row["celsius"]) for row in rows]
    assert found == [
        ("00", "garden", 3, 4.0),
        ("00", "kitchen", 2, 22.0),
        ("10", "garden", 1, 6.0),
        ("10", "kitchen", 1, 23.0),
        ("20", "kitchen", 1, 25.0),
    ]


def test_multiple_inputs(examples: Examples) -> None:
    rows = examples.run("multiple_inputs_example")
    counts = Counter((row["source"], row["sensor"]) for row in rows)
    assert counts[("pulse", "pulse")] == 3
    assert {source for source, _ in counts} == {"pulse", "readings"}


def test_join(examples: Examples) -> None:
    assert examples.run("join_example") == [
        {"order_id": 1, "amount": 30, "name": "Ada"},
        {"order_id": 2, "amount": 12},  # null, which stdout leaves out
    ]


def test_http_durable(examples: Examples) -> None:
    process = examples.start("http_durable_example")
    orders = '[{"id": 1, "amount": 9.5}, {"id": 2, "amount": 3}]'
    for _ in range(2):
        assert examples.request("/hook/orders", orders)[0] == 200
    assert examples.request("/hook/orders", '{"amount": 4}')[0] == 200
    database = examples.folder / "webhook.db"
    _soon(lambda: len(_query(database, "SELECT * FROM orders")) == 2, "orders")
    refused = examples.folder / "refused.jsonl"
    _soon(lambda: refused.exists() and refused.read_text().endswith("\n"), "refused row")
    assert json.loads(json.loads(refused.read_text())["payload"]) == {"amount": 4}
    assert examples.stop(process) == []
    assert _query(database, "SELECT id, amount FROM orders ORDER BY id") == [(1, 9.5), (2, 3.0)]


def test_inbox(examples: Examples) -> None:
    folder = examples.folder / "inbox" / "trees"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("name,height\noak,20\n")
    (folder / "b.jsonl").write_text('{"name": "elm", "height": 15}\n')
    process = examples.start("inbox_example", FLUSH="200ms")
    archive = examples.folder / "archive" / "trees"

    def names() -> set[str]:
        return {
            row["name"] for file in archive.glob("*.parquet") for row in pyarrow.parquet.read_table(file).to_pylist()
        }

    _soon(lambda: names() == {"oak", "elm"}, "archive")
    assert examples.stop(process) == []


def test_control_plane(examples: Examples) -> None:
    process = examples.start("control_plane_example")
    _soon(lambda: examples.request("/readiness")[0] == 200, "readiness")
    assert json.loads(examples.request("/health")[1])["status"] == "well"
    assert examples.request("/liveness")[0] == 200
    assert "penstock_rows_in_total" in examples.request("/metrics")[1]
    assert examples.request("/api/v1/streams", token="wrong")[0] == 401
    [stream] = json.loads(examples.request("/api/v1/streams", token="not-a-secret")[1])["items"]
    assert (stream["id"], stream["state"]) == ("temperatures", "running")
    rows = examples.stop(process)
    assert rows
    assert rows[0] == {"value": 10, "sensor": "temp_1"}


def test_control_plane_smoke(examples: Examples) -> None:
    process = examples.start("control_plane_smoke_example")
    assert examples.request("/health")[0] == 200
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "smoke\n" * 20)


def test_each_example_is_run_and_listed() -> None:
    source = Path(__file__).read_text()
    assert {name for name in EXAMPLES if f'"{name}"' in source} == EXAMPLES
    listed = (ROOT / "examples" / "README.md").read_text()
    assert {name for name in EXAMPLES if f"({name}.yaml)" in listed} == EXAMPLES


def test_the_tests_beside_the_examples_pass(examples: Examples) -> None:
    command = [sys.executable, "-m", "penstock", "test", *(f"examples/{name}" for name in TESTS)]
    done = subprocess.run(command, cwd=examples.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


UNTESTED = {
    "join_example": "its rows are those of two inputs, which a test does not tell apart",
    "http_durable_example": "its rows have the time of this machine",
}


def test_each_example_has_tests_beside_it() -> None:
    tested = {name.removesuffix(".test.yaml") for name in TESTS}
    assert tested == EXAMPLES - set(UNTESTED)
