"""What a database is asked by an input that reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ...delivery import Batch
from ...errors import PenstockError
from .references import Names

CURSOR = "__penstock_cursor"
"""The column, last of all, with the value of the cursor as the database prints it."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a query's result."""

    name: str
    type: pa.DataType
    expression: str
    """How it is selected from the query."""
    declared: str = ""
    """Its type in the words of the database."""


def quoted(name: str) -> str:
    """Return a name as it stands in a statement, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return a text as it stands in a statement, whatever it contains."""
    return "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class Fetched:
    """Some rows of a result, and what the database holds in each of them."""

    batch: Batch
    stored: Callable[[int], bytes]
    """Return what is stored in a row, before it is converted: it tells rows apart, whatever is fetched beside them."""


class Source(ABC):
    """One connection, which can only read; used by one call at a time."""

    @abstractmethod
    def names(self) -> Names:
        """Return what the database knows by name."""

    @abstractmethod
    def describe(self, query: str) -> Sequence[Field]:
        """Return the columns of the query's result, by what the database says and not by what the rows hold."""

    @abstractmethod
    def stream(self, statement: str, fields: Sequence[Field], rows: int) -> Iterator[Fetched]:
        """Run the statement in a read-only transaction and yield its result as it comes."""

    @abstractmethod
    def count(self, statement: str) -> int:
        """Run a statement that counts."""

    @abstractmethod
    def printed(self, field: Field) -> str:
        """Return the expression that prints a column so that ``literal`` reads it as the same value."""

    @abstractmethod
    def literal(self, field: Field, value: str) -> str:
        """Return a printed value as it stands in a statement."""

    @abstractmethod
    def start(self, field: Field, value: str | float) -> str:
        """Return a value from the configuration as it stands in a statement."""

    def doubts(self, query: str, cursor: Field) -> str | None:
        """Return what about the values of a cursor may make rows be missed; None if nothing is known."""
        return None

    def rest(self) -> None:  # noqa: B027
        """Let others at the database until the next call, where it is one's own while it is open."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make the statement that another thread runs over this connection fail, if there is one; returns at once."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def classify_error(self, error: Exception) -> PenstockError:
        """Return what follows from an error of this database."""

    def select(self, query: str, fields: Sequence[Field]) -> str:
        """Return the statement that reads everything, in the query's own order."""
        if all(field.expression == quoted(field.name) for field in fields):
            return query
        return f"SELECT {', '.join(f'{f.expression} AS {quoted(f.name)}' for f in fields)} FROM ({query}\n) AS penstock"  # noqa: S608

    def select_after(
        self, query: str, fields: Sequence[Field], cursor: Field, after: str | None, until: str | None = None
    ) -> str:
        """Return the statement that reads from ``after`` to ``until``, both included, in the order of the cursor."""
        columns = ", ".join(f"{field.expression} AS {quoted(field.name)}" for field in fields)
        name = f"penstock.{quoted(cursor.name)}"
        condition = f"{name} IS NOT NULL" if after is None else f"{name} >= {after}"
        condition += f" AND {name} <= {until}" if until is not None else ""
        return (
            f"SELECT {columns}, {self.printed(cursor)} AS {quoted(CURSOR)} FROM ({query}\n) AS penstock "  # noqa: S608
            f"WHERE {condition} ORDER BY {name}"
        )

    def greatest(self, query: str, cursor: Field) -> str:
        """Return the statement that reads the greatest value of the cursor, as ``printed`` prints it."""
        name = f"penstock.{quoted(cursor.name)}"
        return (
            f"SELECT {self.printed(cursor)} AS {quoted(CURSOR)} FROM ({query}\n) AS penstock "  # noqa: S608
            f"WHERE {name} IS NOT NULL ORDER BY {name} DESC LIMIT 1"
        )
