"""Questions about one table: pages by key, one row, facets, counts and statistics, each in bounded time."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from ...errors import PermanentError
from .cells import show
from .places import MINE, Place
from .reader import MAX_SEARCHED_COLUMNS, Column, Key, Reader

MAX_PAGE_COLUMNS = 200
"""The most columns of a page; others are asked for by name."""
MAX_CELL_SIZE = 500
"""Characters of a cell of a page."""
MAX_ROW_SIZE = 8_000_000
"""Characters of all cells of one row that is shown whole."""
MAX_FACET_ROWS = 100_000
"""How many rows a facet and the statistics look at."""
MAX_FACET_VALUES = 50
MAX_FILTERS = 20
MAX_CARRIED_SIZE = 1000
"""Characters of a value by which the next page is found."""

Operation = Literal["eq", "ne", "lt", "le", "gt", "ge", "contains", "starts", "null", "notnull"]
_COMPARISONS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class Filter(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A condition: a column, how it is compared, and with what."""

    column: Annotated[str, msgspec.Meta(max_length=500)]
    operation: Operation
    value: Annotated[str, msgspec.Meta(max_length=2000)] | int | float | bool | None = None


class Page(msgspec.Struct):
    """Some rows of a table, in the order of a key."""

    columns: list[Column]
    """Those of the cells, in their order."""
    rows: list[list[Any]]
    keys: list[str] | None
    """What asks for each row by itself; null where nothing tells rows apart."""
    cut: list[tuple[int, int]]
    """The row and the column of each cell of which only the beginning is shown."""
    note: str | None = None
    """Why there may be more than can be shown page by page."""


class RowShown(msgspec.Struct):
    """One row, whole."""

    columns: list[Column]
    cells: list[Any]
    cut: list[int]
    origin: dict[str, Any]
    """Where it came from, as far as that is kept: the columns `__meta_*`."""
    writers: list[str] = []
    """The streams that write into the table."""


class FacetValue(msgspec.Struct):
    """A value, and how often it occurs."""

    value: Any
    count: int
    is_cut: bool


class Facet(msgspec.Struct):
    """The most frequent values of a column."""

    values: list[FacetValue]
    rows: int
    """How many rows were looked at."""
    is_sample: bool
    """Whether there are more."""


class Statistics(msgspec.Struct):
    """What is in a column, as far as it was looked at."""

    column: str
    type: str
    rows: int
    nulls: int
    distinct: int
    minimum: Any
    maximum: Any
    is_sample: bool


class TableShown(msgspec.Struct):
    """A table: how large it is, and its columns."""

    place: str
    name: str
    kind: Literal["table", "view"]
    engine: str
    rows: int | None
    """How many rows; null where that is not known."""
    is_exact: bool
    """Whether they were counted; else it is an estimate."""
    bytes: int | None
    columns: list[Column]
    key: list[str] | None
    indexes: list[Sequence[str]]
    is_searched: bool
    """Whether words are found by an index."""
    writers: list[str] = []
    """The streams that write into it."""


def read_filters(text: str | None) -> list[Filter]:
    """Return the conditions of a JSON list such as ``[["celsius", "gt", 20]]``; raises ValueError."""
    if text is None:
        return []
    found = msgspec.json.decode(text, type=list[Filter])
    if len(found) > MAX_FILTERS:
        raise ValueError(f"expected at most {MAX_FILTERS} conditions")
    return found


