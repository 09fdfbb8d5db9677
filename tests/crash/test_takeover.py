"""Two processes on one stream: each row is written once, and one of them says why it does not take part."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from .harness import Process

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
ROWS = 1500
GATE = """
import os, time
def wait(batch):
    while batch.column("n")[0].as_py() >= 300 and not os.path.exists({go!r}):
        time.sleep(0.01)
    return batch
"""


def process(folder: Path, name: str, output: dict[str, Any], *, data: str, checkpoint: str, **options: Any) -> Process:
    """A process that reads the rows, behind the first 300 only once there is a file `go`."""
    own = folder / name
    own.mkdir()
    source = {"type": "file", "path": str(folder / "in.jsonl"), "codec": "json", "chunk_size": 500}
    gate = {"type": "python", "function": "wait", "script": GATE.format(go=str(folder / "go"))}
    stream = {"id": "copy", "input": source, "output": output, "checkpoint": checkpoint}
    stream["pipeline"] = {"thread_num": 1, "processors": [gate]}
    return Process(own, {"data": str(folder / data), "streams": [{**stream, "max_in_flight": 2}], **options})


@contextlib.contextmanager
def run(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for one in processes:
            with contextlib.suppress(Exception):
                os.kill(one.pid, signal.SIGCONT)
            one.close()


@pytest.fixture
def rows(tmp_path: Path) -> range:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(ROWS)))
    return range(ROWS)


def test_a_second_process_on_the_same_data_is_refused_and_told_by_whom(tmp_path: Path, rows: range) -> None:
    output = {"type": "sql", "url": f"sqlite:///{tmp_path / 'out.db'}", "table_name": "rows"}
    first = process(tmp_path, "first", output, data="data", checkpoint="state")
    second = process(tmp_path, "second", output, data="data", checkpoint="state")
    with run(first, second):
        first.start()
        first.wait_until_running()
        second.start()
        assert second.wait() == 1
        assert f"is in use by another process ({first.pid})" in second.tail()
        (tmp_path / "go").touch()
        assert first.wait() == 0
    assert written(tmp_path) == list(rows)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_second_process_elsewhere_is_fenced_by_the_position_in_sqlite(
    tmp_path: Path, rows: range, frozen: bool
) -> None:
    output = {"type": "sql", "url": f"sqlite:///{tmp_path / 'out.db'}", "table_name": "rows"}
    ends_once(tmp_path, output, frozen, lambda: len(written(tmp_path)))
    assert written(tmp_path) == list(rows)


@pytest.mark.server
@pytest.mark.parametrize("frozen", [False, True])
def test_a_second_process_elsewhere_is_fenced_by_the_position_in_postgresql(
    tmp_path: Path, rows: range, frozen: bool, postgres_database: str
) -> None:
    def found() -> list[int]:
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('rows')").fetchone() == (None,):
                return []
            return [n for (n,) in connection.execute("SELECT n FROM rows ORDER BY n").fetchall()]

    ends_once(tmp_path, {"type": "sql", "url": postgres_database, "table_name": "rows"}, frozen, lambda: len(found()))
    assert found() == list(rows)


def test_a_second_process_does_not_take_part_in_duckdb(tmp_path: Path, rows: range) -> None:
    path = tmp_path / "out.duckdb"
    output = {"type": "sql", "url": f"duckdb:///{path}", "table_name": "rows"}
    first = process(tmp_path, "first", output, data="data-1", checkpoint="output")
    second = process(tmp_path, "second", output, data="data-2", checkpoint="output")
    with run(first, second):
        first.start()
        first.wait_until_running()
        second.start()
        (tmp_path / "go").touch()
        assert first.wait() == 0
        assert second.wait() == 0, "it waits for the file, and then finds that all was written"
    with duckdb.connect(str(path)) as connection:
        assert [n for (n,) in connection.execute("SELECT n FROM rows ORDER BY n").fetchall()] == list(rows)


def test_positions_in_a_shared_state_are_moved_by_one_process_only(tmp_path: Path, rows: range) -> None:
    state = str(tmp_path / "state.db")
    target = {"type": "sql", "url": f"sqlite:///{tmp_path / 'out.db'}", "table_name": "rows"}
    first = process(tmp_path, "first", target, data="data-1", checkpoint="state", state=state)
    second = process(tmp_path, "second", target, data="data-2", checkpoint="state", state=state)
    with run(first, second):
        for one in (first, second):
            one.start()
        for one in (first, second):
            one.wait_until_running()
        wait_until(lambda: len(written(tmp_path)) >= 300)
        (tmp_path / "go").touch()
        codes = sorted((first.wait(), second.wait()))
    assert codes == [0, 1]
    assert "another process has moved the position" in first.tail() + second.tail()
    assert sorted(set(written(tmp_path))) == list(rows)


def ends_once(folder: Path, output: dict[str, Any], frozen: bool, count: Any) -> None:
    """Run two processes with data folders of their own: one writes all there is, the other stops and says why."""
    first = process(folder, "first", output, data="data-1", checkpoint="output")
    second = process(folder, "second", output, data="data-2", checkpoint="output")
    with run(first, second):
        first.start()
        wait_until(lambda: count() >= 300)
        if frozen:
            os.kill(first.pid, signal.SIGSTOP)
        second.start()
        second.wait_until_running()
        (folder / "go").touch()
        if frozen:
            assert second.wait() == 0
            os.kill(first.pid, signal.SIGCONT)
            assert first.wait() == 1
        assert sorted((first.wait(), second.wait())) == [0, 1], first.tail() + second.tail()
        assert "another process has moved the position" in first.tail() + second.tail()


def wait_until(condition: Any, timeout: float = 90) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def written(folder: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(folder / "out.db", timeout=60)) as database:
        try:
            return [n for (n,) in database.execute("SELECT n FROM rows ORDER BY n").fetchall()]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
