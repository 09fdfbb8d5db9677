"""Rows of one table in the order of their key, page by page: what is inserted meanwhile repeats and hides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Table, literal, select, tuple_

Key = tuple[Any, ...]


class Window(NamedTuple):
    """A time from ``since`` on and before ``before``; open where one is None."""

    since: datetime | None = None
    before: datetime | None = None

    def of(self, column: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
        """Return the conditions that ``column`` is in it."""
        lower = [column >= self.since] if self.since is not None else []
        return [*lower, column < self.before] if self.before is not None else lower


@dataclass(frozen=True)
class Question:
    """Which rows of a table, in which order."""

    table: Table
    conditions: Sequence[ColumnElement[bool]]
    key: Sequence[str]
    """The columns by which they are ordered; with what ``conditions`` fix, they are unique."""
    window: Window = field(default_factory=Window)
    descending: bool = False

    @property
    def ordered(self) -> list[Column[Any]]:
        """Return the columns of the key."""
        return [self.table.c[name] for name in self.key]

    def statement(
        self, columns: Sequence[ColumnElement[Any]], limit: int, after: Key | None, *, with_key: bool = True
    ) -> Select[Any]:
        """Select ``columns`` and, behind them, the key of the rows that follow ``after``."""
        ordered = self.ordered
        key = [column.label(f"key_{column.name}") for column in ordered] if with_key else []
        statement = select(*columns, *key).where(*self.conditions)
        if "time" in self.table.c:
            statement = statement.where(*self.window.of(self.table.c.time))
        if after is not None:
            here = tuple_(*ordered)
            there = tuple_(*(literal(value, column.type) for value, column in zip(after, ordered, strict=True)))
            statement = statement.where(here < there if self.descending else here > there)
            # Said once more of the first column alone, so that partitions are left out by it.
            first = ordered[0]
            statement = statement.where(first <= after[0] if self.descending else first >= after[0])
        statement = statement.order_by(*(column.desc() if self.descending else column.asc() for column in ordered))
        return statement.limit(limit)

    def page(
        self, connection: Connection, columns: Sequence[ColumnElement[Any]], limit: int, after: Key | None
    ) -> tuple[Sequence[Row[Any]], Key | None]:
        """Return at most ``limit`` rows after ``after``, and the key to go on after; None at the end.

        The last columns of a row are its key.
        """
        rows = connection.execute(self.statement(columns, limit + 1, after)).all()
        if len(rows) <= limit:
            return rows, None
        return rows[:limit], tuple(rows[limit - 1][-len(self.key) :])