@dataclass
class Question:
    """What is asked of one table, over one connection; raises PermanentError for what does not fit the table."""

    place: Place
    table: str
    reader: Reader
    filters: Sequence[Filter] = ()
    search: str = ""

    def __post_init__(self) -> None:
        found = self.reader.columns(self.table) if self.place.shows(self.table) else []
        if not self.place.opens(found):
            raise LookupError(self.table)
        self.columns = found
        self._named = {column.name: column for column in found}
        self.conditions, self.values = self._conditions()

    def column(self, name: str) -> Column:
        """Return a column; raises PermanentError."""
        if name not in self._named:
            raise PermanentError(f"there is no column {name[:200]!r}")
        return self._named[name]

    def _conditions(self) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        if self.place.user is not None:
            conditions.append(f"{self.reader.quote(MINE)} = {self.place.user:d}")
        for one in self.filters:
            condition, given = self._condition(one)
            conditions.append(condition)
            values += given
        if self.search:
            condition, words = self._searching()
            conditions.append(condition)
            values += words
        return conditions, values

    def _condition(self, one: Filter) -> tuple[str, list[Any]]:
        column = self.column(one.column)
        name = self.reader.quote(column.name)
        if one.operation in ("null", "notnull"):
            return f"{name} IS {'NOT ' if one.operation == 'notnull' else ''}NULL", []
        if one.value is None:
            raise PermanentError(f"the condition {one.operation!r} needs a value")
        if one.operation == "contains":
            return self.reader.contains(column), [str(one.value)]
        if one.operation == "starts":
            return self.reader.starts(column), [str(one.value)]
        return f"{name} {_COMPARISONS[one.operation]} {self.reader.value(column)}", [one.value]

    def _searching(self) -> tuple[str, Sequence[Any]]:
        indexed = self.reader.search(self.table, self.search)
        if indexed is not None:
            return indexed
        columns = self.columns[:MAX_SEARCHED_COLUMNS]
        return f"({' OR '.join(map(self.reader.contains, columns))})", [self.search] * len(columns)

    def where(self, *more: str) -> str:
        """Return the WHERE of all conditions."""
        conditions = [*self.conditions, *(one for one in more if one)]
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def describe(self, kind: Literal["table", "view"]) -> TableShown:
        """Return how large the table is, and its columns."""
        size = self.reader.size(self.table)
        if self.place.user is not None:
            size = size._replace(rows=None, is_exact=False, bytes=None)  # They tell of the rows of others.
        key = self.reader.key(self.table)
        searched = self.reader.search(self.table, "word") is not None
        return TableShown(
            self.place.name,
            self.table,
            kind,
            self.place.engine,
            size.rows,
            size.is_exact,
            size.bytes,
            self.columns,
            list(key.columns) if key else None,
            self.reader.indexed(self.table),
            searched,
        )

    def count(self, limit: int = MAX_FACET_ROWS) -> tuple[int, bool]:
        """Count the rows of the conditions up to a limit; return whether these are all."""
        count = self.reader.count_at_most(self.table, limit + 1, self.where(), self.values)
        return min(count, limit), count <= limit

    def page(
        self,
        *,
        limit: int,
        cursor: str | None = None,
        sort: str | None = None,
        is_descending: bool = False,
        names: Sequence[str] = (),
    ) -> tuple[Page, str | None]:
        """Return a page and the cursor of the next; nulls of the sorted column come last."""
        chosen = [self.column(name) for name in names][:MAX_PAGE_COLUMNS] or self.columns[:MAX_PAGE_COLUMNS]
        key = self.reader.key(self.table)
        pages = _Pages(self, key, self.column(sort) if sort else None, is_descending, chosen, limit)
        rows, more = pages.read(cursor)
        return _page_of(chosen, rows, len(key.columns) if key else 0, pages.note), more

    def row(self, key: str) -> RowShown | None:
        """Return the row of a key, whole; None if it is gone."""
        found = self.reader.key(self.table)
        if found is None:
            raise PermanentError("nothing tells the rows of a view apart")
        types = self.key_types(found)
        values = _read_text(key, len(types))
        length = min(1_000_000, max(MAX_CELL_SIZE, MAX_ROW_SIZE // len(self.columns)))
        cells: list[Any] = []
        for start in range(0, len(self.columns), MAX_PAGE_COLUMNS):  # No more than a database takes at once.
            shown = ", ".join(self.reader.cut(one, length) for one in self.columns[start : start + MAX_PAGE_COLUMNS])
            parts = [
                f"{column} = {self.reader.bound(column, type)}"
                for column, type in zip(found.columns, types, strict=True)
            ]
            statement = self.reader.select(shown, self.table, self.where(*parts), 1)
            rows = self.reader.rows(statement, [*self.values, *values])
            if not rows:
                return None
            cells += rows[0]
        shown_cells = [show(cell, length) for cell in cells]
        origin = {
            column.name: cell.value
            for column, cell in zip(self.columns, shown_cells, strict=True)
            if column.name.startswith("__meta_")
        }
        cut = [index for index, cell in enumerate(shown_cells) if cell.is_cut]
        return RowShown(self.columns, [cell.value for cell in shown_cells], cut, origin)

    def facet(self, name: str, limit: int = MAX_FACET_VALUES) -> Facet:
        """Return the most frequent values of a column."""
        shown = self.reader.cut(self.column(name), MAX_CELL_SIZE)
        rows = self.count(MAX_FACET_ROWS)
        looked_at = self.reader.select(f"{shown} AS v", self.table, self.where(), MAX_FACET_ROWS)
        counted = f"SELECT v, count(*) AS n FROM ({looked_at}) AS looked_at GROUP BY v"  # noqa: S608
        statement = f"{counted} ORDER BY n DESC, v LIMIT {limit:d}"
        cells = [(show(value, MAX_CELL_SIZE), count) for value, count in self.reader.rows(statement, self.values)]
        return Facet([FacetValue(cell.value, count, cell.is_cut) for cell, count in cells], rows[0], not rows[1])

    def statistics(self, names: Sequence[str]) -> Iterator[Statistics]:
        """Yield what is in each of some columns, of the first rows."""
        for name in names:
            column = self.column(name)
            is_boolean = column.type.lower().startswith("bool")  # Of which PostgreSQL knows no least.
            shown = self.reader.text(column) if is_boolean else self.reader.cut(column, MAX_CELL_SIZE)
            looked_at = self.reader.select(f"{shown} AS v", self.table, self.where(), MAX_FACET_ROWS + 1)
            statement = f"SELECT count(*), count(v), count(DISTINCT v), min(v), max(v) FROM ({looked_at}) AS looked_at"  # noqa: S608
            [(rows, filled, distinct, low, high)] = self.reader.rows(statement, self.values)
            least, most = show(low, 200).value, show(high, 200).value
            is_sample = rows > MAX_FACET_ROWS
            yield Statistics(column.name, column.type, rows, rows - filled, distinct, least, most, is_sample)

    def key_types(self, key: Key) -> list[str]:
        """Return the type of each column of a key."""
        by_name = {self.reader.quote(column.name): column.type for column in self.columns}
        return [by_name.get(column, "") for column in key.columns]


@dataclass
class _Pages:
    """How the rows of a question are ordered, and where a page begins."""

    question: Question
    key: Key | None
    sort: Column | None
    is_descending: bool
    chosen: Sequence[Column]
    limit: int
    note: str | None = None

    def read(self, cursor: str | None) -> tuple[list[tuple[Sequence[Any], list[Any]]], str | None]:
        """Return rows with their keys, and the cursor behind them."""
        phase, carried = self._begin(cursor)
        rows: list[tuple[Sequence[Any], list[Any]]] = []
        phases = [phase, "null"] if self.sort is not None and phase == "value" else [phase]
        ends: list[str] = []
        for one in phases:  # Those with a value in the sorted column first, then those without.
            found = self._rows(one, carried, self.limit + 1 - len(rows))
            rows += found
            ends += [one] * len(found)
            carried = None
            if len(rows) > self.limit:
                break
        if len(rows) <= self.limit:
            return rows, None
        if self.key is None:
            self.note = "nothing tells the rows of this view apart: only the first are shown; filter, or use SQL"
            return rows[: self.limit], None
        last, end = rows[self.limit - 1][1], ends[self.limit - 1]
        if any(isinstance(value, str | bytes) and len(value) > MAX_CARRIED_SIZE for value in last):
            self.note = "the values of the sorted column are too long to go on behind them; sort by another, or filter"
            return rows[: self.limit], None
        return rows[: self.limit], _write([self._print(), end, *last])

    def _begin(self, cursor: str | None) -> tuple[str, list[Any] | None]:
        if cursor is None:
            return "value", None
        content = _decode(cursor)
        if len(content) < 2 or content[0] != self._print() or content[1] not in ("value", "null"):
            raise PermanentError("the cursor was given out for another question")
        return content[1], content[2:]

    def _print(self) -> bytes:
        question = self.question
        of = (question.place.name, question.table, question.filters, question.search, self.sort, self.is_descending)
        return hashlib.blake2b(repr(of).encode("utf-8", "replace"), digest_size=8).digest()

    def _rows(self, phase: str, carried: list[Any] | None, limit: int) -> list[tuple[Sequence[Any], list[Any]]]:
        question, reader = self.question, self.question.reader
        ordered, types = self._order(phase)
        shown = [reader.cut(column, MAX_CELL_SIZE) for column in self.chosen]
        keys = [f"{reader.carried(column)} AS k{index}" for index, column in enumerate(ordered)]
        more = [self._sorted(phase)]
        values = list(question.values)
        if carried is not None:
            if len(carried) != len(ordered):
                raise PermanentError("the cursor was given out for another question")
            marks = ", ".join(reader.bound(column, type) for column, type in zip(ordered, types, strict=True))
            more.append(f"({', '.join(ordered)}) {'<' if self.is_descending else '>'} ({marks})")
            values += carried
        statement = reader.select(", ".join([*shown, *keys]), question.table, question.where(*more))
        if ordered and not (
            self.key is not None and self.key.is_physical and len(ordered) == 1 and not self.is_descending
        ):
            statement += (
                f" ORDER BY {', '.join(f'{column} DESC' if self.is_descending else column for column in ordered)}"
            )
        found = reader.rows(f"{statement} LIMIT {limit:d}", values)
        width = len(self.chosen)
        return [(row[:width], list(row[width:])) for row in found]

    def _order(self, phase: str) -> tuple[list[str], list[str]]:
        key = self.key or Key([])
        columns, types = list(key.columns), self.question.key_types(key)
        if self.sort is not None and phase == "value":
            columns, types = [self.question.reader.quote(self.sort.name), *columns], [self.sort.type, *types]
        return columns, types

    def _sorted(self, phase: str) -> str:
        if self.sort is None:
            return ""
        name = self.question.reader.quote(self.sort.name)
        if not self.sort.nullable:
            return "" if phase == "value" else "1 = 0"
        return f"{name} IS {'NOT ' if phase == 'value' else ''}NULL"


def _page_of(columns: Sequence[Column], rows: Any, width: int, note: str | None) -> Page:
    shown = [[show(cell, MAX_CELL_SIZE) for cell in cells] for cells, _ in rows]
    cut = [(at, index) for at, row in enumerate(shown) for index, cell in enumerate(row) if cell.is_cut]
    keys = [_write(key[-width:]) for _, key in rows] if width else None  # Before it stands what they are sorted by.
    return Page(list(columns), [[cell.value for cell in row] for row in shown], keys, cut, note)


def _write(values: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(list(values))).rstrip(b"=").decode()


def _decode(text: str) -> list[Any]:
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values = msgspec.msgpack.decode(found, type=list[Any])
        if not all(value is None or isinstance(value, str | int | float | bytes) for value in values):
            raise ValueError(text)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise PermanentError("the cursor, or the key, is not one that this service gave out") from None
    return values


def _read_text(text: str, count: int) -> list[Any]:
    values = _decode(text)
    if len(values) != count:
        raise PermanentError("the key is not one that this service gave out")
    return values
