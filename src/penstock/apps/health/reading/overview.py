"""What there is of a person's data: metrics, sources, and how much of each."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from ..aggregation import aggregation
from ..export import catalogue
from ..schema import metrics as table
from ..store import rollups
from .newest import newest
from .points import Metric


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
    """Return all metrics of a user by name: what is known of each, how many points there are, and the newest value.

    Of a metric that adds up, the newest value is the total of the last day.
    """
    rows = rollups.overview(connection, user)
    last = newest(connection, user, rows)
    return [
        {
            "name": row["metric"],
            "label": label(row["metric"]),
            "unit": row["unit"] or None,
            "aggregation": aggregation(row["metric"], row["unit"]),
            "count": int(row["count"]),
            "first": row["first"],
            "last": row["last"],
            "latest": last.get(row["metric"]) or {"time": row["last"], "value": None},
        }
        for row in rows
    ]


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
