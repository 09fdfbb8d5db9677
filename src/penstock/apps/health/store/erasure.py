"""Erasing points of a time, or all data of a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Delete, Select, and_, delete, func, literal_column, select, tuple_

from .. import compact
from ..reading.points import Metric
from ..schema import history, ingests, metadata, of_user, parts, points
from .doubt import AHEAD
from .recounting import recount_metric
from .session import lock, take_time
from .sources import took_part
from .upkeep import recount


def erase_points(
    connection: Connection, metric: Metric, low: datetime, high: datetime, source: str | None, kind: str | None
) -> int:
    """Delete what a metric has from ``low`` on and before ``high``, with its history; return how much it was.

    Of a single moment, ``source`` is the whole list of sources, else one that took part. What is deleted comes back if
    it is sent again.
    """
    take_time(connection)
    lock(connection, [metric.user])
    table = metric.table
    chosen = [*metric.conditions, table.c.time >= low, table.c.time < high]
    past = [history.c.user_id == metric.user, history.c.record == metric.record]
    past += [history.c.time >= low, history.c.time < high]
    if metric.stored is not None:
        past.append(history.c.metric == metric.stored)
    if source is not None and "source" in table.c:
        is_point = high - low <= timedelta(microseconds=1)
        chosen.append(table.c.source == source if is_point else took_part(table.c.source, source))
    if kind is not None and "kind" in table.c:
        chosen.append(table.c.kind == kind)
    first, last = connection.execute(select(func.min(table.c.time), func.max(table.c.time)).where(*chosen)).one()
    if first is None:
        return 0
    if table is points and connection.dialect.name == "postgresql":
        gone = connection.execute(_deletion(metric, low, high, *chosen[len(metric.conditions) :])).rowcount
        compact.forget_unused(connection, metric.user)
    else:
        gone = connection.execute(delete(table).where(and_(*chosen))).rowcount
    if source is None and kind is None:
        connection.execute(delete(history).where(*past))
    recount(connection, metric.user, datetime.now(UTC) + AHEAD)
    if metric.record == "point":
        recount_metric(connection, metric.user, metric.stored or metric.name, first, last)
    return gone


def _deletion(metric: Metric, low: datetime, high: datetime, *chosen: ColumnElement[bool]) -> Delete:
    """Delete points where PostgreSQL keeps them: by the numbers of those that the view has."""
    c = compact.points.c
    keys: list[ColumnElement[Any]] = [literal_column(name) for name in compact.KEY]
    found: Select[Any] = select(*keys).select_from(points).where(*metric.conditions, *chosen)
    within = (c.time >= low, c.time < high, compact.of_user(metric.user))
    return delete(compact.points).where(*within, tuple_(*(c[name] for name in compact.KEY)).in_(found))


def erase_user(connection: Connection, user: int) -> dict[str, int]:
    """Delete all rows of a person; return how many of which tables. Their keys are the platform's, and stay."""
    take_time(connection)
    lock(connection, [user])
    mine = select(ingests.c.id).where(ingests.c.user_id == user)
    counted = {parts.name: connection.execute(delete(parts).where(parts.c.ingest_id.in_(mine))).rowcount}
    postgres = connection.dialect.name == "postgresql"
    for told in reversed(metadata.sorted_tables):
        table = compact.points if told is points and postgres else told
        if "user_id" in told.c:
            counted[told.name] = connection.execute(delete(table).where(of_user(table, user))).rowcount
    compact.forget_unused(connection, user)
    return {name: count for name, count in counted.items() if count}
