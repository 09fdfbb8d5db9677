"""The points of a metric, whichever table they are in, as rows of one shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Row, Table, func, literal, select

from ....platform.web.paging import Key, Question, Window
from ..compact import of_metric
from ..export import catalogue
from ..schema import TRACKED, history, points, routes, series, workouts
from ..store import rollups
from ..store.sources import took_part

JSON_COLUMNS = frozenset({"fields", "original", "warnings", "key"})
"""Columns whose text is JSON and goes into an answer as it is."""
_KEYS = {
    points: ("time", "source", "end_time", "kind", "ordinal"),
    series: ("time", "parent_id", "source", "ordinal"),
    routes: ("time", "parent_id", "ordinal"),
    workouts: ("time", "id"),
}
_STORED_KEYS = _KEYS | {
    series: ("parent_id", "time", "source", "ordinal"),
    routes: ("parent_id", "time", "ordinal"),
}
_NAMES = {table: record for record, table in TRACKED.items()}
_RENAMED = {"parent_id": "parent", "id": "parent", "name": "kind"}
_VISIBLE = (
    *("time", "end_time", "source", "kind", "name", "parent_id", "id", "value", "minimum", "maximum", "unit"),
    *("latitude", "longitude", "altitude", "fields", "original", "original_unit", "offset_minutes", "warnings"),
    *("period", "counted"),
)
_SELDOM = ("period", "counted")
_NOTHING: dict[str, Any] = dict.fromkeys(name for name in _VISIBLE if name in points.c and name not in _SELDOM)
"""A point of which nothing is known."""


class Metric(NamedTuple):
    """A metric of a user: the table where its points are, and the conditions that say which."""

    user: int
    name: str
    table: Table
    stored: str | None
    """What the table calls it; None where all the table is one metric."""

    @property
    def record(self) -> str:
        """The kind of record: point, series, route or workout."""
        return _NAMES[self.table]

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """Its rows of the user."""
        if self.table is points and self.stored is not None:
            return [of_metric(self.user, self.stored)]
        mine = [self.table.c.user_id == self.user]
        return mine if self.stored is None else [*mine, self.table.c.metric == self.stored]

    def question(self, window: Window, source: str | None = None, *, descending: bool = False) -> Question:
        """Return its rows in the order of time."""
        return Question(self.table, self._from(source), _KEYS[self.table], window, descending)

    def stored_question(self, window: Window, source: str | None = None) -> Question:
        """Return its rows in the order in which the table has them: by parent first, where there is one."""
        return Question(self.table, self._from(source), _STORED_KEYS[self.table], window)

    def _from(self, source: str | None) -> list[ColumnElement[bool]]:
        conditions = self.conditions
        if source is not None:
            conditions.append(took_part(self.table.c.source, source) if "source" in self.table.c else literal(False))
        return conditions


def find(connection: Connection, user: int, name: str) -> Metric | None:
    """Return the metric of this name if the user has any row of it.

    The names of all are those that an ingest counts by: ``step_count``, ``ecg_voltage``, ``workout_heart_rate``,
    ``workouts``, ``workout_route``. Other spellings that an ingest takes are taken here too.
    """
    for spelling in dict.fromkeys((name, catalogue.canonical(name))):
        there = rollups.extent(connection, user, spelling)
        if there is not None:
            return _metric(user, spelling, there["record"])
    return None


def every(connection: Connection, user: int) -> list[Metric]:
    """Return all metrics of the user, by name."""
    return [_metric(user, row["metric"], row["record"]) for row in rollups.overview(connection, user)]


def _metric(user: int, name: str, record: str) -> Metric:
    stored = {"point": name, "series": name.removeprefix("workout_")}.get(record)
    return Metric(user, name, TRACKED[record], stored)


def skipped(connection: Connection, column: Column[Any], *conditions: ColumnElement[bool]) -> list[Any]:
    """Return the distinct values of ``column``, which an index has right behind what ``conditions`` fix.

    One probe of the index for each value, instead of all of its rows.
    """
    first = select(func.min(column).label("value")).where(*conditions).cte("skipped", recursive=True)
    following = select(func.min(column)).where(*conditions, column > first.c.value).scalar_subquery()
    every = first.union_all(select(following).where(first.c.value.is_not(None)))
    return list(connection.scalars(select(every.c.value).where(every.c.value.is_not(None))))


def select_columns(table: Table, *more: str) -> dict[str, Column[Any]]:
    """Return the columns of ``table`` that a reader sees, by the names that a reader sees."""
    wanted = (*_VISIBLE, *more)
    return {_RENAMED.get(name, name): table.c[name] for name in wanted if name in table.c}


def payload(names: Sequence[str], rows: Iterable[Row[Any]]) -> list[dict[str, Any]]:
    """Return rows as objects. What is JSON already goes in as it is, and nothing of it is changed."""
    raw = [index for index, name in enumerate(names) if name in JSON_COLUMNS]
    answer = []
    for row in rows:
        values = list(row)
        for index in raw:
            if values[index] is not None:
                values[index] = msgspec.Raw(values[index])
        answer.append(dict(zip(names, values, strict=False)))
    return answer


def page(
    connection: Connection, question: Question, limit: int, after: Key | None
) -> tuple[list[dict[str, Any]], Key | None]:
    """Return a page of points, and the key to go on after."""
    columns = select_columns(question.table)
    rows, following = question.page(connection, list(columns.values()), limit, after)
    return alike(payload(list(columns), rows)), following


def alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of any table with all that a point has; what they have not is null.

    ``period`` and ``counted`` are there only of buckets, and of points that do not count as a whole.
    """
    for row in rows:
        for name in _SELDOM:
            if name in row and row[name] is None:
                del row[name]
    return [_NOTHING | row for row in rows] if rows and len(rows[0].keys() & _NOTHING.keys()) < len(_NOTHING) else rows


def replaced(metric: Metric, window: Window, *, descending: bool = True) -> Question:
    """Return the values of a metric that later ones have replaced."""
    conditions = [history.c.user_id == metric.user, history.c.record == metric.record]
    if metric.stored is not None:
        conditions.append(history.c.metric == metric.stored)
    return Question(history, conditions, ("time", "id"), window, descending)


REPLACED: Mapping[str, Column[Any]] = {
    "time": history.c.time,
    "record": history.c.record,
    "key": history.c.key,
    "value": history.c.value,
    "unit": history.c.unit,
    "original": history.c.original,
    "original_unit": history.c.original_unit,
    "ingest": history.c.ingest_id,
    "replaced_by": history.c.replaced_by,
    "replaced_at": history.c.replaced_at,
}
"""What is shown of a replaced value."""
