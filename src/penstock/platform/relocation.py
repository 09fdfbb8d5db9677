"""Move the tables that older versions kept beside the rows to the file, or the schema, of their owner."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..clients import sqlite
from ..errors import PermanentError
from .database import Database

_PARTS = text(
    "WITH RECURSIVE parts AS ("
    "SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(:names) "
    "AND relkind IN ('r', 'p') UNION SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = oid) "
    "SELECT relname FROM pg_class JOIN parts USING (oid) WHERE relnamespace = 'public'::regnamespace ORDER BY relname"
)


def move_into_schema(database: Database, tables: Collection[str], marker: str) -> None:
    """Move tables that older versions kept in ``public``, with their partitions, to the schema of ``database``.

    Does nothing unless the table ``marker`` is in ``public`` and not yet in the schema. All is one transaction. Raises
    PenstockError.
    """
    assert database.schema is not None
    try:
        with database.connect() as connection, connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 1))"), {"name": marker})
            if not _has_table(connection, "public", marker) or _has_table(connection, database.schema, marker):
                return
            quoted = connection.dialect.identifier_preparer.quote
            schema = quoted(database.schema)
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
            for name in connection.scalars(_PARTS, {"names": [*tables, marker]}).all():
                connection.execute(text(f"ALTER TABLE public.{quoted(name)} SET SCHEMA {schema}"))
    except DBAPIError as error:
        raise database.classify_error(error) from error


def _has_table(connection: Connection, schema: str, name: str) -> bool:
    where = {"schema": schema, "name": name}
    return bool(connection.scalar(text("SELECT to_regclass(quote_ident(:schema) || '.' || quote_ident(:name))"), where))


def move_into_file(rows: Path, target: Path, tables: Collection[str], marker: str) -> None:
    """Move tables that older versions kept in the SQLite file ``rows`` to the file ``target``.

    Does nothing unless the table ``marker`` is in ``rows``. Interrupted, it may be run again: the copy gets its name
    once it is complete and durable, and what was moved is dropped after that. Raises PenstockError.
    """
    try:
        _move(rows, target, {*tables, marker}, marker)
    except (sqlite3.Error, OSError) as error:
        raise sqlite.classify_error(error, rows) from error


def is_beside(rows: Path, marker: str) -> bool:
    """Return whether the table ``marker`` of an older version is still in the SQLite file ``rows``."""
    try:
        return rows.exists() and marker in _tables(rows)
    except sqlite3.Error as error:
        raise sqlite.classify_error(error, rows) from error


def _move(rows: Path, target: Path, tables: Collection[str], marker: str) -> None:
    if not is_beside(rows, marker):
        return
    if not target.exists():
        copy = target.with_name(f"{target.name}.incomplete")
        copy.unlink(missing_ok=True)
        copy.touch(mode=0o600)
        with closing(sqlite3.connect(rows, isolation_level=None)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
        _drop(copy, [name for name in _tables(copy) if name not in tables])
        with copy.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(copy, target)
        _sync_folder(target.parent)
    elif missing := sorted(set(_tables(rows)) & set(tables) - set(_tables(target))):
        raise PermanentError(f"{target} lacks {', '.join(missing)}, which {rows} has: it was not made from that file")
    _drop(rows, [name for name in _tables(rows) if name in tables])


def _tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        return [name for (name,) in found]


def _drop(path: Path, names: Collection[str]) -> None:
    """Drop tables in one transaction: all of them, or none."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        for name in names:
            connection.execute('DROP TABLE "' + name.replace('"', '""') + '"')
        connection.execute("COMMIT")


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
