"""A connection that only reads, for one question, with a deadline: what every engine has in common."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from ...errors import PenstockError, PermanentError, TransientError

Values = Sequence[Any]
FETCH_SIZE = 500
"""How many rows are fetched at once."""
COUNT_LIMIT = 10_000
"""Up to how many rows a table is counted exactly; beyond, the number is estimated."""
MAX_SEARCHED_COLUMNS = 20
"""In how many columns of a table without a text index a text is looked for."""


class Stopped(TransientError):
    """A question was ended before its answer: its time is up, or somebody cancelled it."""


class Column(msgspec.Struct, frozen=True):
    """A column of a table."""

    name: str
    type: str
    """As the database declares it; empty where SQLite was told none."""
    nullable: bool = True


class Size(NamedTuple):
    """How large a table is."""

    rows: int | None
    is_exact: bool
    bytes: int | None


class Key(NamedTuple):
    """What tells the rows of a table apart, and is the order of its pages."""

    columns: Sequence[str]
    """Expressions, quoted already."""
    is_physical: bool = False
    """Whether the database returns rows in this order without being asked to sort them."""


class Listed(NamedTuple):
    """A table as it is listed."""

    name: str
    kind: Literal["table", "view"]


class Reader(ABC):
    """One connection for reading, used by one thread; another may ``stop`` it."""

    mark: ClassVar[str] = "?"
    """What stands for a value in a statement."""

    def __init__(self, timeout: float) -> None:
        self._why = ""
        self._end = time.monotonic() + timeout
        self._timer = threading.Timer(timeout, self.stop, [f"it took longer than {timeout:g} seconds"])
        self._timer.daemon = True
        self._timer.start()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is to be read any more."""
        return bool(self._why)

    @property
    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self._end - time.monotonic()

    def stop(self, why: str) -> None:
        """End what runs; from any thread."""
        self._why = self._why or why
        self._interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._timer.cancel()
        self._close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, statement: str, values: Values = ()) -> list[Sequence[Any]]:
        """Return all rows of a statement of ours; raises PenstockError."""
        return list(self.stream(statement, values))

    def stream(self, statement: str, values: Values = ()) -> Iterator[Sequence[Any]]:
        """Yield the rows of a statement of ours as they come; raises PenstockError."""
        try:
            for row in self._execute(statement, values):
                if self._why:
                    raise Stopped(self._why)
                yield row
        except PenstockError:
            raise
        except Exception as error:
            if self._why:
                raise Stopped(self._why) from None
            raise self._classify(error) from error

    def quote(self, name: str) -> str:
        """Return a name as it stands in a statement."""
        if "\x00" in name:
            raise PermanentError("a name holds no NUL")
        return '"' + name.replace('"', '""') + '"'

    def count_at_most(self, table: str, limit: int, where: str = "", values: Values = ()) -> int:
        """Count rows, but no further than ``limit``."""
        inner = self.select("1 AS one", table, where, limit)
        return int(self.rows(f"SELECT count(*) FROM ({inner}) AS counted", values)[0][0])  # noqa: S608

    def select(self, columns: str, table: str, where: str = "", limit: int | None = None) -> str:
        """Return a statement of expressions that are quoted already; values are bound, never part of it."""
        end = f" LIMIT {limit:d}" if limit is not None else ""
        return f"SELECT {columns} FROM {self.name(table)}{where}{end}"  # noqa: S608

    @abstractmethod
    def name(self, table: str) -> str:
        """Return the table as it stands in a statement: with its schema, quoted."""

    @abstractmethod
    def tables(self) -> list[Listed]:
        """Return the tables and views; raises PenstockError."""

    @abstractmethod
    def columns(self, table: str) -> list[Column]:
        """Return the columns of a table; none if the table does not exist."""

    @abstractmethod
    def key(self, table: str) -> Key | None:
        """Return what tells its rows apart; None for a view."""

    @abstractmethod
    def size(self, table: str) -> Size:
        """Return how large a table is, in bounded time."""

    @abstractmethod
    def indexed(self, table: str) -> list[Sequence[str]]:
        """Return the columns of each index."""

    @abstractmethod
    def cut(self, column: Column, length: int) -> str:
        """Return the expression of a value for people: a long one is cut behind ``length`` + 1 characters."""

    @abstractmethod
    def text(self, column: Column) -> str:
        """Return the expression of a value as text."""

    def value(self, column: Column) -> str:
        """Return what stands for a value that is compared with a column."""
        return self.mark

    def carried(self, expression: str) -> str:
        """Return the expression of a value of a key, such that a page can carry it to the next."""
        return expression

    def bound(self, column: str, type: str) -> str:
        """Return what stands for a value of a key that was carried."""
        return self.mark

    @abstractmethod
    def contains(self, column: Column) -> str:
        """Return the condition that a value, as text, holds another one; upper and lower case are the same."""

    @abstractmethod
    def starts(self, column: Column) -> str:
        """Return the condition that a value, as text, begins with another one."""

    def search(self, table: str, words: str) -> tuple[str, Values] | None:
        """Return the condition that finds words by a text index; None without an index."""
        return None

    @abstractmethod
    def _execute(self, statement: str, values: Values) -> Iterator[Sequence[Any]]: ...

    @abstractmethod
    def _classify(self, error: Exception) -> PenstockError: ...

    @abstractmethod
    def _interrupt(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...
