"""Tables belong to one application, and those of older versions move to where they belong."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from penstock import ConfigError, loads
from penstock.application import Installation
from penstock.errors import PenstockError, PermanentError
from penstock.platform.database import Database
from penstock.platform.ownership import url_of
from penstock.platform.relocation import move_into_file, move_into_schema

TABLES = ("app_points", "app_kinds")
MARKER = "app_version"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE readings (n)")
        connection.execute("INSERT INTO readings VALUES (1), (2)")
        connection.execute("CREATE TABLE app_points (n INTEGER PRIMARY KEY, kind TEXT)")
        connection.execute("CREATE INDEX app_points_kind ON app_points (kind)")
        connection.executemany("INSERT INTO app_points VALUES (?, 'a')", [(n,) for n in range(1000)])
        connection.execute("CREATE TABLE app_kinds (kind TEXT UNIQUE)")
        connection.execute("INSERT INTO app_kinds VALUES ('a')")
        connection.execute("CREATE TABLE app_version (version_num TEXT)")
        connection.execute("INSERT INTO app_version VALUES ('0001')")
        connection.commit()
    return path


def _names(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'")
        return {name for (name,) in found}


def _count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_tables_move_to_a_file_of_their_own(rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows-app.db"
    for _ in range(2):
        move_into_file(rows, target, TABLES, MARKER)
        assert _names(rows) == {"readings"}
        assert _names(target) == {"app_points", "app_points_kind", "app_kinds", "app_version"}
        assert (_count(target, "app_points"), _count(rows, "readings")) == (1000, 2)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("done", ["copied half", "copied whole"])
def test_a_move_that_was_interrupted_is_finished(rows: Path, tmp_path: Path, done: str) -> None:
    target = tmp_path / "rows-app.db"
    if done == "copied half":
        (tmp_path / "rows-app.db.incomplete").write_bytes(b"half a copy")
    else:
        with closing(sqlite3.connect(rows)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    move_into_file(rows, target, TABLES, MARKER)
    assert _names(rows) == {"readings"}
    assert _count(target, "app_points") == 1000
    assert not (tmp_path / "rows-app.db.incomplete").exists()


def test_nothing_is_dropped_while_the_file_of_that_name_lacks_a_table(rows: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows-app.db"
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("CREATE TABLE app_points (n)")
    with pytest.raises(PermanentError, match="lacks app_kinds, app_version"):
        move_into_file(rows, target, TABLES, MARKER)
    assert _count(rows, "app_points") == 1000


def test_a_table_of_the_user_with_such_a_name_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE app_points (n)")
    move_into_file(path, tmp_path / "rows-app.db", TABLES, MARKER)
    assert _names(path) == {"app_points"}
    assert not (tmp_path / "rows-app.db").exists()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "rows.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(PenstockError, match="not a database"):
        move_into_file(tmp_path / "rows.db", tmp_path / "rows-app.db", TABLES, MARKER)


@pytest.fixture
def schema(postgres_database: str) -> Iterator[Database]:
    with closing(Database.of(postgres_database, schema="app")) as database:
        yield database


@pytest.mark.server
def test_tables_move_to_a_schema_of_their_own_with_their_partitions(schema: Database, postgres_database: str) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE readings (n int); CREATE TABLE app_version (version_num text)")
        connection.execute("CREATE TABLE app_points (id bigserial, n int) PARTITION BY RANGE (n)")
        connection.execute("CREATE TABLE app_points_1 PARTITION OF app_points FOR VALUES FROM (0) TO (10)")
        connection.execute("CREATE TABLE app_points_default PARTITION OF app_points DEFAULT")
        connection.execute("CREATE INDEX ON app_points (n); INSERT INTO app_points (n) SELECT generate_series(0, 19)")
        for _ in range(2):
            move_into_schema(schema, TABLES, MARKER)
            where = dict(
                connection.execute(
                    "SELECT relname, relnamespace::regnamespace::text FROM pg_class WHERE relkind IN ('r', 'p') "
                    "AND relnamespace::regnamespace::text IN ('public', 'app')"
                ).fetchall()
            )
            moved = ("app_points", "app_points_1", "app_points_default", "app_version")
            assert where == {"readings": "public"} | dict.fromkeys(moved, "app")
    assert schema.call(lambda connection: connection.scalar(text("SELECT count(*) FROM app_points"))) == 20


@pytest.mark.server
def test_tables_of_the_user_in_public_stay(schema: Database, postgres_database: str) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE app_points (n int)")
        move_into_schema(schema, TABLES, MARKER)
        assert connection.execute("SELECT to_regclass('public.app_points')::text").fetchone() == ("app_points",)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "sqlite:///there/penstock-app.db"),
        ("sqlite:////data/all.sqlite", "sqlite:////data/all-app.sqlite"),
        ("postgresql://me:secret@host/db", "postgresql://me:secret@host/db"),
    ],
)
def test_an_application_has_a_place_of_its_own(url: str, expected: str) -> None:
    assert url_of(Installation(Path("there"), database=url), "app") == expected


STREAM = """
applications: [health]
database: {database}
streams:
  - input: {{type: memory, messages: []}}
    output: drop
    {option}: {{type: sql, {url}, table_name: {table}}}
"""


@pytest.mark.parametrize("option", ["output", "error_output"])
@pytest.mark.parametrize(
    ("database", "url", "table"),
    [
        ("''", "url: 'sqlite:///penstock-data/penstock-health.db'", "x"),
        ("''", "url: 'sqlite:///penstock-data/../penstock-data/./penstock-health.db'", "x"),
        ("''", "output_type: {type: sqlite, path: penstock-data/penstock-health.db}", "x"),
        ("postgresql://a:b@localhost/c", "url: 'postgresql://a:b@127.0.0.1:5432/c'", "health.health_points"),
        ("postgresql://a:b@localhost/c", "url: 'postgresql://a:b@localhost/c', schema_name: health", "x"),
    ],
)
def test_a_stream_may_not_write_what_belongs_to_an_application(
    option: str, database: str, url: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = STREAM.format(option=option, database=database, url=url, table=table)
    if option == "output":
        text = text.replace("    output: drop\n", "")
    with pytest.raises(ConfigError, match="belong to the application 'health', which alone may write them"):
        loads(text, environment={})


def test_two_that_serve_one_path_are_refused_with_both_named() -> None:
    text = (
        "applications: [inbox]\nstreams:\n"
        "  - {id: mine, input: {type: http, address: '127.0.0.1:8080', path: '/ingest/{table}'}, output: drop}\n"
    )
    with pytest.raises(ConfigError, match=r"the stream 'mine' and the application 'inbox' both serve /ingest"):
        loads(text, environment={})
