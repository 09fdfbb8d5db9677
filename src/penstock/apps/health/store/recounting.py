"""Counting anew what is stored: after points were deleted, a priority was changed, or the schema has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, bindparam, exists, func, select, text, update

from ....platform.database import Database
from .. import nights
from ..aggregation import is_counted
from ..export import periods
from ..schema import UNCOUNTED, ingests, metrics, points
from .counting import Counting, is_contested, reach
from .doubt import AHEAD
from .session import lock, moment, take_time
from .upkeep import NARROW, SUMS, recount

_STEP = timedelta(days=31)
"""How much of a metric is read at once."""
_QUARTER_OF = {
    True: "date_bin('15 minutes', t.time, '1970-01-01 00:00:00+00')",
    False: "substr(t.time, 1, 14) || printf('%02d', substr(t.time, 15, 2) / 15 * 15) || '\\:00.000000Z'",
}
"""When the quarter of an hour begins in which a point is: in PostgreSQL, and in SQLite, where times are texts."""
_NO_OFFSET = 0


def recount_metric(
    connection: Connection, user: int, metric: str, low: datetime | None = None, high: datetime | None = None
) -> None:
    """Count the points of a metric anew, all or those of a time. The user must be locked."""
    counting = Counting(connection)
    classes = counting.classes(user, [metric]).get(metric, [])
    contested = is_counted(metric) and is_contested(metric, classes)
    for since, before in _steps(connection, user, metric, low, high):
        margin = 2 * reach(metric, classes) if contested else timedelta(0)
        if is_counted(metric):
            counting.resolve(user, metric, since, before, classes, void=True)
        _sum_up(connection, user, metric, _quarter(since - margin), _quarter(before + margin) + timedelta(minutes=15))


def _steps(
    connection: Connection, user: int, metric: str, low: datetime | None, high: datetime | None
) -> Iterator[tuple[datetime, datetime]]:
    """Yield times that cover all points, those without any left out."""
    c = points.c
    of = [c.user_id == user, c.metric == metric, *([c.time <= high] if high is not None else [])]
    since = low
    while True:
        there = [*of, c.time >= since] if since is not None else of
        first = connection.scalar(select(func.min(c.time)).where(*there))
        if first is None:
            if low is not None and since is low and high is not None:
                yield low, high  # What is around what is gone.
            return
        try:
            until = first + _STEP
        except OverflowError:
            yield first, first
            return
        yield since if since is not None and since is low else first, until if high is None else min(until, high)
        since = until + timedelta(microseconds=1)


def _quarter(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)


def _sum_up(connection: Connection, user: int, metric: str, low: datetime, high: datetime) -> None:
    """Make the sums of the quarters of a time anew."""
    postgres = connection.dialect.name == "postgresql"
    bound: dict[str, Any] = {"user": user, "metric": metric}
    bound |= {"low": moment(low, postgres=postgres), "high": moment(high, postgres=postgres)}
    quarter = _QUARTER_OF[postgres]
    stretch = "t.user_id = :user AND t.metric = :metric AND t.time >= :low AND t.time < :high"
    connection.execute(text(f"DELETE FROM health_quarters AS t WHERE {stretch}"), bound)  # noqa: S608
    made = (
        "INSERT INTO health_quarters (user_id, metric, time, source, count, measured, sum, minimum, maximum, first, "  # noqa: S608
        f"last, reduced) SELECT :user, t.metric, {quarter}, t.source, {SUMS}, min(t.time), max(t.time), "
        f"count(*) FILTER (WHERE t.counted IS NOT NULL) FROM health_points t WHERE {stretch} AND {NARROW} "
        f"GROUP BY t.metric, t.source, {quarter}"
    )
    connection.execute(text(made), bound)


def recount_user(connection: Connection, user: int) -> None:
    """Count all points of a user anew."""
    take_time(connection)
    lock(connection, [user])
    recount(connection, user, datetime.now(UTC) + AHEAD)
    m = metrics.c
    for name in connection.scalars(select(m.metric).where(m.user_id == user, m.record == "point").distinct()).all():
        recount_metric(connection, user, name)


def count_older(database: Database) -> None:
    """Find out the periods of points that an older version stored, and count them: each user in one transaction."""
    older = select(metrics.c.user_id).where(metrics.c.period == UNCOUNTED).distinct()
    for user in database.call(lambda connection: list(connection.scalars(older))):
        database.call(partial(_count_older, user=user), changes=True)


def _count_older(connection: Connection, user: int) -> None:
    take_time(connection)
    lock(connection, [user])
    m = metrics.c
    own = (m.user_id == user, m.record == "point", m.period == UNCOUNTED)
    stated = _stated(connection, user)
    for name in connection.scalars(select(m.metric).where(*own).distinct()).all():
        if is_counted(name) and name != nights.METRIC:
            for low, high in _steps(connection, user, name, None, None):
                _find_periods(connection, user, name, low, high, stated)
    recount_user(connection, user)


def _stated(connection: Connection, user: int) -> dict[str, int | None]:
    """Return which period each ingest said that its points have."""
    rows = connection.execute(select(ingests.c.id, ingests.c.headers).where(ingests.c.user_id == user))
    return {ingest: periods.stated(msgspec.json.decode(headers) if headers else {}) for ingest, headers in rows}


def _find_periods(
    connection: Connection, user: int, metric: str, low: datetime, high: datetime, stated: dict[str, int | None]
) -> None:
    """Give the buckets of a time their periods and ends; those of one ingest were one list."""
    c = points.c
    names = (c.time, c.source, c.kind, c.ordinal, c.offset_minutes, c.ingest_id)
    found = connection.execute(
        select(*names).where(
            c.user_id == user, c.metric == metric, c.time >= low, c.time <= high, c.end_time == c.time, c.kind == ""
        )
    )
    lists: dict[str, list[Any]] = defaultdict(list)
    for row in found:
        lists[row.ingest_id].append(row)
    changes: list[dict[str, Any]] = []
    for ingest, rows in lists.items():
        changes += _periods_of(rows, stated.get(ingest))
    postgres = connection.dialect.name == "postgresql"
    for statement in _CHANGE_COMPACT if changes and postgres else [_CHANGE] if changes else []:
        connection.execute(statement, [{"user": user, "of": metric} | change for change in changes])


def _periods_of(rows: Sequence[Any], period: int | None) -> list[dict[str, Any]]:
    starts = np.array([(row.time - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) for row in rows])
    offsets = np.array([row.offset_minutes or _NO_OFFSET for row in rows], np.int64)
    period = periods.infer(starts, offsets) if period is None else period
    if not period:
        return []
    ends = periods.ends(starts, offsets, period)
    return [
        {"at": row.time, "from_source": row.source, "of_kind": row.kind, "number": row.ordinal, "length": period}
        | {"until": datetime.fromtimestamp(0, UTC) + timedelta(microseconds=end)}
        for row, end in zip(rows, ends.tolist(), strict=True)
    ]


_other = points.alias("other")
_CHANGE = (
    update(points)
    .where(
        points.c.user_id == bindparam("user"),
        points.c.metric == bindparam("of"),
        points.c.time == bindparam("at"),
        points.c.source == bindparam("from_source"),
        points.c.end_time == bindparam("at"),
        points.c.kind == bindparam("of_kind"),
        points.c.ordinal == bindparam("number"),
        ~exists().where(
            _other.c.user_id == bindparam("user"),
            _other.c.metric == bindparam("of"),
            _other.c.time == bindparam("at"),
            _other.c.source == bindparam("from_source"),
            _other.c.end_time == bindparam("until"),
            _other.c.kind == bindparam("of_kind"),
            _other.c.ordinal == bindparam("number"),
        ),
    )
    .values(end_time=bindparam("until"), period=bindparam("length"))
)
"""Make a point a bucket; one that is there already stays."""
_SPAN = "CAST(extract(epoch FROM CAST(:until AS timestamptz) - :at) * 1000000 AS bigint)"
_CHANGE_COMPACT = (
    text(
        "INSERT INTO health_compact_identities (metric_id, source, kind, span, ordinal) "  # noqa: S608
        f"SELECT m.id, :from_source, :of_kind, {_SPAN}, :number FROM health_compact_metrics m "
        "WHERE m.user_id = :user AND m.metric = :of ON CONFLICT DO NOTHING"
    ),
    text(
        "UPDATE health_compact_points p SET identity_id = after.id, period = :length FROM health_compact_metrics m, "  # noqa: S608
        "health_compact_identities before, health_compact_identities after "
        "WHERE m.user_id = :user AND m.metric = :of AND before.metric_id = m.id AND after.metric_id = m.id "
        "AND before.source = :from_source AND before.kind = :of_kind AND before.ordinal = :number AND before.span = 0 "
        "AND after.source = :from_source AND after.kind = :of_kind AND after.ordinal = :number "
        f"AND after.span = {_SPAN} AND p.metric_id = m.id AND p.time = :at AND p.identity_id = before.id "
        "AND NOT EXISTS (SELECT 1 FROM health_compact_points other WHERE other.metric_id = m.id "
        "AND other.time = :at AND other.identity_id = after.id)"
    ),
)
"""The same where PostgreSQL keeps it."""
