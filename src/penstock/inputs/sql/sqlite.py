"""Read a SQLite file, beside those who write it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as is_

from ...clients import sqlite
from ...errors import PenstockError, PermanentError
from .references import Names
from .source import Fetched, Field, Source, quoted, text

_VIEW = "_penstock_query"
_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_STORED: dict[frozenset[str], pa.DataType] = {
    frozenset(): pa.null(),
    frozenset({"integer"}): pa.int64(),
    frozenset({"real"}): pa.float64(),
    frozenset({"integer", "real"}): pa.float64(),
    frozenset({"text"}): pa.string(),
    frozenset({"blob"}): pa.binary(),
}


class SqliteSource(Source):
    """A SQLite file that is only read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite.connect(path, read_only=True)

    def close(self) -> None:
        self._database.close()

    def interrupt(self) -> None:
        self._database.interrupt()

    def classify_error(self, error: Exception) -> PenstockError:
        return sqlite.classify_error(error, self._path)

    def names(self) -> Names:
        return Names(self._schemas, self._tables)

    def _schemas(self) -> list[str]:
        return [row[1] for row in self._database.execute("PRAGMA database_list")]

    def _tables(self) -> list[tuple[str, str]]:
        query = (
            "SELECT 'main', name FROM main.sqlite_master WHERE type IN ('table', 'view') "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_penstock%' ESCAPE '\\' ORDER BY name"
        )
        return self._database.execute(query).fetchall()

    def describe(self, query: str) -> Sequence[Field]:
        """Ask a view for the declared types; what has none, as a sum, is looked at row by row."""
        self._database.execute("PRAGMA query_only = OFF")
        self._database.execute(f"CREATE TEMP VIEW {_VIEW} AS {query}")
        try:
            found = self._database.execute(f"PRAGMA temp.table_info({_VIEW})").fetchall()
        finally:
            self._database.execute(f"DROP VIEW temp.{_VIEW}")
            self._database.execute("PRAGMA query_only = ON")
        described = self._database.execute(f"SELECT * FROM ({query}\n) LIMIT 0").description  # noqa: S608
        names = [column[0] for column in described]
        if twice := [name for name in names if re.sub(r":\d+$", "", name) in names and re.search(r":\d+$", name)]:
            first = twice[0].rpartition(":")[0]
            raise PermanentError(f"two columns of the query are called {first!r}: give one another name with AS")
        fields = [
            Field(name, sqlite.arrow_type(row[2]) or pa.null(), quoted(name), row[2])
            for name, row in zip(names, found, strict=True)
        ]
        unknown = [field for field in fields if sqlite.arrow_type(field.declared) is None]
        types = dict(zip([field.name for field in unknown], self._stored(query, unknown), strict=True))
        return [replace(field, type=types.get(field.name, field.type)) for field in fields]

    def _stored(self, query: str, fields: Sequence[Field]) -> list[pa.DataType]:
        if not fields:
            return []
        kinds = ", ".join(f"group_concat(DISTINCT typeof({quoted(field.name)}))" for field in fields)
        row = self._database.execute(f"SELECT {kinds} FROM ({query}\n)").fetchone()  # noqa: S608
        found = [frozenset((names or "").split(",")) - {"", "null"} for names in row]
        return [_STORED.get(kinds, pa.string()) for kinds in found]

    def stream(self, statement: str, fields: Sequence[Field], rows: int) -> Iterator[Fetched]:
        names = [field.name for field in fields]
        cursor = self._database.execute(statement)
        try:
            while found := cursor.fetchmany(rows):
                columns = zip(*found, strict=True)
                arrays = [_typed(list(cells), field.type) for cells, field in zip(columns, fields, strict=True)]
                yield Fetched(pa.RecordBatch.from_arrays(arrays, names=names), partial(_stored, found))
        finally:
            cursor.close()

    def count(self, statement: str) -> int:
        return int(self._database.execute(statement).fetchone()[0])

    def doubts(self, query: str, cursor: Field) -> str | None:
        """SQLite compares texts letter by letter, and numbers come before all texts."""
        name = f"penstock.{quoted(cursor.name)}"
        kinds = (
            f"CASE typeof({name}) WHEN 'text' THEN CASE WHEN {name} GLOB '{_DAY}[T ]*' THEN substr({name}, 11, 1) "
            f"ELSE 'text' END WHEN 'blob' THEN 'blob' ELSE 'number' END"
        )
        statement = f"SELECT DISTINCT {kinds} FROM ({query}\n) AS penstock WHERE {name} IS NOT NULL"  # noqa: S608
        found = {row[0] for row in self._database.execute(statement)}
        if {"T", " "} <= found:
            return "some times have a T before the clock and others a space, which comes first"
        kinds_found = {kind if kind in ("number", "blob") else "text" for kind in found}
        if len(kinds_found) > 1:
            return f"it holds {' and '.join(sorted(kinds_found))} values, which are not compared with one another"
        return None

    def printed(self, field: Field) -> str:
        return f"quote(penstock.{quoted(field.name)})"

    def literal(self, field: Field, value: str) -> str:
        """``quote`` prints literals of each kind of value."""
        return value

    def start(self, field: Field, value: str | float) -> str:
        return repr(value) if isinstance(value, int | float) else text(value)


