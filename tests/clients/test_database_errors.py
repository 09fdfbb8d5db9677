"""Errors of real databases, told apart by what follows from them: the rows, the environment or the configuration."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest

from penstock import ConnectionLost, PermanentError, TransientError
from penstock.clients import disk, postgres
from penstock.clients import duckdb as duckdb_client
from penstock.clients import sqlite as sqlite_client
from penstock.clients.database import Postgres, TableChanged
from penstock.outputs.sql import Sql
from penstock.testing.contexts import lend_context

ROWS = pa.record_batch({"id": [1], "text": ["a"]})

WRITTEN: dict[str, tuple[Sequence[str], str, type[Exception]]] = {
    # what somebody has done, what is then written, what follows
    "not null": (["CREATE TABLE t (id int, must int NOT NULL)"], "INSERT INTO t (id) VALUES (1)", PermanentError),
    "check": (["CREATE TABLE t (id int CHECK (id > 5))"], "INSERT INTO t VALUES (1)", PermanentError),
    "unique": (["CREATE TABLE t (id int UNIQUE)"], "INSERT INTO t VALUES (1), (1)", PermanentError),
    "foreign key": (
        ["CREATE TABLE p (id int PRIMARY KEY)", "CREATE TABLE t (id int REFERENCES p)"],
        "INSERT INTO t VALUES (1)",
        PermanentError,
    ),
    "exclusion": (
        ["CREATE TABLE t (r int4range, EXCLUDE USING gist (r WITH &&))"],
        "INSERT INTO t VALUES ('[1,5)'), ('[2,3)')",
        PermanentError,
    ),
    "too long": (["CREATE TABLE t (text varchar(2))"], "INSERT INTO t VALUES ('abc')", PermanentError),
    "out of range": (["CREATE TABLE t (id int2)"], "INSERT INTO t VALUES (99999)", PermanentError),
    "no date": (["CREATE TABLE t (d date)"], "INSERT INTO t VALUES ('2026-02-31')", PermanentError),
    "no number": (["CREATE TABLE t (id int)"], "INSERT INTO t VALUES ('x')", PermanentError),
    "another type": (["CREATE TABLE t (d date)"], "INSERT INTO t SELECT 5", PermanentError),
    "a column of the system": (["CREATE TABLE t (id int)"], "ALTER TABLE t ADD COLUMN ctid int", PermanentError),
    "too many columns": ([], f"CREATE TABLE t ({', '.join(f'c{n} int' for n in range(1700))})", PermanentError),
    "a generated column": (
        ["CREATE TABLE t (id int, two int GENERATED ALWAYS AS (id * 2) STORED)"],
        "INSERT INTO t VALUES (1, 5)",
        PermanentError,
    ),
    "a trigger that refuses": (
        [
            "CREATE TABLE t (id int)",
            "CREATE FUNCTION no() RETURNS trigger AS $$ BEGIN RAISE 'no'; END $$ LANGUAGE plpgsql",
            "CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()",
        ],
        "INSERT INTO t VALUES (1)",
        PermanentError,
    ),
    "a view with a check": (
        ["CREATE TABLE b (id int)", "CREATE VIEW t AS SELECT * FROM b WHERE id > 5 WITH CHECK OPTION"],
        "INSERT INTO t VALUES (1)",
        PermanentError,
    ),
    "a dropped table": ([], "INSERT INTO t VALUES (1)", TableChanged),
    "a dropped schema": ([], "CREATE TABLE gone.t (id int)", TransientError),
    "a dropped column": (["CREATE TABLE t (id int)"], "INSERT INTO t (text) VALUES ('a')", TableChanged),
    "a dropped index": (
        ["CREATE TABLE t (id int)"],
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO NOTHING",
        TableChanged,
    ),
    "a dropped type": (["CREATE TABLE t (id int)"], "ALTER TABLE t ADD COLUMN mood mood", TransientError),
    "a dropped function": (["CREATE TABLE t (id int)"], "INSERT INTO t VALUES (gone())", TransientError),
    "read only": (
        ["CREATE TABLE t (id int)"],
        "BEGIN; SET TRANSACTION READ ONLY; INSERT INTO t VALUES (1)",
        ConnectionLost,
    ),
    "a permission": (
        ["CREATE TABLE t (id int)", "CREATE ROLE {role}"],
        "SET LOCAL ROLE {role}; INSERT INTO t VALUES (1)",
        TransientError,
    ),
    "another's table": (
        ["CREATE TABLE t (id int)", "CREATE ROLE {role}"],
        "SET LOCAL ROLE {role}; ALTER TABLE t ADD COLUMN text text",
        TransientError,
    ),
    "row security": (
        [
            "CREATE TABLE t (id int)",
            "CREATE ROLE {role}",
            "GRANT ALL ON t TO {role}",
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        ],
        "SET LOCAL ROLE {role}; INSERT INTO t VALUES (1)",
        TransientError,
    ),
    "statement timeout": ([], "SET LOCAL statement_timeout = 10; SELECT pg_sleep(60)", TransientError),
    "a full disk": ([], "DO $$ BEGIN RAISE SQLSTATE '53100'; END $$", TransientError),
    "out of memory": ([], "DO $$ BEGIN RAISE SQLSTATE '53200'; END $$", TransientError),
    "too many connections": ([], "DO $$ BEGIN RAISE SQLSTATE '53300'; END $$", TransientError),
    "serialization": ([], "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", TransientError),
    "dead lock": ([], "DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$", TransientError),
    "a damaged page": ([], "DO $$ BEGIN RAISE SQLSTATE 'XX001'; END $$", TransientError),
    "a starting server": ([], "DO $$ BEGIN RAISE SQLSTATE '57P03'; END $$", ConnectionLost),
    "an administrator": ([], "SELECT pg_terminate_backend(pg_backend_pid())", ConnectionLost),
}


@pytest.fixture
def role(postgres_database: str) -> Any:
    name = f"role_{os.getpid()}"
    yield name
    with psycopg.connect(postgres_database, autocommit=True) as connection, contextlib.suppress(psycopg.Error):
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


@pytest.mark.server
@pytest.mark.parametrize(("before", "statement", "expected"), WRITTEN.values(), ids=WRITTEN)
def test_what_postgresql_refuses(
    before: Sequence[str], statement: str, expected: type[Exception], postgres_database: str, role: str
) -> None:
    database = Postgres.model_validate({"uri": postgres_database})
    with psycopg.connect(postgres_database, autocommit=True) as owner:
        for one in before:
            owner.execute(one.replace("{role}", role))
    with contextlib.closing(psycopg.connect(postgres_database)) as connection:
        with pytest.raises(psycopg.Error) as raised:
            connection.execute(statement.replace("{role}", role))
        error = postgres.classify_error(raised.value, database, writing=True)
    assert type(error) is expected, (getattr(raised.value, "sqlstate", None), error)


@pytest.mark.server
def test_a_lock_that_is_not_available_passes(postgres_database: str) -> None:
    database = Postgres.model_validate({"uri": postgres_database})
    with psycopg.connect(postgres_database) as one, psycopg.connect(postgres_database) as other:
        one.execute("CREATE TABLE t (id int)")
        one.commit()
        one.execute("LOCK TABLE t")
        other.execute("SET lock_timeout = 10")
        with pytest.raises(psycopg.Error) as raised:
            other.execute("INSERT INTO t VALUES (1)")
    assert type(postgres.classify_error(raised.value, database, writing=True)) is TransientError


@pytest.mark.server
def test_a_wrong_password_is_a_wrong_configuration_and_a_dropped_database_is_waited_for(postgres_database: str) -> None:
    for wrong, expected in (
        (postgres_database.replace("penstock:", "penstock:wrong"), PermanentError),
        (f"{postgres_database}_gone", ConnectionLost),
    ):
        database = Postgres.model_validate({"uri": wrong})
        with pytest.raises(psycopg.Error) as raised:
            postgres.connect(database, "SELECT 1")
        assert type(postgres.classify_error(raised.value, database, opening=True)) is expected


FILES: dict[str, tuple[Sequence[str], str, type[Exception]]] = {
    "not null": (
        ["CREATE TABLE t (id INTEGER, must INTEGER NOT NULL)"],
        "INSERT INTO t (id) VALUES (1)",
        PermanentError,
    ),
    "check": (["CREATE TABLE t (id INTEGER CHECK (id > 5))"], "INSERT INTO t VALUES (1)", PermanentError),
    "unique": (["CREATE TABLE t (id INTEGER UNIQUE)"], "INSERT INTO t VALUES (1), (1)", PermanentError),
    "a name twice": (["CREATE TABLE t (id INTEGER)"], "ALTER TABLE t ADD COLUMN ID INTEGER", PermanentError),
    "a dropped table": ([], "INSERT INTO t VALUES (1)", TableChanged),
    "a dropped column": (["CREATE TABLE t (id INTEGER)"], "INSERT INTO t (text) VALUES ('a')", TableChanged),
    "a dropped index": (
        ["CREATE TABLE t (id INTEGER)"],
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO NOTHING",
        TableChanged,
    ),
}


@pytest.mark.parametrize(("before", "statement", "expected"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_what_a_file_refuses(
    kind: str, before: Sequence[str], statement: str, expected: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    connection: Any = sqlite_client.connect(path) if kind == "sqlite" else duckdb_client.connect(path)
    classify: Callable[..., Exception] = (sqlite_client if kind == "sqlite" else duckdb_client).classify_error
    for one in before:
        connection.execute(one)
    with pytest.raises((sqlite3.Error, duckdb.Error)) as raised:
        connection.execute(statement)
    connection.close()
    assert type(classify(raised.value, path, writing=True)) is expected, raised.value


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_may_only_be_read_passes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    made: Any = sqlite_client.connect(path) if kind == "sqlite" else duckdb_client.connect(path)
    made.execute("CREATE TABLE t (id INTEGER)")
    made.close()
    if kind == "sqlite":
        connection: Any = sqlite_client.connect(path, read_only=True)
        classify: Callable[..., Exception] = sqlite_client.classify_error
    else:
        connection, classify = duckdb_client.connect_read_only(path), duckdb_client.classify_error
    with pytest.raises((sqlite3.Error, duckdb.Error)) as raised:
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    assert type(classify(raised.value, path, writing=True)) is TransientError


def test_a_damaged_file_is_not_the_fault_of_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with contextlib.closing(sqlite_client.connect(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    with contextlib.closing(sqlite_client.connect(path)) as connection, pytest.raises(sqlite3.Error) as raised:
        connection.execute("INSERT INTO t VALUES (1)")
    assert type(sqlite_client.classify_error(raised.value, path, writing=True)) is TransientError


@pytest.mark.parametrize("number", ["EACCES", "EPERM", "EROFS", "ENOENT", "ENOSPC", "EIO", "EMFILE"])
def test_a_disk_that_does_not_take_the_rows_passes(number: str) -> None:
    import errno

    assert isinstance(disk.classify_error(OSError(getattr(errno, number), "no"), "x"), TransientError)


@pytest.mark.parametrize("number", ["ENAMETOOLONG", "ENOTDIR", "EISDIR"])
def test_a_path_that_rows_made_is_theirs(number: str) -> None:
    import errno

    assert isinstance(disk.classify_error(OSError(getattr(errno, number), "no"), "x"), PermanentError)


@pytest.mark.server
async def test_a_table_that_somebody_dropped_is_made_again(postgres_database: str, tmp_path: Path) -> None:
    async with lend_context(tmp_path) as context, Sql(url=postgres_database, table_name="t").open(context) as writer:
        await writer.write([ROWS])
        with psycopg.connect(postgres_database) as other:
            other.execute("DROP TABLE t")
        await writer.write([ROWS])
        with psycopg.connect(postgres_database) as other:
            assert other.execute("SELECT count(*) FROM t").fetchone() == (1,)
