"""What there is of a person's data: metrics, sources, and how much of each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select, union_all

from ..aggregation import aggregation
from ..export import catalogue
from ..schema import metrics as table
from ..schema import points
from ..store import rollups
from .points import Metric

_PROBED = 100
"""How many newest values are asked for in one statement."""


def described(connection: Connection, metric: Metric) -> dict[str, Any]:
    """Return the unit of a metric and how it adds up."""
    known = catalogue.METRICS.get(metric.name)
    there = None if known else rollups.extent(connection, metric.user, metric.name)
    unit = known.unit if known else there["unit"] if there else None
    return {"unit": unit or None, "aggregation": aggregation(metric.name, unit)}


def label(name: str) -> str:
    """Return what people call a metric."""
    known = catalogue.METRICS.get(name)
    return known.label if known else name.replace("_", " ").capitalize()


def metrics(connection: Connection, user: int) -> list[dict[str, Any]]:
    """Return all metrics of a user by name: what is known of each, how many points there are, and the newest value."""
    rows = rollups.overview(connection, user)
    newest = _newest(connection, user, ((row["metric"], row["last"]) for row in rows if row["record"] == "point"))
    return [
        {
            "name": row["metric"],
            "label": label(row["metric"]),
            "unit": row["unit"] or None,
            "aggregation": aggregation(row["metric"], row["unit"]),
            "count": int(row["count"]),
            "first": row["first"],
            "last": row["last"],
            "latest": newest.get(row["metric"]) or {"time": row["last"], "value": None},
        }
        for row in rows
    ]


def _newest(connection: Connection, user: int, last: Iterable[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the newest value of each metric; of several at one time, the last in the order of their keys."""
    newest: dict[str, dict[str, Any]] = {}
    pairs = list(last)
    for begin in range(0, len(pairs), _PROBED):
        probes = [_probe(user, name, time) for name, time in pairs[begin : begin + _PROBED]]
        for name, time, value in connection.execute(union_all(*probes)):
            newest[name] = {"time": time, "value": value}
    return newest


def _probe(user: int, name: str, time: datetime) -> Select[Any]:
    """Look one point up by its index: a list of pairs would be compared with every row by SQLite."""
    c = points.c
    key = (c.source, c.end_time, c.kind, c.ordinal)
    statement = select(c.metric, c.time, c.value).where(c.user_id == user, c.metric == name, c.time == time)
    return select(statement.order_by(*(column.desc() for column in key)).limit(1).subquery())


def sources(connection: Connection, user: int) -> list[dict[str, Any]]:
    """Return the sources of a user's points, the one with the most points first."""
    c = table.c
    statement = (
        select(
            c.source,
            func.sum(c.count).label("count"),
            func.count(c.metric.distinct()).label("metrics"),
            func.min(c.first).label("first"),
            func.max(c.last).label("last"),
        )
        .where(c.user_id == user, c.record != "route")
        .group_by(c.source)
    )
    rows = [{**row, "count": int(row["count"])} for row in connection.execute(statement).mappings()]
    return sorted(rows, key=lambda row: (-row["count"], row["source"]))
