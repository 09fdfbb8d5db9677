"""Erasing points of a time, or all data of a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, and_, delete, func, select

from ..reading.points import Metric
from ..schema import history, ingests, metadata, parts
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
    gone = connection.execute(delete(table).where(and_(*chosen))).rowcount
    if source is None and kind is None:
        connection.execute(delete(history).where(*past))
    recount(connection, metric.user, datetime.now(UTC) + AHEAD)
    if metric.record == "point":
        recount_metric(connection, metric.user, metric.stored or metric.name, first, last)
    return gone


def erase_user(connection: Connection, user: int) -> dict[str, int]:
    """Delete all rows of a person; return how many of which tables. Their keys are the platform's, and stay."""
    take_time(connection)
    lock(connection, [user])
    mine = select(ingests.c.id).where(ingests.c.user_id == user)
    counted = {parts.name: connection.execute(delete(parts).where(parts.c.ingest_id.in_(mine))).rowcount}
    for table in reversed(metadata.sorted_tables):
        if "user_id" in table.c:
            counted[table.name] = connection.execute(delete(table).where(table.c.user_id == user)).rowcount
    return {name: count for name, count in counted.items() if count}
