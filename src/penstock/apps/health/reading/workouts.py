"""Workouts, the series that belong to them, and their routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, literal, select

from ..schema import routes, series, workouts
from .keyset import Key, Question, Window
from .points import payload

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
        conditions.append(workouts.c.source == source)
    return Question(workouts, conditions, ("time", "id"), window, descending)


def page(
    connection: Connection, user: int, asked: Question, limit: int, after: Key | None
) -> tuple[list[dict[str, Any]], Key | None]:
    """Return a page of workouts, each with the names of its series and whether it has a route."""
    rows, following = asked.page(connection, list(_COLUMNS.values()), limit, after)
    found = payload(list(_COLUMNS), rows)
    _adorn(connection, user, found)
    return found, following


def one(connection: Connection, user: int, workout: str) -> dict[str, Any] | None:
    """Return a workout with what was received of it; None if there is none."""
    columns = {**_COLUMNS, "original": workouts.c.original, "original_unit": workouts.c.original_unit}
    rows = connection.execute(
        select(*columns.values()).where(workouts.c.user_id == user, workouts.c.id == workout)
    ).all()
    found = payload(list(columns), rows)
    _adorn(connection, user, found)
    return found[0] if found else None


def _adorn(connection: Connection, user: int, found: Sequence[dict[str, Any]]) -> None:
    ids = [workout["id"] for workout in found]
    names = series_of(connection, user, ids)
    tracked = with_route(connection, user, ids)
    for workout in found:
        workout["has_route"] = workout["id"] in tracked
        workout["series"] = names.get(workout["id"], [])


def series_of(connection: Connection, user: int, parents: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the series of each parent: one probe of the index for each, not all of their points."""
    if not parents:
        return {}
    outer = select(workouts.c.id).where(workouts.c.user_id == user, workouts.c.id.in_(parents)).subquery()
    of = (series.c.user_id == user,)
    first = select(func.min(series.c.metric)).where(*of, series.c.parent_id == outer.c.id).scalar_subquery()
    found = select(outer.c.id.label("parent"), first.label("metric")).cte("found", recursive=True)
    following = (
        select(func.min(series.c.metric))
        .where(*of, series.c.parent_id == found.c.parent, series.c.metric > found.c.metric)
        .scalar_subquery()
    )
    every = found.union_all(select(found.c.parent, following).where(found.c.metric.is_not(None)))
    names: dict[str, list[str]] = {}
    for parent, metric in connection.execute(select(every).where(every.c.metric.is_not(None))):
        names.setdefault(parent, []).append(metric)
    return {parent: sorted(metrics) for parent, metrics in names.items()}


def with_route(connection: Connection, user: int, parents: Sequence[str]) -> set[str]:
    """Return which of them have a route."""
    if not parents:
        return set()
    has = (
        select(literal(1))
        .select_from(routes)
        .where(routes.c.user_id == user, routes.c.parent_id == workouts.c.id)
        .exists()
    )
    statement = select(workouts.c.id).where(workouts.c.user_id == user, workouts.c.id.in_(parents), has)
    return set(connection.scalars(statement))


def series_question(user: int, parent: str, metric: str, window: Window, *, descending: bool = False) -> Question:
    """Return the points of a series of a workout or an ECG."""
    conditions = [series.c.user_id == user, series.c.parent_id == parent, series.c.metric == metric]
    return Question(series, conditions, ("time", "source", "ordinal"), window, descending)


def route_question(user: int, parent: str) -> Question:
    """Return the points of the route of a workout."""
    return Question(routes, [routes.c.user_id == user, routes.c.parent_id == parent], ("time", "ordinal"))
