"""Workouts, the series that belong to them, and their routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, literal, select, text, true, union_all

from ....platform.web.paging import Key, Question, Window
from ..schema import routes, series, workouts
from ..store.sources import took_part
from .points import every, payload, skipped

_COLUMNS = {
    "id": workouts.c.id,
    "name": workouts.c.name,
    "start": workouts.c.time,
    "end": workouts.c.end_time,
    "duration": workouts.c.value,
    "source": workouts.c.source,
    "fields": workouts.c.fields,
    "offset_minutes": workouts.c.offset_minutes,
    "warnings": workouts.c.warnings,
}


def question(user: int, window: Window, source: str | None, *, descending: bool = True) -> Question:
    """Return the workouts that start in ``window``."""
    conditions = [workouts.c.user_id == user]
    if source is not None:
        conditions.append(took_part(workouts.c.source, source))
    return Question(workouts, conditions, ("time", "id"), window, descending)


def page(
    connection: Connection, user: int, asked: Question, limit: int, after: Key | None
) -> tuple[list[dict[str, Any]], Key | None]:
    """Return a page of workouts, each with the names of its series and whether it has a route."""
    rows, following = asked.page(connection, list(_COLUMNS.values()), limit, after)
    found = payload(list(_COLUMNS), rows)
    ids = [workout["id"] for workout in found]
    names, tracked = series_of(connection, user, ids), with_route(connection, user, ids)
    for workout in found:
        workout |= {"has_route": workout["id"] in tracked, "series": names.get(workout["id"], [])}
    return found, following


def one(connection: Connection, user: int, workout: str) -> dict[str, Any] | None:
    """Return a workout with what was received of it; None if there is none."""
    columns = {**_COLUMNS, "original": workouts.c.original, "original_unit": workouts.c.original_unit}
    rows = connection.execute(
        select(*columns.values()).where(workouts.c.user_id == user, workouts.c.id == workout)
    ).all()
    if not rows:
        return None
    [found] = payload(list(columns), rows)
    route = select(routes.c.time).where(routes.c.user_id == user, routes.c.parent_id == workout).limit(1)
    found["has_route"] = connection.execute(route).first() is not None
    found["series"] = skipped(connection, series.c.metric, series.c.user_id == user, series.c.parent_id == workout)
    return found


def series_of(connection: Connection, user: int, parents: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the series of each workout: a probe of the index for each, not all of their points."""
    known = [metric.stored for metric in every(connection, user) if metric.table is series]
    if not parents or not known:
        return {}
    named = union_all(*(select(literal(name, series.c.metric.type).label("metric")) for name in known)).subquery()
    belongs = (series.c.parent_id == workouts.c.id, series.c.metric == named.c.metric)
    every_pair = select(workouts.c.id, named.c.metric).select_from(workouts.join(named, true()))
    statement = every_pair.where(
        workouts.c.user_id == user, workouts.c.id.in_(parents), has(connection, series, *belongs)
    )
    names: dict[str, list[str]] = {}
    for parent, metric in connection.execute(statement):
        names.setdefault(parent, []).append(metric)
    return {parent: sorted(metrics) for parent, metrics in names.items()}


def with_route(connection: Connection, user: int, parents: Sequence[str]) -> set[str]:
    """Return which of them have a route."""
    if not parents:
        return set()
    tracked = has(connection, routes, routes.c.parent_id == workouts.c.id)
    statement = select(workouts.c.id).where(workouts.c.user_id == user, workouts.c.id.in_(parents), tracked)
    return set(connection.scalars(statement))


def has(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition that a workout has a row of ``table``.

    In PostgreSQL one within two days of it, so that a probe is made in a partition or two, not in all; and not an
    EXISTS, which might be answered by reading all of the table.
    """
    mine = [table.c.user_id == workouts.c.user_id, *conditions]
    if connection.dialect.name == "postgresql":
        days = text("interval '2 days'")
        mine += [table.c.time >= workouts.c.time.op("-")(days), table.c.time <= workouts.c.end_time.op("+")(days)]
    probe = select(literal(1)).select_from(table).where(*mine).correlate_except(table).limit(1)
    return probe.scalar_subquery().is_not(None)


def series_question(user: int, parent: str, metric: str, window: Window, *, descending: bool = False) -> Question:
    """Return the points of a series of a workout or an ECG."""
    conditions = [series.c.user_id == user, series.c.parent_id == parent, series.c.metric == metric]
    return Question(series, conditions, ("time", "source", "ordinal"), window, descending)


def route_question(user: int, parent: str) -> Question:
    """Return the points of the route of a workout."""
    return Question(routes, [routes.c.user_id == user, routes.c.parent_id == parent], ("time", "ordinal"))
