"""The migrations make what the schema says, from empty, whoever runs them at once."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text

from penstock.apps.health.schema import metadata
from penstock.apps.health.store.migrations import current, migrate
from penstock.errors import PenstockError, PermanentError
from penstock.platform.database import Database
from penstock.testing.servers import PostgresServer

_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, l.collname,
    pg_get_expr(d.adbin, d.adrelid), a.attgenerated::text
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relname LIKE 'health%' AND c.relkind IN ('r', 'p') ORDER BY 1, a.attnum
"""
_TABLES = """
SELECT relname, relkind::text, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), obj_description(oid)
FROM pg_class WHERE relname LIKE 'health%' AND relkind IN ('r', 'p', 'S') ORDER BY 1
"""
_INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE tablename LIKE 'health%' ORDER BY 1, 2"
_CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid::regclass::text LIKE 'health%' ORDER BY 1, 2
"""


def described(database: Database) -> list[list[tuple[Any, ...]]]:
    """Return all that the catalogue of the database says of the tables."""
    if database.is_postgres:
        statements = [_COLUMNS, _TABLES, _INDEXES, _CONSTRAINTS]
    else:
        statements = ["SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"]

    def read(connection: Any) -> list[list[tuple[Any, ...]]]:
        found = [[tuple(row) for row in connection.execute(text(statement))] for statement in statements]
        return [[_flat(row) for row in rows if "health_schema_version" not in str(row)] for rows in found]

    return database.call(read)


def _flat(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """SQLite keeps the statement as it was written, with its line breaks."""
    return tuple(" ".join(each.split()) if isinstance(each, str) else each for each in row)


def test_l18_a_migrated_database_is_what_the_schema_says(url: str, request: Any, tmp_path: Any, closing: Any) -> None:
    migrated = closing(Database.of(url))
    assert current(migrated) is None
    assert migrate(migrated) == current(migrated) == "0001"
    other_url = f"sqlite:///{tmp_path / 'other.db'}"
    if migrated.is_postgres:
        server: PostgresServer = request.getfixturevalue("shared_postgres_server")
        other_url = server.create_database(postgis=True)
    made = closing(Database.of(other_url))
    made.call(metadata.create_all)
    found, expected = described(migrated), described(made)
    assert found == expected


def test_migrating_again_changes_nothing(url: str, closing: Any) -> None:
    database = closing(Database.of(url))
    migrate(database)
    before = described(database)
    assert migrate(database) == "0001"
    assert described(database) == before


def test_replicas_that_start_at_once_migrate_once(url: str) -> None:
    databases = [Database.of(url) for _ in range(4)]
    done: list[str] = []
    failures: list[BaseException] = []

    def start(database: Database) -> None:
        try:
            done.append(migrate(database))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert done == ["0001"] * 4


def test_tables_of_a_newer_version_are_left_alone(url: str, closing: Any) -> None:
    database = closing(Database.of(url))
    migrate(database)
    database.call(lambda connection: connection.execute(text("UPDATE health_schema_version SET version_num = '9999'")))
    with pytest.raises(PermanentError, match=r"9999.*newer Penstock"):
        migrate(database)


def test_a_migration_that_fails_leaves_nothing(url: str, closing: Any) -> None:
    database = closing(Database.of(url))
    if database.is_postgres:
        database.call(lambda connection: connection.execute(text("CREATE TABLE health_audit (x int)")))
    else:
        database.call(lambda connection: connection.execute(text("CREATE TABLE health_audit (x)")))
    with pytest.raises(PenstockError, match="health_audit"):
        migrate(database)
    assert current(database) is None
    assert not any("health_points" in str(row) for rows in described(database) for row in rows)


def test_where_postgis_may_not_be_loaded_it_says_what_to_do(
    shared_postgres_server: PostgresServer, closing: Any
) -> None:
    url = shared_postgres_server.create_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        connection.execute("GRANT ALL ON SCHEMA public TO plain")
    base = url.partition("@")[2]
    database = closing(Database.of(f"postgresql://plain:plain@{base}"))
    with pytest.raises(PermanentError, match=r"CREATE EXTENSION postgis.*superuser"):
        migrate(database)


def test_where_postgis_is_not_installed_it_says_what_to_install(postgres_database: str, closing: Any) -> None:
    """What the server says it could load is played: PostGIS is installed here."""
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA played")
        connection.execute("CREATE VIEW played.pg_available_extensions AS SELECT 'x'::text AS name WHERE false")
    url = f"{postgres_database}?options=-csearch_path%3Dplayed,pg_catalog,public"
    with pytest.raises(PermanentError, match=r"install it there"):
        migrate(closing(Database.of(url)))


def test_a_new_database_is_made_by_the_metadata_too() -> None:
    """Tests of other parts make their tables that way."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    engine.dispose()
