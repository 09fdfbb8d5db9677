"""What is kept besides the points for those who read: sums by quarters of an hour, and what there is of each metric."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, Table, case, delete, func, insert, literal, select, text

from ..rows import POINT, ROUTE
from ..schema import DAYS, DOUBTFUL, metrics, points, routes, series, workouts
from .doubt import EARLIEST, NO_TIME
from .session import Session
from .staging import NEWER, OLDER

COUNTS = "(t.counted IS NULL OR t.counted > 0)"
"""The condition that a point counts, at least in part."""
WHOLE = (
    "count(*) AS count, count(t.value) AS measured, sum(t.value) AS sum, "
    "min(coalesce(t.minimum, t.value)) AS minimum, max(coalesce(t.maximum, t.value)) AS maximum"
)
"""What a bucket says of rows of which all count: series, workouts, and points that do not overlap."""
SUMS = (
    f"count(*) FILTER (WHERE {COUNTS}) AS count, count(t.value) FILTER (WHERE {COUNTS}) AS measured, "
    f"sum(t.value * coalesce(t.counted, 1)) FILTER (WHERE {COUNTS}) AS sum, "
    f"min(coalesce(t.minimum, t.value)) FILTER (WHERE {COUNTS}) AS minimum, "
    f"max(coalesce(t.maximum, t.value)) FILTER (WHERE {COUNTS}) AS maximum"
)
"""What a bucket says of its points."""
NARROW = f"(t.period IS NULL OR t.period < {DAYS})"
"""The condition that a point is in the sums of quarters."""
_SUMMED = ("count", "measured", "sum", "minimum", "maximum", "first", "last", "reduced")


class Upkeep:
    """What is kept besides the rows of one kind of record, in the transaction that writes them."""

    def __init__(self, record: str, session: Session) -> None:
        self._record, self._session, self._postgres = record, session, session.is_postgres
        self._known = f"known_{record}"
        self._stage = f"told_{record}" if record == POINT and self._postgres else f"stage_{record}"
        if record == POINT:
            self._make_touched()

    def _make_touched(self) -> None:
        kept = " ON COMMIT DELETE ROWS" if self._postgres else ""
        moment = "timestamptz" if self._postgres else "TEXT"
        columns = f"metric text, source text, quarter {moment}"
        self._session.connection.exec_driver_sql(f"CREATE TEMP TABLE touched_quarters ({columns}){kept}")

    def _run(self, sql: str, bound: dict[str, Any]) -> None:
        self._session.connection.execute(text(sql), {name: value for name, value in bound.items() if f":{name}" in sql})

    def update_metrics(self, bound: dict[str, Any], *, changed: bool) -> None:
        """Count the rows that the stage has brought; ``changed``: some keys were there before."""
        only_new = f" JOIN {self._known} k ON k.number = s.number WHERE k.verdict IS NULL" if changed else " WHERE true"
        source = "''" if self._record == ROUTE else "s.source"
        unit = "NULL" if self._record == ROUTE else "max(s.unit)"
        period = f"CASE WHEN s.doubtful THEN {DOUBTFUL} ELSE {'coalesce(s.period, 0)' if self._is_point else '0'} END"
        groups = ["s.type", period, *([] if self._record == ROUTE else ["s.source"])]
        self._run(
            "INSERT INTO health_metrics (user_id, metric, source, record, unit, count, first, last, period, span) "  # noqa: S608
            f"SELECT :user, s.type, {source}, '{self._record}', {unit}, count(*), min(s.time), max(s.time), {period}, "
            f"{self._span()} FROM {self._stage} s{only_new} GROUP BY {', '.join(groups)} "
            "ON CONFLICT (user_id, metric, source, period) DO UPDATE SET "
            "count = health_metrics.count + excluded.count, unit = coalesce(excluded.unit, health_metrics.unit), "
            "first = CASE WHEN excluded.first < health_metrics.first THEN excluded.first "
            "ELSE health_metrics.first END, "
            "last = CASE WHEN excluded.last > health_metrics.last THEN excluded.last ELSE health_metrics.last END, "
            "span = CASE WHEN excluded.span > health_metrics.span THEN excluded.span ELSE health_metrics.span END",
            bound,
        )

    @property
    def _is_point(self) -> bool:
        return self._record == POINT

    def _span(self) -> str:
        """How many seconds the longest point lasts."""
        return span_of("s", self._postgres) if self._is_point else "0"

    def update_quarters(
        self, bound: dict[str, Any], recounted: pa.RecordBatch | None, *, in_part: bool, changed: bool
    ) -> None:
        """Sum up again the quarters in which anything changed: of the stage, and those that were counted anew.

        ``in_part``: some points may count in part.
        """
        written = (
            f" JOIN {self._known} k ON k.number = s.number WHERE k.verdict IS NULL OR k.verdict IN ({NEWER}, {OLDER})"
        )
        touched = f"SELECT s.metric, s.source, s.quarter FROM {self._stage} s{written if changed else ''}"  # noqa: S608
        if recounted is not None:
            if not self._postgres:
                self._run("DELETE FROM touched_quarters", {})
            self._session.load("touched_quarters", recounted)
            touched = f"{touched} UNION SELECT metric, source, quarter FROM touched_quarters"  # noqa: S608
        self._run(self._summed(touched, ranged=recounted is None, in_part=in_part), bound)

    def _summed(self, touched: str, *, ranged: bool, in_part: bool) -> str:
        key = "q.metric, q.quarter, q.source"
        reduced = "count(t.counted) AS reduced" if in_part else "0 AS reduced"
        sums = f"{SUMS if in_part else WHOLE}, min(t.time) AS first, max(t.time) AS last, {reduced}"
        touched = f"SELECT DISTINCT metric, source, quarter FROM ({touched}) d WHERE quarter IS NOT NULL"  # noqa: S608
        mine = "t.user_id = :user AND t.metric = q.metric"
        if self._postgres:  # By the number of the metric, whose points an index has in order.
            known = "SELECT d.*, m.id FROM ({touched}) d JOIN health_compact_metrics m ON m.user_id = :user"
            touched = f"{known.format(touched=touched)} AND m.metric = d.metric"
            mine = "t.metric_id = q.id"
        match = (
            f"{mine} AND t.source = q.source {f'AND {NARROW} ' if in_part else ''}AND t.time >= q.quarter AND t.time <"
        )
        if self._postgres:
            end = "q.quarter + interval '15 minutes'"
            if ranged:  # The partitions are known without looking into the stage.
                end += " AND t.time > :wide_low AND t.time < :wide_high"
            rows = (
                f"SELECT :user, {key}, a.* FROM ({touched}) q CROSS JOIN LATERAL "  # noqa: S608
                f"(SELECT {sums} FROM health_points t WHERE {match} {end}) a WHERE a.first IS NOT NULL"
            )
        else:
            end = "strftime('%Y-%m-%d %H:%M:%f000Z', q.quarter, '+15 minutes')"
            rows = (
                f"SELECT :user, {key}, {sums} FROM ({touched}) q CROSS JOIN health_points t "  # noqa: S608
                f"WHERE {match} {end} GROUP BY {key}"
            )
        return (
            f"INSERT INTO health_quarters (user_id, metric, time, source, {', '.join(_SUMMED)}) {rows} "
            "ON CONFLICT (user_id, metric, time, source) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in _SUMMED)
        )


def span_of(table: str, postgres: bool) -> str:
    """Return the expression for how many seconds the longest point of a group lasts."""
    start, end = f"{table}.time", f"{table}.end_time"
    if postgres:
        return f"CAST(coalesce(max(extract(epoch FROM {end} - {start})), 0) AS bigint)"
    seconds = f"CAST(strftime('%s', {end}) AS INTEGER) - CAST(strftime('%s', {start}) AS INTEGER)"
    return f"coalesce(max(CASE WHEN {end} > {start} THEN {seconds} END), 0)"


def recount(connection: Connection, user: int, latest: datetime) -> None:
    """Say anew what there is of each metric of a user. The user must be locked; a time after ``latest`` is doubtful."""
    known = select(metrics.c.metric, metrics.c.source, metrics.c.unit).where(metrics.c.user_id == user)
    units = {(metric, source): unit for metric, source, unit in connection.execute(known)}
    connection.execute(delete(metrics).where(metrics.c.user_id == user))
    ecg = series.c.metric == "ecg_voltage"
    name: ColumnElement[Any] = case((ecg, series.c.metric), else_=literal("workout_").concat(series.c.metric))
    kept: list[tuple[str, Table, ColumnElement[Any], ColumnElement[Any]]] = [
        ("point", points, points.c.metric, points.c.source),
        ("series", series, name, series.c.source),
        ("workout", workouts, literal("workouts"), workouts.c.source),
        ("route", routes, literal("workout_route"), literal("")),
    ]
    span: ColumnElement[Any] = text(span_of("health_points", connection.dialect.name == "postgresql"))  # type: ignore[assignment]
    for record, table, metric, source in kept:
        period: ColumnElement[Any] = func.coalesce(points.c.period, 0) if table is points else literal(0)
        doubtful = (table.c.time > latest) | (table.c.time < EARLIEST) | table.c.time.between(*NO_TIME)
        of = case((doubtful, DOUBTFUL), else_=period)
        sums = (func.count(), func.min(table.c.time), func.max(table.c.time), span if table is points else literal(0))
        statement = select(metric.label("m"), source.label("s"), of.label("p"), *sums).select_from(table)
        for found, whose, kind, count, first, last, longest in connection.execute(
            statement.where(table.c.user_id == user).group_by("m", "s", "p")
        ).all():
            row = {
                "user_id": user,
                "metric": found,
                "source": whose,
                "record": record,
                "unit": units.get((found, whose)),
                "period": kind,
            }
            values = {"count": int(count), "first": first, "last": last, "span": int(longest)}
            connection.execute(insert(metrics).values(**row, **values))