def _stored(rows: Sequence[tuple[Any, ...]], index: int) -> bytes:
    return repr(rows[index]).encode("utf-8", "backslashreplace")


def _typed(cells: list[Any], kind: pa.DataType) -> pa.Array:
    """SQLite keeps in any column what it was given: a value that is not of the column's type keeps its own."""
    try:
        return _as_declared(cells, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return _as_stored(cells)


def _as_declared(cells: list[Any], kind: pa.DataType) -> pa.Array:
    if is_.is_integer(kind) and not {*map(type, cells)} <= {int, type(None)}:
        raise pa.ArrowInvalid("not whole numbers")
    if is_.is_boolean(kind):
        if any(cell not in (0, 1, None) for cell in cells):
            raise pa.ArrowInvalid("neither true nor false")
        return pa.array(cells, pa.int8()).cast(kind)
    if is_.is_duration(kind):
        return pa.array(cells, pa.int64()).cast(kind)
    if is_.is_floating(kind):
        return pa.array([float("nan") if cell == "NaN" else cell for cell in cells] if "NaN" in cells else cells, kind)
    if is_.is_time(kind):
        moments = pa.array([None if cell is None else f"1970-01-01 {cell}" for cell in cells], pa.string())
        exact = moments.cast(pa.timestamp("ns")).cast(pa.time64("ns"))
        found = exact.cast(kind)
        return found if found.cast(exact.type).equals(exact) else exact
    if is_.is_timestamp(kind):
        return _moments(pa.array(cells, pa.string()), kind)
    if is_.is_decimal(kind) or is_.is_date(kind):
        return pa.array(cells, pa.string()).cast(kind)
    return pa.array(cells, kind)


def _moments(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Nanoseconds stay nanoseconds where a text has them."""
    for unit in (kind.unit, "ns"):
        for zone in dict.fromkeys((kind.tz, None, "UTC")):
            try:
                return texts.cast(pa.timestamp(unit, zone)).cast(pa.timestamp(unit, kind.tz))
            except pa.ArrowInvalid:
                continue
    raise pa.ArrowInvalid("no timestamps")


def _as_stored(cells: list[Any]) -> pa.Array:
    kinds = {type(cell) for cell in cells} - {type(None)}
    if kinds == {int, float} and all(abs(cell) <= 2**53 for cell in cells if isinstance(cell, int)):
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    if len(kinds) == 1:
        return pa.array(cells)
    return pa.array([cell if cell is None or isinstance(cell, str) else _text(cell) for cell in cells], pa.string())


def _text(cell: float | bytes) -> str:
    return cell.decode(errors="backslashreplace") if isinstance(cell, bytes) else repr(cell)
