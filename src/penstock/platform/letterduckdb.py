"""Dead letters in tables of DuckDB: read and dropped beside the stream that writes them, in one process."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import duckdb

from ..clients import duckdb as client
from ..clients.database import Duckdb
from .letters import MAX_GROUPS, Address, Cursor, Group, Letter, digest_of, letter_of

T = TypeVar("T")

_TEXTS = ("stream", "stage", "reason", "payload", "encoding", "metadata")
_ROWID = re.compile(r"\d{1,18}", re.ASCII)
_TIME = "coalesce(epoch_us(time), 0)"
"""As a number, since Python would want another package to read a time with a zone."""


class LetterDuckdb:
    """A table of dead letters in a DuckDB file."""

    def __init__(self, where: Duckdb, schema: str | None, table: str) -> None:
        named, dot, self._table = table.rpartition(".")
        self._path, self._schema = where.path, (named if dot else schema) or "main"
        self.name = hashlib.sha256(f"{where.path.absolute()} {self._schema}.{self._table}".encode()).hexdigest()[:12]
        self._from = f"FROM {_quoted(self._schema)}.{_quoted(self._table)}"

    def has(self, row: str) -> bool:
        """Tell whether ``row`` is written like the address of a row of this table."""
        return _ROWID.fullmatch(row) is not None

    async def page(self, wanted: Mapping[str, str], after: Cursor | None, limit: int) -> list[Letter]:
        """Return at most ``limit`` dead letters, the newest first."""

        def read(connection: duckdb.DuckDBPyConnection) -> list[Letter]:
            where, values = _conditions(wanted)
            if after is not None:
                where += f" AND ({_TIME}, rowid) < (?, ?)"
                values += [_microseconds(after.time), int(after.row)]
            rows = self._rows(connection, f"WHERE {where} ORDER BY {_TIME} DESC, rowid DESC LIMIT {limit}", values)
            return [letter_of(self.name, row["row"], row) for row in rows]

        return await self._run(read, [])

    async def count(self, wanted: Mapping[str, str]) -> int:
        """Return how many dead letters there are."""

        def read(connection: duckdb.DuckDBPyConnection) -> int:
            where, values = _conditions(wanted)
            found = connection.execute(f"SELECT count(*) {self._from} WHERE {where}", values).fetchone()
            return int(found[0]) if found is not None else 0

        return await self._run(read, 0)

    async def groups(self) -> list[Group]:
        """Return how many dead letters there are, by stream, stage and reason."""

        def read(connection: duckdb.DuckDBPyConnection) -> list[Group]:
            by = ", ".join(f"coalesce({name}, '')" for name in ("stream", "stage", "reason"))
            counted = f"SELECT {by}, count(*), min(epoch_us(time)), max(epoch_us(time)) {self._from} GROUP BY ALL"
            rows = connection.execute(f"{counted} ORDER BY 4 DESC, 1, 2, 3 LIMIT {MAX_GROUPS}").fetchall()
            return [
                Group(stream=stream, stage=stage, reason=reason, count=many, first=_time(first), last=_time(last))
                for stream, stage, reason, many, first, last in rows
            ]

        return await self._run(read, [])

    async def find(self, address: Address) -> Mapping[str, Any] | None:
        """Return the row at an address, whole; None if it is gone."""
        return await self._run(lambda connection: self._at(connection, address), None)

    async def drop(self, address: Address) -> bool:
        """Delete the row at an address; return whether it was there."""

        def delete(connection: duckdb.DuckDBPyConnection) -> bool:
            connection.execute("BEGIN")
            is_there = self._at(connection, address) is not None
            if is_there:
                connection.execute(f"DELETE {self._from} WHERE rowid = ?", [int(address.row)])
            connection.execute("COMMIT")
            return is_there

        return await self._run(delete, False, changes=True)

    def close(self) -> None:
        """Do nothing: the file is opened for each question, so that other processes may have it between."""

    def _at(self, connection: duckdb.DuckDBPyConnection, address: Address) -> Mapping[str, Any] | None:
        for row in self._rows(connection, "WHERE rowid = ?", [int(address.row)]):
            if digest_of(row) == address.digest:
                return row
        return None

    def _rows(self, connection: duckdb.DuckDBPyConnection, behind: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        found = connection.execute(
            f"SELECT epoch_us(time), CAST(rowid AS VARCHAR), {', '.join(_TEXTS)} {self._from} {behind}", values
        ).fetchall()
        return [
            {"time": _time(time), "row": row, **dict(zip(_TEXTS, texts, strict=True))} for time, row, *texts in found
        ]

    async def _run(self, action: Callable[[duckdb.DuckDBPyConnection], T], nothing: T, *, changes: bool = False) -> T:
        def run() -> T:
            if not self._path.exists():
                return nothing
            try:
                connect = client.connect if changes else client.connect_read_only
                with connect(self._path) as connection:
                    known = "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"
                    if connection.execute(known, [self._schema, self._table]).fetchone() is None:
                        return nothing
                    return action(connection)
            except (duckdb.Error, OSError) as error:
                raise client.classify_error(error, self._path, opening=True) from error

        return await asyncio.to_thread(run)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC)


def _microseconds(time: datetime | None) -> int:
    return 0 if time is None else round(time.timestamp() * 1e6)


def _conditions(wanted: Mapping[str, str]) -> tuple[str, list[Any]]:
    names = [name for name in wanted if name != "search"]
    parts = ["true", *(f"{_quoted(name)} = ?" for name in names)]
    values: list[Any] = [wanted[name] for name in names]
    if text := wanted.get("search"):
        parts.append("(contains(lower(reason), ?) OR contains(lower(payload), ?))")
        values += [text.lower()] * 2
    return " AND ".join(parts), values
