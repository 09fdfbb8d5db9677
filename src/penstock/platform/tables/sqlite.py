"""Read tables of SQLite files: pages by rowid or primary key, words by FTS5."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...clients import sqlite
from ...errors import ConnectionLost, PenstockError, PermanentError
from .reader import COUNT_LIMIT, FETCH_SIZE, Column, Key, Listed, Reader, Size, Values

_STEPS = 10_000
"""After how many steps of its machine SQLite asks whether to go on."""
_ROWIDS = ("rowid", "_rowid_", "oid")
_CONTENT = re.compile(r"content\s*=\s*'?\"?([^'\",)]+)", re.I)
_WORD = re.compile(r"\w+")


class SqliteReader(Reader):
    """A SQLite file, opened for reading."""

    def __init__(self, path: Path, timeout: float) -> None:
        if not path.exists():
            raise ConnectionLost(f"there is no database {path.name} yet")
        try:
            self._connection = sqlite.connect(path, read_only=True)
        except (sqlite3.Error, OSError) as error:
            raise sqlite.classify_error(error, path, opening=True) from error
        self._path = path
        self._connection.execute("PRAGMA query_only = ON")
        self._connection.text_factory = lambda found: found.decode("utf-8", "replace")
        super().__init__(timeout)
        self._connection.set_progress_handler(lambda: self.is_stopped, _STEPS)

    def name(self, table: str) -> str:
        """Return the table as it stands in a statement."""
        return f"main.{self.quote(table)}"

    def tables(self) -> list[Listed]:
        """Return tables and views, without the shadows of virtual ones and the indexes of words."""
        found = self.rows(
            "SELECT l.name, l.type, m.sql FROM pragma_table_list l JOIN sqlite_schema m ON m.name = l.name "
            "WHERE l.schema = 'main' AND l.type IN ('table', 'view', 'virtual') ORDER BY l.name"
        )
        kept = [row for row in found if not (row[1] == "virtual" and _CONTENT.search(row[2] or ""))]
        return [Listed(str(name), "view" if kind == "view" else "table") for name, kind, _ in kept]

    def columns(self, table: str) -> list[Column]:
        """Return the columns of a table."""
        found = self.rows('SELECT name, type, "notnull" FROM pragma_table_xinfo(?) WHERE hidden <> 1', [table])
        return [Column(str(name), str(type), not not_null) for name, type, not_null in found]

    def key(self, table: str) -> Key | None:
        """Return the rowid, or the primary key of a table without one."""
        [found] = self.rows("SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", [table])
        kind, without_rowid = found
        if kind == "view":
            return None
        if without_rowid:
            primary = self.rows("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", [table])
            return Key([self.quote(name) for (name,) in primary])
        names = {column.name.lower() for column in self.columns(table)}
        free = next((one for one in _ROWIDS if one not in names), None)
        return Key([free]) if free is not None else None

    def size(self, table: str) -> Size:
        """Count up to a limit, and estimate beyond by the largest rowid."""
        count = self.count_at_most(table, COUNT_LIMIT + 1)
        if count <= COUNT_LIMIT:
            return Size(count, True, None)
        key = self.key(table)
        if key is None or key.columns[0] not in _ROWIDS:
            return Size(None, False, None)
        [first], [last] = (
            self.rows(self.select(f"min({key.columns[0]})", table)),
            self.rows(self.select(f"max({key.columns[0]})", table)),
        )
        return Size(max(count, last[0] - first[0] + 1), False, None)

    def indexed(self, table: str) -> list[Sequence[str]]:
        """Return the columns of each index, those of the primary key first."""
        found = self.rows(
            "SELECT l.name, i.name FROM pragma_index_list(?) l, pragma_index_info(l.name) i "
            "ORDER BY l.origin <> 'pk', l.seq, i.seqno",
            [table],
        )
        indexes: dict[str, list[str]] = {}
        for index, column in found:
            if column is not None:
                indexes.setdefault(index, []).append(column)
        return list(indexes.values())

    def cut(self, column: Column, length: int) -> str:
        """Return the expression of a value: text and bytes are cut, whatever the column was declared as.

        Text is cut as bytes, for as text it ends at the first NUL; a character takes at most four.
        """
        name = self.quote(column.name)
        text = f"CAST(substr(CAST({name} AS BLOB), 1, {4 * (length + 1):d}) AS TEXT)"
        bytes = f"substr({name}, 1, {length + 1:d})"
        return f"CASE typeof({name}) WHEN 'text' THEN {text} WHEN 'blob' THEN {bytes} ELSE {name} END"

    def text(self, column: Column) -> str:
        """Return the expression of a value as text."""
        return f"CAST({self.quote(column.name)} AS TEXT)"

    def contains(self, column: Column) -> str:
        """Return the condition that a value holds another one."""
        return f"instr(lower({self.text(column)}), lower(?)) > 0"

    def starts(self, column: Column) -> str:
        """Return the condition that a value begins with another one."""
        return f"instr({self.text(column)}, ?) = 1"

    def search(self, table: str, words: str) -> tuple[str, Values] | None:
        """Return the condition that FTS5 finds all of the words; the last one may be a beginning."""
        index, key = self._index_of_words(table)
        quoted = [f'"{word}"' for word in _WORD.findall(words)]
        if index is None or not quoted:
            return None
        matching = self.select("rowid", index, f" WHERE {self.quote(index)} MATCH ?")
        return f"{key} IN ({matching})", [f"{' '.join(quoted)}*"]

    def _index_of_words(self, table: str) -> tuple[str | None, str]:
        found = self.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%fts5%'")
        for name, sql in found:
            content = _CONTENT.search(sql or "")
            if name == table or (content is not None and content[1].strip() == table):
                return str(name), "rowid"
        return None, ""

    def _execute(self, statement: str, values: Values) -> Iterator[Sequence[Any]]:
        cursor = self._connection.execute(statement, tuple(values))
        cursor.arraysize = FETCH_SIZE
        while found := cursor.fetchmany():
            yield from found

    def _classify(self, error: Exception) -> PenstockError:
        if isinstance(error, OverflowError):
            return PermanentError("a whole number is too large for SQLite")
        if isinstance(error, sqlite3.OperationalError) and str(error).startswith(("no such", "fts5:")):
            return PermanentError(str(error))
        return sqlite.classify_error(error, self._path)

    def _interrupt(self) -> None:
        self._connection.interrupt()

    def _close(self) -> None:
        self._connection.close()
