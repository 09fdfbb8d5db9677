"""What nobody would notice by itself: the log, /health, /readiness and /metrics say it.

Outages, frozen servers, bad rows, rows that are diverted, second processes and damaged logs are in the files beside
this one, in ``tests/crash`` and in ``tests/serving``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from penstock import PermanentError, TransientError
from penstock.clients import sqlite

from .test_hanging import Penstock


def followed(folder: Path, **options: Any) -> dict[str, Any]:
    """A stream that follows a log of numbers into SQLite."""
    (folder / "app.log").write_text('{"n":0}\n')
    source = {"type": "file", "path": str(folder / "app.log"), "format": "json", "codec": "json", "follow": True}
    source |= {"poll_interval": "50ms", "settle_time": "200ms"}
    output = {"type": "sql", "url": f"sqlite:///{folder}/out/out.db", "table_name": "t"}
    return {"id": "s", "input": source, "output": output, "restart": {"attempts": 0}, **options}


def append(folder: Path, number: int) -> None:
    with (folder / "app.log").open("a") as file:
        file.write(f'{{"n":{number}}}\n')


def numbers(folder: Path) -> list[int]:
    """What the output holds."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/out/out.db?mode=ro", uri=True)) as database:
            return [number for (number,) in database.execute("SELECT n FROM t ORDER BY n")]
    except sqlite3.OperationalError:
        return []


def health(process: Penstock) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.get("/health")[1] or '{"streams":{"s":{}}}')["streams"]["s"]
    return found


def saved(folder: Path) -> bool:
    """Whether a position is in the file that is there."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/data/state.db?mode=ro", uri=True)) as database:
            return bool(database.execute("SELECT 1 FROM _penstock_checkpoints WHERE key LIKE 's%'").fetchall())
    except sqlite3.OperationalError:
        return False


@pytest.mark.parametrize("remove", [lambda data: os.unlink(data / "state.db"), shutil.rmtree])
def test_a_state_that_is_deleted_is_told_and_made_anew(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    with Penstock(tmp_path, followed(tmp_path)) as process:
        process.wait_until(lambda: saved(tmp_path), "its position")
        remove(tmp_path / "data")
        append(tmp_path, 1)
        process.wait_until(lambda: "was deleted while it was in use" in str(health(process).get("note")), "the note")
        assert "state.db was deleted while it was in use" in process.log
        assert process.get("/health")[0] == 200
        process.wait_until(lambda: saved(tmp_path), "its position")
        assert process.stop()[0] == 0
    with Penstock(tmp_path, followed(tmp_path)) as process:
        append(tmp_path, 2)
        process.wait_until(lambda: 2 in numbers(tmp_path), "the last row")
        process.stop()


def test_a_state_of_a_later_version_is_told_and_nothing_is_read(tmp_path: Path) -> None:
    with Penstock(tmp_path, followed(tmp_path)) as process:
        process.wait_until(lambda: saved(tmp_path), "its position")
        process.stop()
    with closing(sqlite3.connect(tmp_path / "data" / "state.db")) as database:
        database.execute("UPDATE _penstock_checkpoints SET position = '2' WHERE key = '_format'")
        database.commit()
    before = (tmp_path / "data" / "state.db").read_bytes()
    append(tmp_path, 1)
    with Penstock(tmp_path, followed(tmp_path)) as process:
        assert process.process.wait(60) != 0
    assert "a later version of Penstock wrote them; nothing was changed" in process.log
    assert numbers(tmp_path) == [0]
    assert (tmp_path / "data" / "state.db").read_bytes() == before


def test_a_state_that_is_emptied_stops_the_stream_and_is_told(tmp_path: Path) -> None:
    with Penstock(tmp_path, followed(tmp_path)) as process:
        process.wait_until(lambda: saved(tmp_path), "its position")
        with closing(sqlite3.connect(tmp_path / "data" / "state.db")) as database:
            database.execute("DELETE FROM _penstock_checkpoints")
            database.commit()
        append(tmp_path, 1)
        assert process.process.wait(60) == 1
        assert "is gone: what keeps it was emptied or replaced while in use" in process.log


@pytest.mark.parametrize("checkpoint", ["state", "output"])
def test_an_output_that_is_deleted_is_told(tmp_path: Path, checkpoint: str) -> None:
    with Penstock(tmp_path, followed(tmp_path, checkpoint=checkpoint)) as process:
        process.wait_until(lambda: numbers(tmp_path) == [0], "the first row")
        shutil.rmtree(tmp_path / "out")
        append(tmp_path, 1)
        if checkpoint == "state":
            process.wait_until(lambda: numbers(tmp_path) == [1], "the row in the file that is there")
        else:
            assert process.process.wait(60) == 1
            assert "is gone from the database" in process.log
        assert "was deleted or replaced while it was in use" in process.log


def test_rows_that_may_be_missing_are_told(tmp_path: Path) -> None:
    with Penstock(tmp_path, followed(tmp_path)) as process:
        process.wait_until(lambda: numbers(tmp_path) == [0], "the first row")
        (tmp_path / "app.log").unlink()
        (tmp_path / "app.log").write_text('{"n":5}\n')
        process.wait_until(lambda: numbers(tmp_path) == [0, 5], "the row of the new file")
        process.wait_until(lambda: "1 gaps, rows may be missing" in str(health(process).get("note")), "the note")
        assert process.metric("penstock_gaps_total") == 1
        assert "rows may be missing" in process.log
        assert process.get("/readiness")[0] == 200


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user to whom permissions of files apply."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_database_that_is_read_only_from_the_start_is_told_before_any_row() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "out.db"
        sqlite.connect(path).close()
        os.chmod(folder, 0o555)
        path.chmod(0o444)
        with nobody(), pytest.raises(PermissionError) as refused:
            sqlite.connect(path)
        os.chmod(folder, 0o755)
    error = sqlite.classify_error(refused.value, path, opening=True)
    assert isinstance(error, PermanentError)
    assert "may not be written" in str(error)
    assert isinstance(sqlite.classify_error(refused.value, path, opening=True, writing=True), TransientError)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6, 1.0])
def test_a_stop_in_the_first_second_loses_nothing(tmp_path: Path, delay: float) -> None:
    stream = followed(tmp_path, shutdown_timeout="5s", checkpoint="output")
    with Penstock(tmp_path, stream) as process:
        time.sleep(delay)  # Wherever it is by then.
        code, _ = process.stop()
        assert code in (0, -signal.SIGTERM)
    append(tmp_path, 1)
    with Penstock(tmp_path, stream) as process:
        process.wait_until(lambda: numbers(tmp_path) == [0, 1], "each row once")


def test_a_request_that_is_none_is_logged_with_its_time_and_level(tmp_path: Path) -> None:
    with Penstock(tmp_path, followed(tmp_path)) as process:
        process.wait_until(lambda: process.get("/liveness")[0] == 200, "a listener")
        with socket.create_connection(("127.0.0.1", process.port)) as connection:
            connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            connection.recv(1000)
        process.wait_until(lambda: "not a valid HTTP request" in process.log, "a line")
        (line,) = [line for line in process.log.splitlines() if "not a valid HTTP request" in line]
        assert re.match(r"\d{4}-\d\d-\d\dT.*\[warning", line)
