"""``penstock up`` from end to end: rows posted and files dropped are durable, and can be queried."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import sqlite3
import stat
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet
import pytest

from penstock.testing.servers import free_port


def _rows(penstock, sql: str, **environment: str) -> list[dict[str, Any]]:
    done = penstock("query", "--format", "json", sql, **environment)
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def _count(up, penstock, table: str, rows: int, **environment: str) -> None:
    def there() -> bool:
        found = _rows(penstock, f"SELECT count(*) AS n FROM {table}", **environment)
        return bool(found) and found[0]["n"] == rows

    up.wait_for(there, f"{rows} rows in {table}")


def test_a_posted_row_can_be_queried(up, penstock) -> None:
    running = up()
    assert running.post("/ingest/readings", {"sensor": "kitchen", "celsius": 21.5}) == 200
    _count(running, penstock, "readings", 1)
    table = penstock("query", "SELECT * FROM readings")
    assert table.stdout.splitlines() == ["sensor   celsius", "-------  -------", "kitchen  21.5"]

    assert running.post("/ingest/readings", '[{"sensor": "a", "celsius": 1, "new": true}, {"sensor": "b"}]') == 200
    assert running.post("/ingest/readings", "sensor,celsius\nc,3.5\n", "text/csv") == 200
    assert running.post("/ingest/readings", '{"sensor": "d"}\n{"sensor": "e"}\n', "application/x-ndjson") == 200
    _count(running, penstock, "readings", 6)
    found = list(csv.DictReader(io.StringIO(penstock("query", "-f", "csv", "SELECT * FROM readings").stdout)))
    assert [row["sensor"] for row in found] == ["kitchen", "a", "b", "c", "d", "e"]
    assert found[1]["new"] == "1"
    assert re.search(r"^readings +sensor, celsius, new$", penstock("query").stdout, re.MULTILINE)

    status, page = running.get("/")
    assert status == 200
    assert 'src="console/main.js"' in page
    assert running.get("/health")[0] == 200
    assert 'penstock_rows_in_total{stream="ingest"} 6.0' in running.get("/metrics")[1]
    assert running.end() == 0
    assert "Traceback" not in running.stderr
    _count(up(), penstock, "readings", 6)


def test_a_row_that_does_not_fit_is_kept_with_its_reason(up, penstock) -> None:
    running = up()
    assert running.post("/ingest/readings", {"celsius": 21.5}) == 200
    _count(running, penstock, "readings", 1)
    assert running.post("/ingest/readings", '[{"celsius": "warm"}, {"celsius": 3}]') == 200
    _count(running, penstock, "readings", 2)
    _count(running, penstock, "_quarantine", 1)
    [refused] = _rows(penstock, "SELECT * FROM _quarantine")
    assert json.loads(refused["payload"]) == {"celsius": "warm"}
    assert "warm" in refused["reason"]
    assert json.loads(refused["metadata"])["ext"]["table"] == "readings"


def test_two_senders_do_not_spoil_each_other(up, penstock, tmp_path: Path) -> None:
    """Neither columns nor types nor a name that does not fit pass from one table to another."""
    running = up()
    assert running.post("/ingest/doors", {"open": True, "secret_note": "x"}) == 200
    assert running.post("/ingest/shops", {"name": "bakery"}) == 200
    for unfit in ({"": 1}, {"Abc": 1, "abc": 2}, {"a\nb": 1}, {"k" * 3000: 1}):
        assert running.post("/ingest/evil", unfit) == 200
    assert running.post("/ingest/shops", {"name": "cafe", "open": "08:00-18:00"}) == 200
    assert running.post("/ingest/doors", '[{"open": false}, {"Open": 1, "open": true}, {"open": true}]') == 200
    forged = {"level": 1, "__meta_ext": {"table": "doors"}, "__meta_source": "elsewhere"}
    assert running.post("/ingest/alarms", forged) == 200
    _count(running, penstock, "alarms", 1)
    _count(running, penstock, "shops", 2)
    _count(running, penstock, "doors", 3)
    with closing(sqlite3.connect(tmp_path / "penstock-data" / "penstock.db")) as connection:
        columns = {
            table: [(name, kind) for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")]
            for table in ("doors", "shops", "alarms")
        }
    assert columns == {
        "doors": [("open", "BOOLEAN"), ("secret_note", "TEXT")],
        "shops": [("name", "TEXT"), ("open", "TEXT")],
        "alarms": [("level", "INTEGER")],
    }
    assert running.get("/health")[0] == 200
    refused = _rows(penstock, "SELECT * FROM _quarantine")
    assert {json.loads(row["metadata"])["ext"]["table"] for row in refused} <= {"evil", "doors"}
    assert [json.loads(row["payload"]) for row in refused if "doors" in row["metadata"]] == [{"Open": 1, "open": True}]


def test_a_name_of_the_system_does_not_stop_the_stream(up, penstock, postgres_database: str) -> None:
    url = {"PENSTOCK_DATABASE_URL": postgres_database}
    running = up(**url)
    assert running.post("/ingest/boxes", {"xmin": 10, "label": "cat"}) == 200
    assert running.post("/ingest/boxes", {"label": "dog"}) == 200
    assert running.post("/ingest/other", {"a": 1}) == 200
    _count(running, penstock, "other", 1, **url)
    _count(running, penstock, "boxes", 1, **url)
    [refused] = _rows(penstock, "SELECT * FROM _quarantine", **url)
    assert "xmin" in refused["reason"]
    assert running.get("/health")[0] == 200


@pytest.mark.parametrize(
    ("table", "status"),
    [
        ("a/../b", 404),
        ("", 404),
        ("x" * 300, 400),
        ("a%2F..%2Fb", None),
        ("sqlite_x", None),
        ("_quarantine", None),
        ("a.b", None),
        ("%00", 400),
    ],
)
def test_a_bad_table_name_is_refused_or_quarantined(up, penstock, table: str, status: int | None) -> None:
    running = up()
    assert running.post(f"/ingest/{table}", {"a": 1}) == (status or 200)
    if status is None:
        _count(running, penstock, "_quarantine", 1)
        assert json.loads(_rows(penstock, "SELECT payload FROM _quarantine")[0]["payload"]) == {"a": 1}
    names = {line.split()[0] for line in penstock("query").stdout.splitlines()[2:]}
    assert {name for name in names if not name.startswith("health_")} <= {"_quarantine"}


def test_malformed_bodies_are_not_accepted(up, penstock) -> None:
    running = up()
    for body in ('{"a":', "5", "", "[1]", b"\xff\xfe"):
        assert running.post("/ingest/readings", body) == 400
    assert running.get("/health")[0] == 200


def test_files_of_all_formats_are_loaded_and_grow(up, penstock, tmp_path: Path) -> None:
    running = up()
    folder = tmp_path / "inbox" / "things"
    folder.mkdir()
    table = pa.table({"a": [5, 6], "extra": ["x", "y"]})
    (folder / "a.json").write_text('[{"a": 1}, {"a": 2}]')
    (folder / "b.jsonl").write_text('{"a": 3}\n')
    (folder / "c.csv").write_text("a\n4\n")
    pa.parquet.write_table(table, folder / "d.parquet")
    with pa.ipc.new_file(folder / "e.arrow", table.schema) as writer:
        writer.write_table(table)
    with (folder / "f.avro").open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}]}, [{"a": 9}])
    _count(running, penstock, "things", 9)
    assert [row["a"] for row in _rows(penstock, "SELECT a FROM things ORDER BY a")] == [1, 2, 3, 4, 5, 5, 6, 6, 9]
    with (folder / "b.jsonl").open("a") as file:
        file.write('{"a": 10, "later": 1}\n')
    _count(running, penstock, "things", 10)
    assert running.end() == 0

    running = up()
    (folder / "g.jsonl").write_text("no json\n" + '{"a": 11}\n')
    _count(running, penstock, "things", 11)
    _count(running, penstock, "_quarantine", 1)
    [refused] = _rows(penstock, "SELECT payload, metadata FROM _quarantine")
    assert refused["payload"] == "no json"
    assert "g.jsonl" in refused["metadata"]


@pytest.mark.crash
def test_nothing_is_lost_when_it_is_killed(up, penstock, tmp_path: Path) -> None:
    acknowledged = 0
    for _ in range(3):
        running = up()
        folder = tmp_path / "inbox" / "files"
        folder.mkdir(exist_ok=True)
        for _ in range(20):
            rows = [{"n": acknowledged + index} for index in range(10)]
            assert running.post("/ingest/numbers", json.dumps(rows)) == 200
            acknowledged += 10
        (folder / f"{acknowledged}.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(1000)))
        time.sleep(0.3)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(timeout=60)
    running = up()
    _count(running, penstock, "files", 3000)  # exactly once: position and rows are one transaction
    running.wait_for(
        lambda: _rows(penstock, "SELECT count(DISTINCT n) AS n FROM numbers")[0]["n"] == acknowledged, "all numbers"
    )
    assert running.end() == 0
    with closing(sqlite3.connect(tmp_path / "penstock-data" / "penstock.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.server
def test_rows_go_to_postgresql_when_asked(up, penstock, postgres_database: str) -> None:
    url = {"PENSTOCK_DATABASE_URL": postgres_database}
    running = up(**url)
    assert running.post("/ingest/readings", {"sensor": "kitchen", "celsius": 21.5}) == 200
    assert running.post("/ingest/readings", {"sensor": "garden", "celsius": "cold"}) == 200
    _count(running, penstock, "readings", 1, **url)
    _count(running, penstock, "_quarantine", 1, **url)
    assert (
        penstock("query", "--format", "csv", "SELECT * FROM readings", **url).stdout.splitlines()[1] == "kitchen,21.5"
    )
    assert "readings" in penstock("query", **url).stdout
    for forbidden in ("DELETE FROM readings", "SELECT 1; COMMIT; DELETE FROM readings", "DROP TABLE readings"):
        refused = penstock("query", forbidden, **url)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "Traceback" not in refused.stderr
    assert "there are: _quarantine, readings" in penstock("query", "SELECT * FROM nope", **url).stderr
    _count(running, penstock, "readings", 1, **url)
    assert running.end() == 0


def test_a_taken_address_is_said_at_once(up, penstock) -> None:
    running = up()
    done = penstock("up", "--address", running.url.removeprefix("http://"))
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert "--address" in done.stderr


def test_streams_of_ones_own_take_the_place_of_those_shipped(penstock, start, tmp_path: Path) -> None:
    shown = penstock("up", "--show")
    assert shown.returncode == 0
    own = "\nstreams:\n  - input: {type: http, address: '127.0.0.1:0', path: '/post/{table}'}\n    output: drop\n"
    (tmp_path / "mine.yaml").write_text(shown.stdout + own)
    assert penstock("validate", "mine.yaml").returncode == 0
    running = start("up", "--config", "mine.yaml", "--address", "127.0.0.1:0", "--data", "elsewhere")
    running.wait_for(lambda: "takes posts at /post/{table}" in running.stderr, "the other path")
    assert running.end() == 0
    assert (tmp_path / "elsewhere" / "penstock.db").exists()


def test_queries_cannot_change_anything_and_say_what_is_wrong(penstock, tmp_path: Path) -> None:
    nothing = penstock("query", "SELECT 1")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "nothing is stored in penstock-data yet" in nothing.stderr
    assert not (tmp_path / "penstock-data").exists()

    (tmp_path / "penstock-data").mkdir()
    with closing(sqlite3.connect(tmp_path / "penstock-data" / "penstock.db")) as connection:
        connection.execute("CREATE TABLE readings (n, text)")
        connection.executemany("INSERT INTO readings VALUES (?, ?)", [(n, "a\nb\x1b[2J") for n in range(1000)])
        connection.commit()
    for sql in (
        "DELETE FROM readings",
        "CREATE TABLE x (a)",
        "SELECT 1; DROP TABLE readings",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "PRAGMA journal_mode = DELETE",
    ):
        refused = penstock("query", sql)
        assert (refused.returncode, refused.stdout) == (1, ""), sql
        assert "Traceback" not in refused.stderr
    assert not list(tmp_path.glob("*.db"))
    assert "no such table: nope; there are: readings" in penstock("query", "SELECT * FROM nope").stderr
    assert "syntax error" in penstock("query", "SELEC 1").stderr
    table = penstock("query", "SELECT * FROM readings ORDER BY n").stdout
    assert table.count("\n") == 1002
    assert "a\\nb\\x1b[2J" in table
    assert "\x1b" not in table
    rows = penstock("query", "--format", "json", "SELECT * FROM readings").stdout.splitlines()
    assert json.loads(rows[999]) == {"n": 999, "text": "a\nb\x1b[2J"}
    empty = penstock("query", "SELECT * FROM readings WHERE n < 0")
    assert (empty.returncode, empty.stdout) == (0, "n  text\n-  ----\n")


def test_a_page_of_another_origin_plants_no_rows(up) -> None:
    running = up()
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        request = urllib.request.Request(f"{running.url}/ingest/planted", b'{"a": 1}', headers)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=60)
    assert running.post("/ingest/readings", {"a": 1}, "application/x-www-form-urlencoded") == 200, "as curl -d sends it"


def test_what_is_kept_is_closed_to_other_users(up, penstock, tmp_path: Path) -> None:
    data = tmp_path / "penstock-data"
    data.mkdir(mode=0o755)
    (data / "penstock.db").touch(mode=0o644)  # as older versions left it
    running = up()
    assert penstock("health", "keys", "create", "--name", "phone").returncode == 0
    assert running.post("/ingest/_hidden", {"celsius": 1}) == 200
    _count(running, penstock, "_quarantine", 1)
    assert running.end() == 0
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (data, *data.rglob("*"))}
    assert {path.name for path in found} >= {"penstock.db", "penstock-health.db", "state.db", "wal"}
    assert {path: oct(mode) for path, mode in found.items() if mode & 0o077} == {}


def test_tables_of_an_application_can_be_read_and_not_changed(penstock, tmp_path: Path) -> None:
    (tmp_path / "penstock-data").mkdir()
    for name, table in (("penstock.db", "readings"), ("penstock-health.db", "health_points")):
        with closing(sqlite3.connect(tmp_path / "penstock-data" / name)) as connection:
            connection.execute(f"CREATE TABLE {table} (n)")
            connection.execute(f"INSERT INTO {table} VALUES (7)")
            connection.commit()
    joined = "SELECT p.n + r.n AS sum FROM health.health_points p CROSS JOIN readings r"
    assert penstock("query", "--format", "csv", joined).stdout.splitlines() == ["sum", "14"]
    assert penstock("query", "DELETE FROM health.health_points").returncode == 1
    assert penstock("query", "--format", "csv", joined).stdout.splitlines() == ["sum", "14"]


def test_logs_are_json_where_that_is_asked_for(up) -> None:
    running = up(PENSTOCK_LOG_FORMAT="json")
    request = urllib.request.Request(f"{running.url}/api/v1/openapi.json", headers={"x-request-id": "call-4711"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["x-request-id"] == "call-4711"
    assert running.end() == 0
    lines = [json.loads(line) for line in running.stderr.splitlines() if line.startswith("{")]
    assert [line["event"].split(",")[0] for line in lines if line.get("correlation_id") == "call-4711"]


def test_a_second_one_on_the_same_data_is_refused_as_a_whole(up, start, tmp_path: Path) -> None:
    running = up()
    second = start("up", "--address", f"127.0.0.1:{free_port()}")
    assert second.process.wait(timeout=60) == 1
    assert f"is in use by another process ({running.process.pid})" in second.stderr
    assert "Penstock is up" not in second.stderr
    assert running.post("/ingest/t", {"a": 1}) == 200
    assert running.end() == 0


def test_rows_are_taken_while_the_database_is_away(start, tmp_path: Path) -> None:
    port = free_port()
    away = f"postgresql://u:p@127.0.0.1:{free_port()}/x"
    running = start("up", "--address", f"127.0.0.1:{port}", PENSTOCK_DATABASE_URL=away)

    def posted() -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/ingest/t", data=b'{"a": 1}', method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    running.wait_for(posted, "an answer of 200")
    assert list((tmp_path / "penstock-data" / "wal" / "ingest").glob("*.wal"))
    with pytest.raises(urllib.error.HTTPError) as unwell:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60)
    with unwell.value:
        assert "refused" in unwell.value.read().decode()
    assert running.end() == 0
