"""Look at what is in a database without being able to change it: its tables, and the rows of a query."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from ..errors import PenstockError
from . import sqlite
from .database import Duckdb, Postgres, Sqlite

Row: TypeAlias = Sequence[Any]

_ROWS = 1000
"""How many rows are fetched at once."""
_OWN = "_penstock"
"""How the tables begin that are no data: positions kept beside the rows."""


_POSTGRES_TABLES = """
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
  AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname, a.attnum
"""
"""Tables and views, but neither the parts of a table that is partitioned nor what belongs to an extension."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The result of a query: the names of its columns, and its rows, once and as they come."""

    columns: list[str]
    rows: Iterator[Row]


class Tables(dict[str, list[str]]):
    """The columns of each table, by the table's name."""

    def listed(self) -> str:
        """Return the names in a sentence."""
        return f"there are: {', '.join(self)}" if self else "there are none yet"


def tables(database: Postgres | Sqlite | Duckdb) -> Tables:
    """Return the tables there are, without those that are the engine's own; raises PenstockError."""
    if isinstance(database, Sqlite):
        found = select(
            database,
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c "
            "WHERE t.type IN ('table', 'view') ORDER BY t.name, c.cid",
        )
    elif isinstance(database, Postgres):
        found = select(database, _POSTGRES_TABLES)
    else:
        found = select(
            database,
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position",
        )
    columns = Tables()
    for table, column in found.rows:
        if not table.startswith((_OWN, "sqlite_")):
            columns.setdefault(table, []).append(column)
    return columns


def select(
    database: Postgres | Sqlite | Duckdb, sql: str, *, beside: Mapping[str, Path] = MappingProxyType({})
) -> Selection:
    """Run one query that changes nothing; raises PenstockError, also while the rows are taken.

    ``beside`` are further SQLite files that it may read, by the names of their schemas: ``health.health_points``.
    """
    rows = (
        _sqlite_rows(database, sql, beside) if isinstance(database, Sqlite) else _READERS[type(database)](database, sql)
    )
    return Selection(list(next(rows)), rows)


def _sqlite_rows(database: Sqlite, sql: str, beside: Mapping[str, Path]) -> Iterator[Row]:
    path = database.path
    if not path.exists():
        raise PenstockError(f"there is no database {path}")
    try:
        with closing(sqlite.connect(path, read_only=True)) as connection:
            for name, file in beside.items():
                connection.execute(f'ATTACH ? AS "{name}"', (f"{file.absolute().as_uri()}?mode=ro",))
            connection.set_authorizer(_allow_reading)
            cursor = connection.execute(sql)
            if cursor.description is None:
                raise PenstockError("expected a query, such as SELECT ...; nothing can be changed here")
            yield [column[0] for column in cursor.description]
            cursor.arraysize = _ROWS
            while found := cursor.fetchmany():
                yield from found
    except sqlite3.Warning as error:
        raise PenstockError(f"expected one query: {error}") from error
    except sqlite3.Error as error:
        if "authoriz" in str(error) or "prohibited" in str(error):
            raise PenstockError("expected a query, such as SELECT ...; nothing can be changed here") from error
        raise PenstockError(str(error)) from error


_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_LOOKING = {"table_info", "table_xinfo", "table_list", "index_list", "index_info"}


def _allow_reading(action: int, first: str | None, *_: str | None) -> int:
    """Authorize reading, and nothing that reaches other files: opening for reading only would not forbid that."""
    allowed = action in _READING or (action == sqlite3.SQLITE_PRAGMA and first in _LOOKING)
    # This is how SQLite declares its functions that return tables.
    allowed = allowed or (action == sqlite3.SQLITE_UPDATE and first == "sqlite_master")
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _postgres_rows(database: Postgres, sql: str) -> Iterator[Row]:
    import psycopg

    from . import postgres

    try:
        with psycopg.connect(postgres.conninfo(database)) as connection:
            connection.read_only = True
            with connection.cursor() as cursor:
                # Rows come one by one, and as the protocol for that takes one statement only, none can end the
                # transaction that may only read.
                rows = cursor.stream(sql.encode())
                first = next(rows, None)
                yield [column.name for column in cursor.description or ()]
                if first is not None:
                    yield first
                    yield from rows
    except psycopg.Error as error:
        if getattr(error, "sqlstate", None) == "25006":
            raise PenstockError("expected a query, such as SELECT ...; nothing can be changed here") from error
        message = str(postgres.classify_error(error, database, opening=True))
        raise PenstockError(message.removeprefix("postgres: ").partition("\nLINE")[0]) from error


def _duckdb_rows(database: Duckdb, sql: str) -> Iterator[Row]:
    import duckdb

    from .duckdb import connect_read_only

    path: Path = database.path
    try:
        with connect_read_only(path) as connection:
            if len(statements := connection.extract_statements(sql)) != 1:
                raise PenstockError("expected one query")
            if statements[0].type != duckdb.StatementType.SELECT:
                raise PenstockError("expected a query, such as SELECT ...; nothing can be changed here")
            cursor = connection.execute(sql)
            yield [column[0] for column in cursor.description or ()]
            while found := cursor.fetchmany(_ROWS):
                yield from found
    except duckdb.Error as error:
        raise PenstockError(str(error).partition("\n\nLINE")[0]) from error


_READERS: dict[type, Any] = {Postgres: _postgres_rows, Duckdb: _duckdb_rows}
