"""What a database is asked to do, by any output that writes tables."""

from __future__ import annotations

import hashlib
import string
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from ...delivery import Batch
from ...errors import PenstockError, PermanentError
from .columns import PRINTABLE_YEARS, Column, Years

POSITIONS = "_penstock_checkpoints"
"""The table of the positions that are kept beside the rows."""
NO_POSITION = "null"
"""The position of a row that was only claimed."""
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
"""SQLite and DuckDB take no letters for one another but these."""


@dataclass(frozen=True, slots=True)
class Table:
    """The name of a table, and the schema it is in if one was named."""

    name: str
    schema: str = ""

    def __str__(self) -> str:
        return ".".join(filter(None, (self.schema, self.name)))

    def sql(self) -> str:
        """Return the name as it stands in a statement."""
        return ".".join(quoted(part) for part in (self.schema, self.name) if part)


def quoted(name: str) -> str:
    """Return a name as it stands in a statement, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Sequence[str]) -> str:
    """Return names as they stand in a list of a statement."""
    return ", ".join(quoted(name) for name in names)


class Session(ABC):
    """One connection, used by one call at a time: a transaction begins by itself or by ``begin``."""

    folds_case = True
    """Names that differ by the case of ASCII letters alone are one."""
    longest_name = 255
    """The most bytes of a name."""
    most_columns = 10_000
    """The most columns of a table."""
    years: Years = PRINTABLE_YEARS
    """The first and the last year of which it keeps times."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a transaction, unless one has begun."""

    @abstractmethod
    def commit(self) -> None:
        """Make the transaction durable."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo the transaction, if one has begun."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make the statement that another thread runs over this connection fail, if there is one; returns at once."""

    @abstractmethod
    def describe(self, table: Table) -> Mapping[str, Column] | None:
        """Return the columns by name, or None if the table is missing."""

    @abstractmethod
    def new_column(self, name: str, values: pa.Array) -> Column:
        """Return the column that is to be made for such values."""

    @abstractmethod
    def widen(
        self, table: Table, column: Column, values: pa.Array, *, change: bool, pending: Sequence[pa.Array] = ()
    ) -> Column:
        """Return the column that takes these values; with ``change`` it may be widened if that loses nothing.

        ``pending`` are values that go into the column before these and are not written yet.
        """

    @abstractmethod
    def is_unique(self, table: Table, key: Sequence[str]) -> bool:
        """Tell whether the table has a unique constraint on the key."""

    @abstractmethod
    def insert(
        self, table: Table, columns: Sequence[Column], rows: Batch, key: Sequence[str], *, update_first: bool = False
    ) -> None:
        """Insert rows of which no two have the same key; those that have it already get the values of the columns.

        With ``update_first`` the rows lack what a new row must have, so that only rows that are there can do without.
        """

    def insert_defaults(self, table: Table, rows: int) -> None:
        """Insert rows that have no column at all."""
        for _ in range(rows):
            self.execute(f"INSERT INTO {table.sql()} DEFAULT VALUES")

    @abstractmethod
    def execute(self, statement: str, values: Sequence[str] = ()) -> None:
        """Run one statement."""

    @abstractmethod
    def load(self, key: str) -> str | None:
        """Return the position saved under ``key``."""

    def claim(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        """Return the positions saved under ``keys``, which no other transaction may change before this one ends."""
        self.begin()
        return {key: self.load(key) for key in keys}

    @abstractmethod
    def save(self, entries: Sequence[tuple[str, str]]) -> None:
        """Save positions, within the transaction."""

    @abstractmethod
    def classify_error(self, error: Exception) -> PenstockError:
        """Convert an error of this database to one of the five kinds of errors."""

    def create(self, table: Table, columns: Sequence[Column], key: Sequence[str]) -> None:
        """Make the table if it is missing."""
        parts = [f"{quoted(column.name)} {column.declared}" for column in columns]
        if key:
            parts.append(f"PRIMARY KEY ({listed(key)})")
        self.execute(f"CREATE TABLE IF NOT EXISTS {table.sql()} ({', '.join(parts)})")

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Undo what is done within, and nothing else, if it fails."""
        self.execute("SAVEPOINT penstock")
        try:
            yield
        except Exception:
            self.execute("ROLLBACK TO SAVEPOINT penstock")
            self.execute("RELEASE SAVEPOINT penstock")
            raise
        self.execute("RELEASE SAVEPOINT penstock")

    def add(self, table: Table, columns: Sequence[Column]) -> None:
        """Add columns to the table where they are missing."""
        for column in columns:
            self.execute(f"ALTER TABLE {table.sql()} ADD COLUMN IF NOT EXISTS {quoted(column.name)} {column.declared}")

    def make_unique(self, table: Table, key: Sequence[str]) -> None:
        """See to it that no two rows have the same key; fails if two have."""
        name = f"{table.name}_key"
        if len(name.encode()) > self.longest_name:  # Cut off, the names of two tables might be one.
            name = f"penstock_{hashlib.sha256(table.sql().encode()).hexdigest()[:20]}_key"
        name = quoted(name)
        self.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {name} ON {table.sql()} ({listed(key)})")

    def on_conflict(self, columns: Sequence[Column], key: Sequence[str]) -> str:
        """Return the end of an INSERT that replaces the rows of the same key."""
        if not key:
            return ""
        names = {self.folded(name) for name in key}
        others = [quoted(column.name) for column in columns if self.folded(column.name) not in names]
        updates = ", ".join(f"{name} = excluded.{name}" for name in others)
        return f" ON CONFLICT ({listed(key)}) DO " + (f"UPDATE SET {updates}" if updates else "NOTHING")

    def inserting(
        self,
        table: Table,
        columns: Sequence[Column],
        source: str,
        names: Sequence[str],
        key: Sequence[str],
        *,
        update_first: bool,
    ) -> Iterator[str]:
        """Return the statements that insert all rows of ``source``, whose columns have these names."""
        into, conflict = listed([column.name for column in columns]), self.on_conflict(columns, key)
        if not update_first:
            yield f"INSERT INTO {table.sql()} ({into}) SELECT {listed(names)} FROM {source}{conflict}"  # noqa: S608
            return
        folded = {self.folded(name) for name in key}
        pairs = [(column, quoted(column.name), quoted(name)) for column, name in zip(columns, names, strict=True)]
        same = " AND ".join(f"t.{to} = s.{of}" for one, to, of in pairs if self.folded(one.name) in folded)
        changes = ", ".join(f"{to} = s.{of}" for one, to, of in pairs if self.folded(one.name) not in folded)
        if changes:
            yield f"UPDATE {table.sql()} AS t SET {changes} FROM {source} AS s WHERE {same}"  # noqa: S608
        yield (
            f"INSERT INTO {table.sql()} ({into}) SELECT {listed(names)} FROM {source} AS s "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT 1 FROM {table.sql()} AS t WHERE {same}){conflict}"
        )

    def folded(self, name: str) -> str:
        """Return the name by which columns are told apart."""
        return name.translate(_LOWER) if self.folds_case else name

    def why_no_column(self, name: str) -> str | None:
        """Return why something cannot name a column; None if it can."""
        return self.why_no_name(name)

    def check_name(self, name: str, what: str) -> None:
        """Raise PermanentError for what cannot name a table or a column."""
        if reason := self.why_no_name(name):
            raise PermanentError(f"{what} {name[:80]!r} {reason}")

    def why_no_name(self, name: str) -> str | None:
        """Return why something cannot name a table or a column; None if it can."""
        if not name.strip():
            return "is an empty name"
        if not name.isprintable():
            return "has characters that cannot be printed"
        if len(name.encode(errors="surrogatepass")) > self.longest_name:
            return f"is longer than {self.longest_name} bytes"
        return None
