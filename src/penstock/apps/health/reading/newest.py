"""The newest value of each metric: of what adds up the total of the last day, of all else the last value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, Float, RowMapping, Select, case, func, literal, select, union_all

from .. import nights
from ..aggregation import adds_up
from ..compact import of_metric
from ..priority import load
from ..schema import DAYS, points, quarters
from ..store import rollups

_PROBED = 100
"""How many newest values are asked for in one statement."""
_DAY = timedelta(days=1)


def newest(connection: Connection, user: int, known: Sequence[RowMapping]) -> dict[str, dict[str, Any]]:
    """Return by metric the time of the newest point and the newest value; ``known`` is the overview of metrics."""
    of_points = [row for row in known if row["record"] == "point"]
    found = _last_values(connection, user, ((row["metric"], row["last"]) for row in of_points))
    days = {
        row["metric"]: _day(found[row["metric"]])
        for row in of_points
        if row["metric"] in found and adds_up(row["metric"], row["unit"]) and row["metric"] != nights.METRIC
    }
    totals = _totals(connection, user, days)
    for row in of_points:
        if row["metric"] in days and row["period"] >= DAYS:
            totals[row["metric"]] = _with_days(connection, user, row["metric"], *days[row["metric"]])
    for name, one in found.items():
        one.pop("offset")
        if name in days:
            one["value"] = totals.get(name, one["value"])
        elif name == nights.METRIC:
            one["value"] = _slept(connection, user, one["time"]) or one["value"]
    return found


def day_total(connection: Connection, user: int, metric: str) -> float | None:
    """Return the total of the last day of a metric that adds up; None of another."""
    there = rollups.extent(connection, user, metric)
    if there is None or there["record"] != "point" or not adds_up(metric, there["unit"]):
        return None
    row: Any = {**there, "metric": metric}
    found = newest(connection, user, [row]).get(metric)
    return found["value"] if found is not None else None


def _last_values(connection: Connection, user: int, last: Iterable[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the newest value of each metric; of several at one time, one that counts, the last by their keys."""
    found: dict[str, dict[str, Any]] = {}
    pairs = list(last)
    for begin in range(0, len(pairs), _PROBED):
        probes = [_probe(user, name, time) for name, time in pairs[begin : begin + _PROBED]]
        for name, time, value, offset in connection.execute(union_all(*probes)):
            found[name] = {"time": time, "value": value, "offset": offset}
    return found


def _probe(user: int, name: str, time: datetime) -> Select[Any]:
    """Look one point up by its index: a list of pairs would be compared with every row by SQLite."""
    c = points.c
    key = [column.desc() for column in (c.source, c.end_time, c.kind, c.ordinal)]
    counts = case((c.counted == 0, 1), else_=0)
    statement = select(c.metric, c.time, c.value, c.offset_minutes)
    statement = statement.where(of_metric(user, name), c.time == time)
    return select(statement.order_by(counts, *key).limit(1).subquery())


def _day(last: dict[str, Any]) -> tuple[datetime, datetime]:
    """Return when the local day of a point begins and ends."""
    time = last["time"]
    try:
        local = time.astimezone(timezone(timedelta(minutes=last["offset"] or 0)))
        begin = local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
        return begin, begin + _DAY
    except OverflowError:
        return time, time


def _totals(connection: Connection, user: int, days: dict[str, tuple[datetime, datetime]]) -> dict[str, float | None]:
    c = quarters.c
    found: dict[str, float | None] = {}
    pairs = list(days.items())
    for begin in range(0, len(pairs), _PROBED):
        asked = [
            select(literal(name).label("metric"), func.sum(c.sum, type_=Float).label("total")).where(
                c.user_id == user, c.metric == name, c.time >= low, c.time < high
            )
            for name, (low, high) in pairs[begin : begin + _PROBED]
        ]
        found |= {name: total for name, total in connection.execute(union_all(*asked)) if total is not None}
    return found


def _with_days(connection: Connection, user: int, metric: str, low: datetime, high: datetime) -> float | None:
    """Return the total of a day with what was summed up by days and longer."""
    sums = [one.sum for one in rollups.aggregate(connection, user, metric, "day", "UTC", low, high)]
    given = [each for each in sums if each is not None]
    return sum(given) if given else None


def _slept(connection: Connection, user: int, last: datetime) -> float | None:
    """Return the minutes of the last night."""
    first = (last - 2 * _DAY).date()
    found = nights.nights(
        connection, user, first, (last + 3 * _DAY).date(), None, load(connection, user, nights.METRIC)
    )
    minutes: float | None = found[-1]["totals"]["asleep"] if found else None
    return minutes
