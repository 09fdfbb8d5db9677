"""Read tables of PostgreSQL: pages by primary key or by place on disk, words by tsvector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import psycopg

from ...clients import postgres
from ...clients.database import Postgres
from ...errors import PenstockError, PermanentError
from .postgres_session import open_connection
from .reader import COUNT_LIMIT, FETCH_SIZE, Column, Key, Listed, Reader, Size, Stopped, Values

_TABLES = """
SELECT c.relname, c.relkind::text FROM pg_class c WHERE c.relnamespace = %s::regnamespace
  AND c.relkind IN ('r', 'v', 'm', 'p', 'f') AND NOT c.relispartition
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
  AND has_table_privilege(c.oid, 'SELECT') ORDER BY c.relname
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT (SELECT array_agg(a.attname ORDER BY array_position(i.indkey::int[], a.attnum::int)) FROM pg_attribute a
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey))
FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL AND i.indnkeyatts = i.indnatts
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
                  AND NOT a.attnotnull)
ORDER BY i.indisprimary DESC, i.indnatts LIMIT 1
"""
_SIZE = """
SELECT sum(CASE WHEN c.relkind IN ('r', 'm') THEN c.reltuples END)::bigint, sum(pg_total_relation_size(c.oid))::bigint,
    bool_or(c.relkind IN ('v', 'f'))
FROM pg_class c WHERE c.oid = %s::regclass
   OR c.oid IN (SELECT relid FROM pg_partition_tree(%s::regclass))
"""
_INDEXES = """
SELECT array_agg(a.attname ORDER BY array_position(i.indkey::int[], a.attnum::int)) FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = %s::regclass AND i.indisvalid GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC
"""
_SHORT = ("bool", "int", "small", "bigint", "real", "double", "oid")
_WRONG = ("22", "42883", "42804", "42704")
"""A value that is not of the column's type, or an operator that the type lacks."""


class PostgresReader(Reader):
    """A schema of PostgreSQL, in one transaction that only reads."""

    mark = "%s"

    def __init__(self, database: Postgres, schema: str, timeout: float) -> None:
        self._database, self._schema = database, schema
        try:
            self._connection = open_connection(postgres.conninfo(database), timeout)
        except psycopg.Error as error:
            raise postgres.classify_error(error, database, opening=True) from error
        super().__init__(timeout)

    def quote(self, name: str) -> str:
        """Return a name as it stands in a statement with values."""
        return super().quote(name).replace("%", "%%")

    def name(self, table: str) -> str:
        """Return the table with its schema."""
        return f"{self.quote(self._schema)}.{self.quote(table)}"

    def _regclass(self, table: str) -> str:
        return self.name(table).replace("%%", "%")

    def tables(self) -> list[Listed]:
        """Return tables and views, without partitions and what belongs to an extension."""
        found = self.rows(_TABLES, [Reader.quote(self, self._schema)])
        return [Listed(name, "view" if kind == "v" else "table") for name, kind in found]

    def columns(self, table: str) -> list[Column]:
        """Return the columns of a table."""
        found = self.rows(_COLUMNS, [self._regclass(table)])
        return [Column(name, type, not not_null) for name, type, not_null in found]

    def key(self, table: str) -> Key | None:
        """Return the primary key, or another unique one; else the place on disk, of a table that has one."""
        if found := self.rows(_KEY, [self._regclass(table)]):
            return Key([self.quote(name) for name in found[0][0]])
        [(kind,)] = self.rows("SELECT relkind::text FROM pg_class WHERE oid = %s::regclass", [self._regclass(table)])
        return Key(["ctid"], is_physical=True) if kind in ("r", "m") else None

    def size(self, table: str) -> Size:
        """Return what the server estimates; a small table is counted."""
        where = self._regclass(table)
        [(rows, bytes, is_view)] = self.rows(_SIZE, [where, where])
        if is_view or rows is None or rows <= COUNT_LIMIT:
            count = self.count_at_most(table, COUNT_LIMIT + 1)
            if count <= COUNT_LIMIT:
                return Size(count, True, bytes)
            rows = max(rows or 0, count) if not is_view else None
        return Size(rows, False, bytes)

    def indexed(self, table: str) -> list[Sequence[str]]:
        """Return the columns of each index."""
        return [list(found) for (found,) in self.rows(_INDEXES, [self._regclass(table)])]

    def cut(self, column: Column, length: int) -> str:
        """Return the expression of a value: all but numbers are texts, and cut."""
        name = self.quote(column.name)
        if column.type.startswith(_SHORT) and not column.type.endswith("]"):
            return name
        if column.type == "bytea":
            return f"'\\x' || encode(substring({name} FROM 1 FOR {length // 2 + 1:d}), 'hex')"
        return f"left(CAST({name} AS text), {length + 1:d})"

    def text(self, column: Column) -> str:
        """Return the expression of a value as text."""
        return f"CAST({self.quote(column.name)} AS text)"

    def value(self, column: Column) -> str:
        """Return what stands for a value: it is read as the type of the column."""
        return f"CAST(%s AS {column.type.replace('%', '%%')})"

    def carried(self, expression: str) -> str:
        """Return a value of a key as text, which every type reads back."""
        return f"CAST({expression} AS text)"

    def bound(self, column: str, type: str) -> str:
        """Return what stands for a value of a key."""
        return f"CAST(%s AS {'tid' if column == 'ctid' else type})"

    def contains(self, column: Column) -> str:
        """Return the condition that a value holds another one."""
        return f"position(lower(%s) IN lower({self.text(column)})) > 0"

    def starts(self, column: Column) -> str:
        """Return the condition that a value begins with another one."""
        return f"starts_with({self.text(column)}, %s)"

    def search(self, table: str, words: str) -> tuple[str, Values] | None:
        """Return the condition that an indexed tsvector holds the words."""
        columns = {column.name: column for column in self.columns(table)}
        for index in self.indexed(table):
            if index[0] in columns and columns[index[0]].type == "tsvector":
                return f"{self.quote(index[0])} @@ websearch_to_tsquery('simple', %s)", [words]
        return None

    def _execute(self, statement: str, values: Values) -> Iterator[Sequence[Any]]:
        given = [str(value) if isinstance(value, bool | int | float) else value for value in values]
        if any(isinstance(value, str) and "\x00" in value for value in given):
            raise PermanentError("PostgreSQL holds no NUL in a text")
        with self._connection.cursor() as cursor:
            yield from cursor.stream(
                statement.encode(), given, size=FETCH_SIZE if psycopg.pq.version() >= 170000 else 1
            )

    def _classify(self, error: Exception) -> PenstockError:
        state = getattr(error, "sqlstate", None) or ""
        if state == "57014":
            return Stopped("it took too long")
        if state.startswith(_WRONG):
            return PermanentError(str(error).partition("\nLINE")[0])
        return postgres.classify_error(error, self._database)

    def _interrupt(self) -> None:
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=5)

    def _close(self) -> None:
        self._connection.close()
