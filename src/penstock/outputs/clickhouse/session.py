"""What a ClickHouse server is asked to do: describe and make tables, and take inserts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.types as is_

from ...clients.clickhouse import Connection
from ...delivery import Batch
from ...errors import ConfigError, PenstockError, PermanentError
from ..sql.columns import Column, Years
from ..sql.session import Session, Table
from .types import column_of, declared_type, takes_bytes

DEDUPLICATION_WINDOW = 10_000
"""Inserts of which a table remembers the tokens."""
_COLUMNS = (
    "SELECT name, type, default_kind FROM system.columns WHERE database = {database:String} AND table = {table:String} "
    "AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') ORDER BY position FORMAT JSONCompactEachRow"
)
_ENGINE = (
    "SELECT engine FROM system.tables WHERE database = {database:String} AND name = {table:String} "
    "FORMAT JSONCompactEachRow"
)
_INSERT_SETTINGS = {
    "input_format_null_as_default": "0",
    "input_format_arrow_allow_missing_columns": "0",
    "date_time_overflow_behavior": "throw",
}


def quoted(name: str) -> str:
    """Return a name as it stands in a statement; a backslash escapes, unlike in other databases."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


class ClickhouseSession(Session):
    """A server without transactions: each insert into one table is there as a whole or not at all."""

    folds_case = False
    longest_name = 200
    years: Years = (1900, 2299)

    def __init__(self, connection: Connection, database: str, engine: str | None, settings: Mapping[str, str]) -> None:
        self._connection, self._database, self._engine = connection, database, engine
        self._settings = {**_INSERT_SETTINGS, **settings}

    def begin(self) -> None:
        """Do nothing: there are no transactions."""

    def commit(self) -> None:
        """Do nothing: there are no transactions."""

    def rollback(self) -> None:
        """Do nothing: there are no transactions."""

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        self._connection.interrupt()

    def classify_error(self, error: Exception) -> PenstockError:
        return error if isinstance(error, PenstockError) else PermanentError(f"the rows cannot be written: {error}")

    def execute(self, statement: str, values: Sequence[str] = ()) -> None:
        self._connection.call(statement)

    def _ask(self, query: str, table: Table) -> list[list[str]]:
        names = {"param_database": table.schema or self._database, "param_table": _escaped(table.name)}
        found = self._connection.call(query, settings=names)
        return [json.loads(line) for line in found.splitlines()]

    def describe(self, table: Table) -> Mapping[str, Column] | None:
        rows = self._ask(_COLUMNS, table)
        return {name: column_of(name, declared, has_default=bool(kind)) for name, declared, kind in rows} or None

    def new_column(self, name: str, values: pa.Array) -> Column:
        return column_of(name, f"Nullable({declared_type(values.type)})", has_default=False)

    def widen(
        self, table: Table, column: Column, values: pa.Array, *, change: bool, pending: Sequence[pa.Array] = ()
    ) -> Column:
        """Change no column; one of text takes bytes too."""
        return replace(column, type=pa.binary(), takes="bytes") if takes_bytes(column, values) else column

    def is_unique(self, table: Table, key: Sequence[str]) -> bool:
        return all("Replacing" in engine or "Collapsing" in engine for (engine,) in self._ask(_ENGINE, table))

    def make_unique(self, table: Table, key: Sequence[str]) -> None:
        raise ConfigError(
            f"the engine of the table {table} keeps all rows of one `key`: expected a ReplacingMergeTree ordered by "
            f"{', '.join(key)}, or no `key`"
        )

    def place(self, table: Table) -> str:
        """Return the name of a table as it stands in a statement."""
        return f"{quoted(table.schema or self._database)}.{quoted(table.name)}"

    def create(self, table: Table, columns: Sequence[Column], key: Sequence[str]) -> None:
        parts = [f"{quoted(one.name)} {_bare(one) if one.name in key else one.declared}" for one in columns]
        order = f"({', '.join(map(quoted, key))})" if key else "tuple()"
        engine = self._engine or ("ReplacingMergeTree" if key else "MergeTree")
        remembers = f" SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
        self._change(
            f"CREATE TABLE IF NOT EXISTS {self.place(table)} ({', '.join(parts)}) ENGINE = {engine} ORDER BY {order}"
            f"{'' if self._engine else remembers}",
            columns,
        )

    def add(self, table: Table, columns: Sequence[Column]) -> None:
        parts = (f"ADD COLUMN IF NOT EXISTS {quoted(one.name)} {one.declared}" for one in columns)
        self._change(f"ALTER TABLE {self.place(table)} {', '.join(parts)}", columns)

    def _change(self, statement: str, columns: Sequence[Column]) -> None:
        times = any(is_.is_time(column.type) for column in columns)
        self._connection.call(statement, settings={"enable_time_time64_type": "1"} if times else None)

    def insert(
        self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str], *, update_first: bool = False
    ) -> None:
        self.insert_once(table, columns, rows, "")

    def insert_once(self, table: Table, columns: Sequence[Column], rows: Batch, token: str) -> None:
        """Insert rows, which the server leaves out if it has an insert of the same token."""
        names = [column.name for column in columns]
        sent = pa.RecordBatch.from_arrays(rows.columns, names=names) if names else rows
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, sent.schema) as stream:
            stream.write_batch(sent)
        settings = {**self._settings, "insert_deduplication_token": token} if token else self._settings
        into = f"INSERT INTO {self.place(table)} ({', '.join(map(quoted, names))}) FORMAT ArrowStream"
        self._connection.call(into, sink.getvalue().to_pybytes(), settings)

    def load(self, key: str) -> str | None:
        return None

    def save(self, entries: Sequence[tuple[str, str]]) -> None:
        raise NotImplementedError("ClickHouse has no transactions in which positions could be saved")


def _bare(column: Column) -> str:
    """The columns that rows are ordered by take no nulls."""
    return re.sub(r"^Nullable\((.*)\)$", r"\1", column.declared)


def _escaped(text: str) -> str:
    """Return a text as the server reads it as a parameter, where a backslash escapes."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
