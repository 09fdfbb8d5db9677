"""Statements that run for too long: they are interrupted and shown, and a stop does not wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from penstock import ConnectionLost, Engine, PenstockError
from penstock.clients.deadline import Deadline
from penstock.clock import Clock
from penstock.runtime.threads import OwnThread

from .streams import ERRORS, letters, lines, run, stream, until

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n FROM c"
FOREVER = {
    "sqlite": ENDLESS,
    "duckdb": "SELECT sum(hash(a.range + b.range)) AS n FROM range(10000000) a, range(10000000) b",
    "postgres": "SELECT pg_sleep(3600)::text AS n",
}


@pytest.fixture(params=["sqlite", "duckdb", pytest.param("postgres", marks=pytest.mark.server)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database of each kind."""
    if kind == "postgres":
        return str(request.getfixturevalue("postgres_database"))
    connect: Any = sqlite3.connect if kind == "sqlite" else duckdb.connect
    with contextlib.closing(connect(str(tmp_path / "database"))) as connection:
        connection.execute("CREATE TABLE other (id int)")
    return f"{kind}:///{tmp_path / 'database'}"


def trouble(engine: Engine) -> str:
    return str(engine.supervised[0].status().trouble) if engine.supervised else ""


async def test_a_query_that_takes_too_long_is_interrupted_and_shown(kind: str, url: str, tmp_path: Path) -> None:
    source = {"type": "sql", "url": url, "select_sql": FOREVER[kind], "timeout": "200ms"}
    engine, stop = Engine([stream(input=source)], data=tmp_path / "data"), asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    async with asyncio.timeout(60):
        await until(lambda: "no answer within 0.2 s" in trouble(engine))
        assert not engine.supervised[0].status().is_well
        stop.set()
        await running


async def test_a_stop_does_not_wait_for_a_query(kind: str, url: str, tmp_path: Path) -> None:
    source = {"type": "sql", "url": url, "select_sql": FOREVER[kind]}
    engine, stop = Engine([stream(input=source)], data=tmp_path / "data"), asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    await until(lambda: bool(engine.supervised))
    await asyncio.sleep(0.3)  # Whatever it does by then, it ends.
    stop.set()
    async with asyncio.timeout(20):  # The stop may take 30 s, the query an hour.
        await running


def trap(kind: str, url: str) -> None:
    """Make a table that takes a row with ``n = 3`` only after a long while, and other rows at once."""
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("CREATE TABLE t (n int)")
            connection.execute(f"CREATE TRIGGER trap BEFORE INSERT ON t WHEN new.n = 3 BEGIN {ENDLESS}; END")
            connection.commit()
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int)")
        connection.execute(
            "CREATE FUNCTION trap() RETURNS trigger AS "
            "$$ BEGIN PERFORM pg_sleep(3600) WHERE new.n = 3; RETURN new; END $$ LANGUAGE plpgsql"
        )
        connection.execute("CREATE TRIGGER trap BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION trap()")


def spring(kind: str, url: str) -> None:
    if kind == "sqlite":
        connection: Any = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60)
    else:
        connection = psycopg.connect(url)
    with contextlib.closing(connection):
        connection.execute("DROP TRIGGER trap" + (" ON t" if kind == "postgres" else ""))
        connection.commit()


def rows(kind: str, url: str) -> list[int]:
    connect: Any = psycopg.connect if kind == "postgres" else sqlite3.connect
    with contextlib.closing(connect(url.removeprefix("sqlite:///"))) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM t ORDER BY n").fetchall()]


WITH_TRIGGERS = pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)], indirect=True
)


@WITH_TRIGGERS
@pytest.mark.parametrize("checkpoint", ["state", "output"])
async def test_a_write_that_takes_too_long_is_interrupted_and_tried_again(
    checkpoint: str, kind: str, url: str, tmp_path: Path
) -> None:
    trap(kind, url)
    source = lines(tmp_path / "in.json", [{"n": n} for n in range(5)], codec="json")
    output = {"type": "sql", "url": url, "table_name": "t", "timeout": "200ms"}
    one = stream(input=source, output=output, error_output=ERRORS, checkpoint=checkpoint)
    engine = Engine([one], data=tmp_path / "data")
    running = asyncio.ensure_future(engine.run())
    async with asyncio.timeout(60):
        await until(lambda: "no answer within 0.2 s" in trouble(engine))
        assert not engine.supervised[0].status().is_well
        await asyncio.to_thread(spring, kind, url)
        await running
    assert rows(kind, url) == [0, 1, 2, 3, 4]
    assert letters() == []


@WITH_TRIGGERS
async def test_a_stop_interrupts_a_write_in_time(kind: str, url: str, tmp_path: Path) -> None:
    trap(kind, url)
    source = lines(tmp_path / "in.json", [{"n": 3}], codec="json")
    output = {"type": "sql", "url": url, "table_name": "t"}
    one = stream(input=source, output=output, shutdown_timeout="300ms", stall_timeout="100ms")
    engine, stop = Engine([one], data=tmp_path / "data"), asyncio.Event()
    running = asyncio.ensure_future(engine.run(stop))
    await until(lambda: "no answer" in trouble(engine))
    stop.set()
    async with asyncio.timeout(20):
        with contextlib.suppress(PenstockError):  # which says so, unless the output was still being opened
            await running
    assert rows(kind, url) == []
    if kind == "postgres":  # and its locks are gone with it
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET lock_timeout = '20s'")
            connection.execute("DROP TABLE t")


async def test_a_call_between_whose_statements_an_interruption_falls_is_interrupted_all_the_same() -> None:
    interruptions: list[float] = []

    def many_short_statements() -> None:
        while len(interruptions) < 3:
            time.sleep(0.001)
        raise InterruptedError

    async with OwnThread("test") as thread, Deadline(thread, lambda: interruptions.append(0), 0.01, Clock()) as calls:
        with pytest.raises(ConnectionLost, match="no answer within"):
            await calls.run(many_short_statements)
        assert await calls.run(lambda: 7) == 7


@pytest.mark.server
@pytest.mark.parametrize("state", ["57014", "42501", "42704", "P0001", "23514", "22000"])
async def test_a_trigger_that_refuses_a_row_in_words_of_the_server_refuses_that_row_alone(
    state: str, postgres_database: str, tmp_path: Path
) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int)")
        body = f"BEGIN IF new.n = 3 THEN RAISE 'not this one' USING ERRCODE = '{state}'; END IF; RETURN new; END"
        connection.execute(f"CREATE FUNCTION no() RETURNS trigger AS $$ {body} $$ LANGUAGE plpgsql".encode())
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()")
    source = lines(tmp_path / "in.json", [{"n": n} for n in range(5)], codec="json")
    output = {"type": "sql", "url": postgres_database, "table_name": "t"}
    async with asyncio.timeout(60):
        await run(tmp_path, input=source, output=output, error_output=ERRORS)
    assert rows("postgres", postgres_database) == [0, 1, 2, 4]
    (letter,) = letters()
    assert "not this one" in letter["reason"]
    assert json.loads(letter["payload"]) == {"n": 3}
