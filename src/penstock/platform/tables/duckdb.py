"""Read tables of DuckDB files: pages by rowid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from ...clients import duckdb as client
from ...errors import ConnectionLost, PenstockError, PermanentError
from .reader import COUNT_LIMIT, FETCH_SIZE, Column, Key, Listed, Reader, Size, Values

_NUMBERS = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINY", "USMALL", "UINT", "UBIG", "FLOAT", "DOUBLE")


class DuckdbReader(Reader):
    """A DuckDB file, opened for reading; within the process that writes it, beside the writer."""

    def __init__(self, path: Path, timeout: float) -> None:
        if not path.exists():
            raise ConnectionLost(f"there is no database {path.name} yet")
        try:
            self._connection = client.connect_read_only(path)
        except duckdb.Error as error:
            raise client.classify_error(error, path, opening=True) from error
        self._path = path
        super().__init__(timeout)

    def name(self, table: str) -> str:
        """Return the table with its schema."""
        return f"main.{self.quote(table)}"

    def tables(self) -> list[Listed]:
        """Return tables and views of the schema ``main``."""
        found = self.rows(
            "SELECT table_name, table_type FROM information_schema.tables "
            "WHERE table_schema = 'main' AND table_catalog = current_database() ORDER BY table_name"
        )
        return [Listed(name, "view" if kind == "VIEW" else "table") for name, kind in found]

    def columns(self, table: str) -> list[Column]:
        """Return the columns of a table."""
        found = self.rows(
            "SELECT column_name, data_type, is_nullable FROM duckdb_columns() WHERE schema_name = 'main' "
            "AND database_name = current_database() AND table_name = ? ORDER BY column_index",
            [table],
        )
        return [Column(name, type, nullable) for name, type, nullable in found]

    def key(self, table: str) -> Key | None:
        """Return the rowid."""
        is_table = any(one == (table, "table") for one in self.tables())
        return Key(["rowid"]) if is_table and not any(c.name.lower() == "rowid" for c in self.columns(table)) else None

    def size(self, table: str) -> Size:
        """Return what the catalogue says."""
        count = self.count_at_most(table, COUNT_LIMIT + 1)
        if count <= COUNT_LIMIT:
            return Size(count, True, None)
        found = self.rows("SELECT estimated_size FROM duckdb_tables() WHERE table_name = ?", [table])
        return Size(found[0][0] if found else None, False, None)

    def indexed(self, table: str) -> list[Sequence[str]]:
        """Return the columns of each key."""
        found = self.rows(
            "SELECT constraint_column_names FROM duckdb_constraints() WHERE table_name = ? "
            "AND constraint_type IN ('PRIMARY KEY', 'UNIQUE')",
            [table],
        )
        return [list(names) for (names,) in found]

    def cut(self, column: Column, length: int) -> str:
        """Return the expression of a value: all but numbers are texts, and cut."""
        name = self.quote(column.name)
        if column.type.startswith(_NUMBERS) and not column.type.endswith("]"):
            return name
        if column.type == "BLOB":
            return f"left(hex({name}), {length + 1:d})"
        return f"left(CAST({name} AS VARCHAR), {length + 1:d})"

    def text(self, column: Column) -> str:
        """Return the expression of a value as text."""
        return f"CAST({self.quote(column.name)} AS VARCHAR)"

    def value(self, column: Column) -> str:
        """Return what stands for a value: it is read as the type of the column."""
        return f"CAST(? AS {column.type})"

    def carried(self, expression: str) -> str:
        """Return a value of a key as text, which every type reads back."""
        return f"CAST({expression} AS VARCHAR)"

    def bound(self, column: str, type: str) -> str:
        """Return what stands for a value of a key."""
        return f"CAST(? AS {'BIGINT' if column == 'rowid' else type})"

    def contains(self, column: Column) -> str:
        """Return the condition that a value holds another one."""
        return f"contains(lower({self.text(column)}), lower(CAST(? AS VARCHAR)))"

    def starts(self, column: Column) -> str:
        """Return the condition that a value begins with another one."""
        return f"starts_with({self.text(column)}, CAST(? AS VARCHAR))"

    def _execute(self, statement: str, values: Values) -> Iterator[Sequence[Any]]:
        cursor = self._connection.execute(statement, list(values))
        while found := cursor.fetchmany(FETCH_SIZE):
            yield from found

    def _classify(self, error: Exception) -> PenstockError:
        if isinstance(error, duckdb.ConversionException | duckdb.BinderException):
            return PermanentError(str(error).partition("\n\nLINE")[0])
        return client.classify_error(error, self._path)

    def _interrupt(self) -> None:
        self._connection.interrupt()

    def _close(self) -> None:
        self._connection.close()
