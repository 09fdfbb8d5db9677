"""The write-ahead log after crashes, on a full disk, and while the output is down: what was answered 200 is kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from penstock.testing.forks import call
from penstock.testing.servers import PostgresServer, free_port

from .harness import Process, query

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


class Place:
    """A folder with a stream that takes posts and keeps them in a log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.down = folder, free_port(), free_port()
        self.log_folder = folder / "log-folder"

    def to_nowhere(self, **options: Any) -> Process:
        """The stream, with an output that cannot be reached."""
        return self._process({"type": "http", "url": f"http://127.0.0.1:{self.down}/"}, **options)

    def to_database(self, **options: Any) -> Process:
        """The stream, with an output that can."""
        output = {"type": "sql", "url": f"sqlite:///{self.folder / 'out.db'}", "table_name": "rows"}
        return self._process(output, **options)

    def _process(self, output: dict[str, Any], *, port: int | None = None, **options: Any) -> Process:
        source = {"type": "http", "address": f"127.0.0.1:{port or self.port}", "path": "/rows", "codec": "json"}
        durability = {"path": str(self.log_folder), **options.pop("durability", {})}
        stream = {"id": "receive", "input": {**source, **options.pop("input", {})}, "output": output}
        return Process(self.folder, {"streams": [{**stream, "durability": durability, **options}]})

    def post(self, *ids: int, size: int = 10) -> int:
        """Post rows; returns the status, 0 if there was no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = "\n".join(json.dumps({"id": number, "text": "x" * size}) for number in ids)
        try:
            connection.request("POST", "/rows", body, {"content-type": "application/x-ndjson"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def written(self) -> list[int]:
        """The ids in the database, in the order in which they were written."""
        return [number for (number,) in query(self.folder / "out.db", "SELECT id FROM rows ORDER BY rowid")]

    def wait_for(self, ids: Sequence[int], timeout: float = 90) -> None:
        """Wait until these ids are in the database."""
        deadline = time.monotonic() + timeout
        while not set(ids) <= set(self.written()):
            assert time.monotonic() < deadline, f"missing: {sorted(set(ids) - set(self.written()))[:10]}"
            time.sleep(0.05)

    def wait_until_saved(self, entries: int) -> None:
        """Return once the position says that so many entries are written, a moment after their rows are there."""
        wanted, deadline = f'"position":{entries},', time.monotonic() + 90
        (path,) = self.folder.rglob("state.db")
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
            while True:
                found = [str(row) for row in database.execute("SELECT * FROM _penstock_checkpoints")]
                if any(wanted in row for row in found):
                    return
                assert time.monotonic() < deadline, found
                time.sleep(0.02)

    def segments(self) -> list[Path]:
        return sorted(self.log_folder.rglob("*.wal"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextlib.contextmanager
def run(process: Process) -> Iterator[Process]:
    process.start()
    try:
        process.wait_until_running()
        yield process
    finally:
        process.close()


def test_rows_that_are_only_in_the_log_survive_a_kill_while_the_output_is_down(place: Place) -> None:
    with run(place.to_nowhere()) as process:
        assert [place.post(number) for number in range(50)] == [200] * 50
        assert process.kill()
    with run(place.to_nowhere()) as process:  # it starts and takes rows though the output is still down
        assert [place.post(number) for number in range(50, 60)] == [200] * 10
        assert process.kill()
    with run(place.to_database()) as process:
        place.wait_for(range(60))
        assert process.terminate()[0] == 0
    assert place.written() == list(range(60))


def test_a_torn_record_at_the_end_of_the_log_costs_nothing_that_was_answered(place: Place) -> None:
    with run(place.to_nowhere()) as process:
        assert [place.post(number) for number in range(30)] == [200] * 30
        process.kill()
    last = place.segments()[-1]
    record = last.read_bytes()[:200]
    for torn in (record[:7], record[:150], b"\0" * 4096):  # a header in part, a payload in part, a hole
        with last.open("ab") as file:
            file.write(torn)
        with run(place.to_nowhere()) as process:
            assert place.post(100 + len(torn)) == 200
            process.kill()
        last = place.segments()[-1]
    expected = [*range(30), 107, 250, 4196]
    with run(place.to_database()) as process:
        place.wait_for([*range(30), 107, 100 + 150, 100 + 4096])
        assert process.terminate()[0] == 0
    assert place.written() == expected
    assert "are no whole record" in process.log.read_text()


def test_damage_in_the_log_is_told_and_passed_by_salvage(place: Place) -> None:
    health, address = {"enabled": True}, f"127.0.0.1:{free_port()}"
    with run(place.to_nowhere()) as process:
        assert [place.post(number) for number in range(100)] == [200] * 100
        assert process.terminate()[0] == 0, "nothing is torn after a stop"
    (path,) = place.segments()
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 10] ^= 16
    path.write_bytes(data)
    damaged = place.to_database()
    configuration = json.loads(damaged.configuration.read_text())
    damaged.configuration.write_text(json.dumps({**configuration, "health_check": {**health, "address": address}}))
    with run(damaged) as process:
        assert place.post(100) == 200, "what comes in is kept"
        told = wait_for_trouble(address)
        assert path.name in told
        assert "penstock log salvage" in told
        assert process.terminate()[0] == 1
        assert path.name in process.tail()
    assert path.read_bytes() == data, "nothing is cut off"
    seen = penstock("log", "inspect", str(damaged.configuration))
    assert (seen.returncode, "unreadable" in seen.stdout, " is missing" in seen.stdout) == (1, True, True)
    done = penstock("log", "salvage", str(damaged.configuration))
    assert done.returncode == 0, done.stderr
    (lost,) = (int(number) - 1 for number in re.findall(r"entry (\d+) is missing", done.stdout))
    expected = [number for number in range(101) if number != lost]
    with run(place.to_database()) as process:
        place.wait_for(expected)
        assert process.terminate()[0] == 0
    assert sorted(set(place.written())) == expected, "what was written when it stopped may come again"


def penstock(*arguments: str) -> subprocess.CompletedProcess[str]:
    return call(("-m", "penstock"), arguments)


def wait_for_trouble(address: str) -> str:
    """Return what /health says is in the way, once it says something."""
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"http://{address}/health", timeout=60)
        except urllib.error.HTTPError as unwell:
            with unwell:
                found = json.load(unwell)["streams"]["receive"]["trouble"]
            if found:
                return str(found)
        assert time.monotonic() < deadline, "nothing is told"
        time.sleep(0.05)


def test_a_pruned_log_goes_on_behind_what_was_written(place: Place) -> None:
    small = {"durability": {"segment_bytes": 2000}}
    with run(place.to_database(**small)) as process:
        assert [place.post(number) for number in range(100)] == [200] * 100
        place.wait_for(range(100))
        assert place.post(100) == 200
        place.wait_for([100])
        assert len(place.segments()) < 5, "what is written is deleted"
        place.wait_until_saved(101)
        process.kill()
    with run(place.to_nowhere(**small)) as process:
        assert [place.post(number) for number in range(101, 130)] == [200] * 29
        process.kill()
    with run(place.to_database(**small)) as process:
        place.wait_for(range(130))
        assert process.terminate()[0] == 0
    assert place.written() == list(range(130))


def test_a_second_process_on_the_same_log_is_told_so_and_harms_nothing(place: Place, tmp_path: Path) -> None:
    with run(place.to_database()) as first:
        assert place.post(1) == 200
        other = Place(tmp_path / "other")
        other.folder.mkdir()
        other.log_folder = place.log_folder
        with run(other.to_database()) as second:
            assert second.wait() == 1
            assert "is in use by another process" in second.tail()
        assert place.post(2) == 200
        place.wait_for([1, 2])
        assert first.terminate()[0] == 0
    assert place.written() == [1, 2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs to be root, with the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_delays_answers_and_loses_nothing(place: Place, small_disk: Path) -> None:
    place.log_folder = small_disk
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 200_000)
    acked: list[int] = []
    options: dict[str, Any] = {"input": {"timeout": "1s"}, "durability": {"segment_bytes": 20_000}}
    with run(place.to_nowhere(**options)) as process:
        number = 0
        while (status := place.post(number, size=5000)) == 200:
            acked.append(number)
            number += 1
            assert number < 100, "the disk should be full"
        assert status == 503
        assert place.post(1000, size=5000) == 503
        ballast.unlink()
        deadline = time.monotonic() + 90
        while place.post(1001, size=5000) != 200:
            assert time.monotonic() < deadline, "it goes on when there is room again"
        acked.append(1001)
        process.kill()
    assert len(acked) > 5
    with run(place.to_database(**options)) as process:
        place.wait_for(acked)
        assert process.terminate()[0] == 0
    assert set(place.written()) - set(acked) <= {number, 1000, 1001}, "what was not answered 200 may be there too"


def test_a_kill_and_restart_on_a_full_disk_loses_nothing(place: Place, small_disk: Path) -> None:
    place.log_folder = small_disk
    options: dict[str, Any] = {"input": {"timeout": "1s"}}
    acked: list[int] = []
    with run(place.to_nowhere(**options)) as process:
        while place.post(len(acked), size=5000) == 200:
            acked.append(len(acked))
        process.kill()
    # A torn record and no room at all: what can be read must be.
    with contextlib.suppress(OSError), place.segments()[-1].open("ab") as file:
        file.write(b"\1" * 100_000)
    with run(place.to_database(**options)) as process:
        place.wait_for(acked)
        assert process.terminate()[0] == 0
    assert set(place.written()) - set(acked) <= {len(acked)}


def test_a_stop_while_the_output_is_down_is_prompt_and_loses_nothing(place: Place) -> None:
    with run(place.to_nowhere()) as process:
        assert [place.post(number) for number in range(40)] == [200] * 40
        code, took = process.terminate()
        assert (code, took < 3) == (0, True), f"exit code {code} after {took:.1f} s: {process.tail()}"
    with run(place.to_database()) as process:
        place.wait_for(range(40))
        assert process.terminate()[0] == 0
    assert place.written() == list(range(40))


def test_a_batch_with_a_dictionary_is_read_again_from_the_log(place: Place) -> None:
    import pyarrow as pa

    batch = pa.RecordBatch.from_pydict(
        {"id": [1, 2, 3], "text": pa.array(["a", "b", "a"]).dictionary_encode()},
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with run(place.to_nowhere()) as process:
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=60)
        headers = {"content-type": "application/vnd.apache.arrow.stream"}
        connection.request("POST", "/rows", sink.getvalue().to_pybytes(), headers)
        assert connection.getresponse().status == 200
        connection.close()
        process.kill()
    with run(place.to_database()) as process:
        place.wait_for([1, 2, 3])
        assert process.terminate()[0] == 0
    assert query(place.folder / "out.db", "SELECT id, text FROM rows") == [(1, "a"), (2, "b"), (3, "a")]


@pytest.mark.server
@pytest.mark.parametrize("checkpoint", ["state", "output"])
def test_rows_are_taken_while_the_database_is_away_from_the_start(
    place: Place, postgres_server: PostgresServer, checkpoint: str
) -> None:
    def stored() -> list[int]:
        with psycopg.connect(url, autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('rows')").fetchone() == (None,):
                return []
            return [number for (number,) in connection.execute("SELECT id FROM rows ORDER BY id").fetchall()]

    url = postgres_server.create_database()
    output = {"type": "sql", "url": url, "table_name": "rows"}
    address = f"127.0.0.1:{free_port()}"
    postgres_server.stop()
    process = place._process(output, checkpoint=checkpoint)
    configuration = json.loads(process.configuration.read_text())
    process.configuration.write_text(json.dumps({**configuration, "health_check": {"address": address}}))
    with run(process):
        assert [place.post(number) for number in range(10)] == [200] * 10
        assert "refused" in wait_for_trouble(address)
        process.kill()
    with run(process):
        assert [place.post(number) for number in range(10, 20)] == [200] * 10
        assert process.terminate()[0] == 0
    with run(process):
        assert [place.post(number) for number in range(20, 30)] == [200] * 10
        postgres_server.start()
        deadline = time.monotonic() + 90
        while (found := stored()) != list(range(30)):
            assert time.monotonic() < deadline, f"{found}, {process.tail()}"
            time.sleep(0.1)
        assert place.post(30) == 200
        assert process.terminate()[0] == 0
    with run(process):
        assert place.post(31) == 200
        deadline = time.monotonic() + 90
        while stored() != list(range(32)):
            assert time.monotonic() < deadline, process.tail()
            time.sleep(0.1)
        assert process.terminate()[0] == 0
