"""What is kept besides the points for those who read: sums by quarters of an hour, and what there is of each metric."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, case, delete, func, insert, literal, select, text

from ..schema import metrics, quarters, routes, series, workouts
from .staging import NEWER

SUMS = (
    "count(*) AS count, count(t.value) AS measured, sum(t.value) AS sum, "
    "min(coalesce(t.minimum, t.value)) AS minimum, max(coalesce(t.maximum, t.value)) AS maximum"
)
"""What a bucket says of its points."""


class Upkeep:
    """What is kept besides the rows of one kind of record, in the transaction that writes them."""

    def __init__(self, record: str, postgres: bool) -> None:
        self._record, self._postgres = record, postgres
        self._stage, self._known = f"stage_{record}", f"known_{record}"

    def update(self, connection: Connection, bound: dict[str, Any], *, changed: bool) -> None:
        """Bring them up to date with the rows that the stage has brought; ``changed``: some keys were there before."""
        statements = [self._metrics(changed)]
        if self._record == "point":
            statements.append(self._quarters(changed))
        for sql in statements:
            connection.execute(text(sql), {name: value for name, value in bound.items() if f":{name}" in sql})

    def _metrics(self, changed: bool) -> str:
        only_new = f" JOIN {self._known} k ON k.number = s.number WHERE k.verdict IS NULL" if changed else " WHERE true"
        source = "''" if self._record == "route" else "s.source"
        unit = "NULL" if self._record == "route" else "max(s.unit)"
        return (
            "INSERT INTO health_metrics (user_id, metric, source, record, unit, count, first, last) "  # noqa: S608
            f"SELECT :user, s.type, {source}, '{self._record}', {unit}, count(*), min(s.time), max(s.time) "
            f"FROM {self._stage} s{only_new} GROUP BY s.type{', s.source' if self._record != 'route' else ''} "
            "ON CONFLICT (user_id, metric, source) DO UPDATE SET "
            "count = health_metrics.count + excluded.count, unit = coalesce(excluded.unit, health_metrics.unit), "
            "first = CASE WHEN excluded.first < health_metrics.first THEN excluded.first "
            "ELSE health_metrics.first END, "
            "last = CASE WHEN excluded.last > health_metrics.last THEN excluded.last ELSE health_metrics.last END"
        )

    def _quarters(self, changed: bool) -> str:
        """Sum up again the quarters in which anything changed."""
        written = f" JOIN {self._known} k ON k.number = s.number WHERE k.verdict IS NULL OR k.verdict = {NEWER}"
        touched = f"SELECT DISTINCT s.metric, s.source, s.quarter FROM {self._stage} s{written if changed else ''}"  # noqa: S608
        key = "q.metric, q.quarter, q.source"
        sums = f"{SUMS}, min(t.time) AS first, max(t.time) AS last"
        match = "t.user_id = :user AND t.metric = q.metric AND t.source = q.source AND t.time >= q.quarter AND t.time <"
        if self._postgres:
            end = "q.quarter + interval '15 minutes' AND t.time > :wide_low AND t.time < :wide_high"
            rows = (
                f"SELECT :user, {key}, a.* FROM ({touched}) q CROSS JOIN LATERAL "  # noqa: S608
                f"(SELECT {sums} FROM health_points t WHERE {match} {end}) a WHERE true"
            )
        else:
            end = "strftime('%Y-%m-%d %H:%M:%f000Z', q.quarter, '+15 minutes')"
            rows = (
                f"SELECT :user, {key}, {sums} FROM ({touched}) q CROSS JOIN health_points t "  # noqa: S608
                f"WHERE {match} {end} GROUP BY {key}"
            )
        summed = ("count", "measured", "sum", "minimum", "maximum", "first", "last")
        return (
            f"INSERT INTO health_quarters (user_id, metric, time, source, {', '.join(summed)}) {rows} "
            "ON CONFLICT (user_id, metric, time, source) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in summed)
        )


def recount(connection: Connection, user: int) -> None:
    """Say anew what there is of each metric of a user, after points were dropped. The user must be locked."""
    known = select(metrics.c.metric, metrics.c.source, metrics.c.unit).where(metrics.c.user_id == user)
    units = {(metric, source): unit for metric, source, unit in connection.execute(known)}
    connection.execute(delete(metrics).where(metrics.c.user_id == user))
    ecg = series.c.metric == "ecg_voltage"
    name: ColumnElement[Any] = case((ecg, series.c.metric), else_=literal("workout_").concat(series.c.metric))
    kept: list[tuple[str, Table, ColumnElement[Any], ColumnElement[Any]]] = [
        ("point", quarters, quarters.c.metric, quarters.c.source),
        ("series", series, name, series.c.source),
        ("workout", workouts, literal("workouts"), workouts.c.source),
        ("route", routes, literal("workout_route"), literal("")),
    ]
    for record, table, metric, source in kept:
        sums: list[Any] = [func.count(), func.min(table.c.time), func.max(table.c.time)]
        if table is quarters:
            sums = [func.sum(quarters.c.count), func.min(quarters.c.first), func.max(quarters.c.last)]
        named = select(metric.label("metric"), source.label("source"), *(s.label(f"s{n}") for n, s in enumerate(sums)))
        grouped = named.where(table.c.user_id == user).group_by("metric", "source")
        for found, whose, count, first, last in connection.execute(grouped).all():
            row = {
                "user_id": user,
                "metric": found,
                "source": whose,
                "record": record,
                "unit": units.get((found, whose)),
            }
            connection.execute(insert(metrics).values(**row, count=int(count), first=first, last=last))
