"""SQL of people over the API of the platform: it only reads, within bounds, and reaches nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PermanentError
from penstock.platform.access.caller import Caller
from penstock.platform.tables.guards import names_of
from penstock.platform.tables.queries import Queries
from penstock.platform.tables.worker import find

from .stored import Stored, engine, stored

__all__ = ["engine", "stored"]

WRITES = [
    "INSERT INTO readings VALUES (3, 'x')",
    "DELETE FROM readings",
    "DROP TABLE readings",
    "CREATE TABLE other (n INTEGER)",
    "WITH gone AS (DELETE FROM readings RETURNING n) SELECT * FROM gone",
    "SELECT 1; DROP TABLE readings",
    "UPDATE readings SET n = 0",
    "VACUUM",
    "BEGIN",
    "",
    "-- nothing",
]
HOSTILE = {
    "sqlite": [
        "ATTACH '{path}/new.db' AS new",
        "DETACH rows",
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = 0",
        "VACUUM INTO '{path}/copy.db'",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT hash FROM platform.penstock_keys",
        "WITH penstock_keys AS (SELECT * FROM platform.penstock_keys) SELECT * FROM penstock_keys",
        "SELECT name FROM users WHERE EXISTS (SELECT 1 FROM penstock_sessions)",
    ],
    "duckdb": [
        "ATTACH '{path}/new.db' AS new",
        "PRAGMA database_list",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '{path}/x.csv'",
        "WITH \"{path}/x.csv\" AS (SELECT 1) SELECT * FROM (SELECT 1), '{path}/x.csv'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM (FROM duckdb_secrets())",
        "SELECT getenv('HOME')",
        "SELECT current_setting('memory_limit')",
        "SELECT write_log('x')",
        "COPY readings TO '{path}/out.csv'",
        "COPY (SELECT 1) TO '{path}/out.csv'",
        "EXPORT DATABASE '{path}/out'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE SELECT * FROM read_csv('/etc/passwd')",
    ],
    "postgres": [
        "COPY readings TO '/tmp/out.csv'",
        "COPY readings TO PROGRAM 'id'",
        "COPY (SELECT 1) TO STDOUT",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT \"pg_read_file\"('/etc/passwd')",
        "SELECT pg_catalog . /* x */ pg_read_file ('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/out')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT set_config -- x\r('transaction_read_only', 'off', false)",
        "SELECT query_to_xml('SELECT pg_read_file(''/etc/passwd'')', true, true, '')",
        "SELECT U&\"\\0070g_read_file\"('/etc/passwd')",
        "SELECT /* /* */ 'x' */ 1",
        "SELECT * FROM pg_authid",
        "SELECT * FROM pg_stat_activity",
        "SELECT pg_sleep(100)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_terminate_backend(1)",
        "SELECT nextval('s')",
        "DO $$ BEGIN PERFORM set_config('role', 'postgres', false); END $$",
        "SET ROLE postgres",
        "RESET ROLE",
        "LISTEN x",
        "LOCK TABLE readings",
        "CALL x()",
        "EXPLAIN ANALYZE DELETE FROM readings",
        "SELECT * FROM readings FOR UPDATE",
        "SELECT hash FROM platform.penstock_keys",
        "SELECT * INTO other FROM readings",
    ],
}


async def ask(stored: Stored, sql: str, status: int | None = 200, **more: Any) -> Any:
    answer = await stored.api("POST", "/sql", json={"sql": sql, **more})
    assert status is None or answer.status_code == status, (sql, answer.text[:500])
    return answer.json()


@pytest.fixture
def readings(stored: Stored) -> Stored:
    stored.run("CREATE TABLE readings (n INTEGER, name VARCHAR(100))")
    stored.run("INSERT INTO readings VALUES (?, ?)", [[1, "<b>one</b>"], [2, None]])
    return stored


async def test_a_query_finds_rows(readings: Stored) -> None:
    found = (await ask(readings, "SELECT n, name, n * 2 AS twice FROM readings ORDER BY n"))["data"]
    assert found["columns"] == ["n", "name", "twice"]
    assert found["rows"] == [[1, "<b>one</b>", 2], [2, None, 4]]
    assert not found["is_cut"]
    assert (await ask(readings, "WITH a AS (SELECT n FROM readings) SELECT count(*) FROM a, a AS b"))["data"][
        "rows"
    ] == [[4]]
    cut = (await ask(readings, "SELECT * FROM readings", limit=1))["data"]
    assert (len(cut["rows"]), cut["is_cut"]) == (1, True)
    if readings.engine == "sqlite":  # All files of the installation, by their owners' names.
        assert (await ask(readings, "SELECT count(*) FROM platform.penstock_users"))["data"]["rows"] == [[1]]
    assert "nothing" in (await ask(readings, "SELECT * FROM nothing", 400))["message"]
    assert (await ask(readings, "SELEC 1", 400))["error"] == "validation_error"


async def test_a_query_changes_nothing_and_reaches_nothing_else(readings: Stored, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("secret\nplain\n")
    before = {file for file in tmp_path.rglob("*") if not file.name.endswith(("-wal", "-shm"))}
    service = readings.api.service
    caller = Caller(user=1, user_name="me", key="", scopes=frozenset(["operator"]), address="")
    places = await service.tables.places(caller)
    for statement in [*WRITES, *HOSTILE[readings.engine]]:
        sql = statement.replace("{path}", str(tmp_path))
        task = await asyncio.to_thread(service.queries.task, places, "rows", sql, limit=10)
        with pytest.raises(PermanentError) as refused:
            await asyncio.to_thread(lambda task=task: list(find(task)[1]))
        assert not re.search("plain|root:|argon2", str(refused.value)), statement
    await ask(readings, WRITES[0], 400)
    await ask(readings, HOSTILE[readings.engine][0], 400)
    assert len((await ask(readings, "SELECT * FROM readings"))["data"]["rows"]) == 2
    after = {file for file in tmp_path.rglob("*") if not file.name.endswith(("-wal", "-shm"))}
    assert after == before


@pytest.mark.slow
async def test_time_and_memory_and_size_are_bounded(readings: Stored) -> None:
    queries = readings.api.service.queries
    queries.timeout = 3.0
    endless = {
        "sqlite": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        "postgres": "WITH RECURSIVE r(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
        "duckdb": "SELECT count(*) FROM range(1000000000) a(i), range(1000000000) b(i) WHERE a.i + b.i = 7",
    }[readings.engine]
    ended = await ask(readings, endless, None)
    assert ended["error"] in ("too_slow", "validation_error")
    queries.timeout = 30.0
    long = {
        "sqlite": "SELECT hex(zeroblob(5000000)) AS x",
        "postgres": "SELECT repeat('0', 10000000) AS x",
        "duckdb": "SELECT repeat('0', 10000000) AS x",
    }[readings.engine]
    found = (await ask(readings, long))["data"]
    assert len(found["rows"][0][0]) == 10_000
    assert found["is_cut"]
    wide = ", ".join(f"{n} AS c{n}" for n in range(1500))
    assert len((await ask(readings, f"SELECT {wide}"))["data"]["columns"]) == 1500
    if readings.engine == "sqlite":
        huge = ", ".join("zeroblob(50000000)" for _ in range(40))
        assert "memory" in (await ask(readings, f"SELECT {huge}", 400))["message"]
        assert (await ask(readings, "SELECT zeroblob(1000000000)", 400))["message"]
    assert (await ask(readings, "SELECT 1"))["data"]["rows"] == [[1]], "the next one runs"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_query_is_cancelled_by_its_id(readings: Stored) -> None:
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
    other = await readings.api.make("other", scopes=["operator"], user="other")
    running = asyncio.ensure_future(ask(readings, endless, None, id="mine"))
    while not (await readings.api("POST", "/sql/mine/cancel")).json()["data"]["was_running"]:
        assert not (await readings.api("POST", "/sql/mine/cancel", key=other)).json()["data"]["was_running"]
        assert not running.done()
    assert "cancelled" in (await running)["message"]
    assert not (await readings.api("POST", "/sql/mine/cancel")).json()["data"]["was_running"]


async def test_all_of_a_result_is_downloaded(readings: Stored) -> None:
    many = {
        "sqlite": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 30000) SELECT n FROM r",
        "postgres": "SELECT n FROM generate_series(1, 30000) n",
        "duckdb": "SELECT n FROM range(1, 30001) r(n)",
    }[readings.engine]
    answer = await readings.api("GET", "/sql/download", params={"sql": many, "format": "jsonl"})
    assert [json.loads(line)["n"] for line in answer.text.splitlines()] == list(range(1, 30_001))
    answer = await readings.api("GET", "/sql/download", params={"sql": "DROP TABLE readings", "format": "parquet"})
    assert answer.status_code == 400


@pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
async def test_queries_are_kept_by_each_user(readings: Stored) -> None:
    api = readings.api
    saved = {"name": "<all>", "sql": "SELECT 1", "place": "rows"}
    first = (await api("POST", "/queries", json=saved)).json()["data"]
    again = (await api("POST", "/queries", json=saved | {"sql": "SELECT 2"})).json()["data"]
    assert (again["id"], again["sql"]) == (first["id"], "SELECT 2")
    other = await api.make("other", scopes=["toys.send"], user="other")
    assert (await api("GET", "/queries", key=other)).json()["data"] == []
    assert (await api("DELETE", f"/queries/{first['id']}", key=other)).status_code == 404
    assert [one["name"] for one in (await api("GET", "/queries")).json()["data"]] == ["<all>"]
    assert (await api("DELETE", f"/queries/{first['id']}")).status_code == 200
    assert (await api("GET", "/queries")).json()["data"] == []


async def test_a_key_without_the_scope_asks_nothing(readings: Stored) -> None:
    api = readings.api
    sender = await api.make("sensor", scopes=["toys.send"])
    assert (await api("POST", "/sql", key=sender, json={"sql": "SELECT 1"})).status_code == 404
    reader = await api.make("reader", scopes=["inbox.read"])
    answer = await api("POST", "/sql", key=reader, json={"sql": "SELECT n FROM readings ORDER BY n"})
    if readings.engine == "postgres":
        assert answer.status_code == 403
        return
    assert answer.json()["data"]["rows"] == [[1], [2]]
    answer = await api("POST", "/sql", key=reader, json={"sql": "SELECT * FROM platform.penstock_users"})
    assert answer.status_code == 400
    assert "penstock_users" in answer.text


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT f(1)", [("select", False), ("f", True)]),
        ('SELECT "F" (1)', [("select", False), ("F", True)]),
        ("SELECT 'f(1)' $$ g(1) $$ $a$ $$ h( $a$", [("select", False)]),
        ("SELECT E'\\'' f(1)", [("select", False), ("f", True)]),
        ("SELECT '\\' f(1)", [("select", False), ("f", True)]),
        ("a -- f(1)\n b", [("a", False), ("b", False)]),
        ("date'2026-01-01'", [("date", False)]),
    ],
)
def test_names_are_read_as_the_server_reads_them(sql: str, expected: list[tuple[str, bool]]) -> None:
    assert names_of(sql) == expected


@pytest.mark.parametrize("sql", ["'", '"', "U&'x'", "/* /* */", "1e'\\' f(1) --'", "\\"])
def test_what_could_be_read_otherwise_is_refused(sql: str) -> None:
    with pytest.raises(PermanentError):
        names_of(sql)


async def test_duckdb_is_queried_beside_its_writer(tmp_path: Path) -> None:
    from penstock.clients.database import Duckdb
    from penstock.clients.duckdb import connect
    from penstock.platform.tables.places import Place

    queries, place = Queries(), Place("rows", Duckdb(path=tmp_path / "rows.duckdb"))
    writer = await asyncio.to_thread(connect, tmp_path / "rows.duckdb")
    try:
        writer.execute("CREATE TABLE readings (n INTEGER)")
        writer.execute("INSERT INTO readings VALUES (7)")
        task = await asyncio.to_thread(queries.task, {"rows": place}, "rows", "SELECT * FROM readings", limit=10)
        assert (await queries.run(task, 1, "a")).rows == [[7]]
        for hostile in (
            "SELECT * FROM '/etc/passwd'",
            "DELETE FROM readings",
            "SELECT * FROM read_text('/etc/passwd')",
        ):
            task = await asyncio.to_thread(queries.task, {"rows": place}, "rows", hostile, limit=10)
            with pytest.raises(PermanentError):
                await queries.run(task, 1, "b")
        assert writer.execute("SELECT count(*) FROM readings").fetchall() == [(1,)]
    finally:
        writer.close()
