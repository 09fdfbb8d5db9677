"""Read a DuckDB file, straight into Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from duckdb import DuckDBPyConnection

from ...clients import duckdb
from ...delivery import Batch
from ...errors import PenstockError, PermanentError
from .duckdb_types import guard
from .references import Names
from .source import Fetched, Field, Source, quoted, text


class DuckdbSource(Source):
    """A DuckDB file that is only read; within the process that writes it, beside its writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: DuckDBPyConnection | None = duckdb.connect_read_only(path)

    @property
    def _database(self) -> DuckDBPyConnection:
        if self._connection is None:
            self._connection = duckdb.connect_read_only(self._path)
        return self._connection

    def rest(self) -> None:
        """Return at once: nobody can write the file while it is open here."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        self.rest()

    def interrupt(self) -> None:
        if (connection := self._connection) is not None:
            connection.interrupt()

    def classify_error(self, error: Exception) -> PenstockError:
        return duckdb.classify_error(error, self._path)

    def names(self) -> Names:
        return Names(self._schemas, self._tables)

    def _schemas(self) -> list[str]:
        query = "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database()"
        return [row[0] for row in self._database.execute(query).fetchall()]

    def _tables(self) -> list[tuple[str, str]]:
        query = (
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = current_database() AND table_schema NOT IN ('information_schema', 'pg_catalog') "
            "AND NOT starts_with(table_name, '_penstock') ORDER BY ALL"
        )
        return self._database.execute(query).fetchall()

    def describe(self, query: str) -> Sequence[Field]:
        statements = self._database.extract_statements(query)
        if len(statements) != 1 or statements[0].type.name != "SELECT":
            raise PermanentError("expected one query that only reads")
        found = self._database.execute(f"DESCRIBE {query}").fetchall()
        names = [row[0] for row in found]
        if twice := [name for name in names if names.count(name) > 1]:
            raise PermanentError(f"two columns of the query are called {twice[0]!r}: give one another name with AS")
        return [Field(name, pa.null(), quoted(name), declared) for name, declared, *_ in found]

    def stream(self, statement: str, fields: Sequence[Field], rows: int) -> Iterator[Fetched]:
        self._database.execute("BEGIN TRANSACTION READ ONLY")
        try:
            for batch in self._database.sql(guard(statement, fields)).to_arrow_reader(rows):
                yield Fetched(batch, partial(_stored, batch))
        finally:
            self._database.execute("ROLLBACK")

    def count(self, statement: str) -> int:
        row = self._database.execute(statement).fetchone()
        return int(row[0]) if row else 0

    def printed(self, field: Field) -> str:
        return f"CAST(penstock.{quoted(field.name)} AS VARCHAR)"

    def literal(self, field: Field, value: str) -> str:
        return f"CAST({text(value)} AS {field.declared})"

    def start(self, field: Field, value: str | float) -> str:
        return self.literal(field, str(value))


def _stored(batch: Batch, index: int) -> bytes:
    """The types are those of the query, the same in each fetch."""
    row = batch.slice(index, 1)
    # Python has no nanoseconds.
    columns = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) or pa.types.is_time64(column.type) else column
        for column in row.columns
    ]
    return repr([column.to_pylist() for column in columns]).encode("utf-8", "backslashreplace")
