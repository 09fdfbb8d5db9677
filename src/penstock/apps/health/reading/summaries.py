"""What the points of a domain amount to: counts, extremes and sums of its metrics, and facts of the domain alone."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Float,
    Select,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    type_coerce,
)

from ....platform.web.paging import Window
from .. import nights
from ..aggregation import aggregation
from ..schema import DAYS, points, quarters
from ..schema import metrics as known
from ..store import rollups
from ..store.sources import took_part
from .domains import WORKOUTS, Asked


def summary(connection: Connection, asked: Asked, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return of each metric how many points there are, when, and between which values; sums where it adds up.

    Whole quarters of an hour are read from their sums, and points only where the window begins and ends.
    """
    if asked.kind == WORKOUTS or asked.of_kind is not None:
        parts = [_of_rows(asked, names, whole=True)]
    else:
        since, before = asked.window
        first, last = since and _next_quarter(since), before and _quarter(before)
        if first and last and first >= last:
            parts = [_of_rows(asked, names)]
        else:
            edges = [Window(since, first) if since else None, Window(last, before) if before else None]
            parts = [_of_rows(replace(asked, window=edge), names) for edge in edges if edge and edge[0] != edge[1]]
            parts.append(_of_quarters(asked, names, Window(first, last)))
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for row in connection.execute(part).mappings():
            _add(found.setdefault(row["metric"], dict.fromkeys(_SUMMED)), row)
    if asked.kind != WORKOUTS and asked.of_kind is None:
        for day in _of_days(connection, asked, names):
            _add(found.setdefault(day["metric"], dict.fromkeys(_SUMMED)), day)
        _tell_nights(connection, asked, found)
    return {name: _summarize(asked, name, found[name]) for name in sorted(found)}


_SUMMED = ("count", "measured", "first", "last", "sum", "minimum", "maximum", "unit")


def _quarter(moment: datetime) -> datetime:
    return moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)


def _next_quarter(moment: datetime) -> datetime:
    begun = _quarter(moment)
    try:
        return begun if begun == moment else begun + timedelta(minutes=15)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _of_rows(asked: Asked, names: Sequence[str], *, whole: bool = False) -> Select[Any]:
    """Sum up rows; unless ``whole``, those that are in the sums of quarters."""
    c = asked.table.c
    where = asked.where(names)
    if asked.table is points:
        where.append(counts())
        if not whole:
            where.append(or_(c.period.is_(None), c.period < DAYS))
    share = func.coalesce(c.counted, 1) if "counted" in c else literal(1)
    low, high = (func.coalesce(c[name], c.value) if name in c else c.value for name in ("minimum", "maximum"))
    columns: list[ColumnElement[Any]] = [
        asked.name.label("metric"),
        func.count().label("count"),
        func.count(c.value).label("measured"),
        func.min(c.time).label("first"),
        func.max(c.time).label("last"),
        func.sum(c.value * share).label("sum"),
        func.min(low).label("minimum"),
        func.max(high).label("maximum"),
        func.max(c.unit).label("unit"),
    ]
    return select(*columns).where(*where).group_by(asked.name)


def counts() -> ColumnElement[bool]:
    """Return the condition that a point counts, at least in part."""
    return or_(points.c.counted.is_(None), points.c.counted > 0)


def _of_days(connection: Connection, asked: Asked, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what was summed up by the day and longer: each is where its middle is."""
    c, m = points.c, known.c
    longest = connection.scalar(select(func.max(m.period)).where(m.user_id == asked.user, m.metric.in_(names)))
    if longest is None or longest < DAYS:
        return
    since, before = asked.window
    wider = Window(since and max(since, _EARLIEST) - rollups.MAX_PERIOD, before)
    columns = (c.metric, c.time, c.end_time, c.value, c.minimum, c.maximum, c.unit, c.counted)
    where = replace(asked, window=wider).where(names)
    for row in connection.execute(select(*columns).where(*where, c.period >= DAYS, counts())).mappings():
        middle = row["time"] + (row["end_time"] - row["time"]) / 2
        if (since is None or middle >= since) and (before is None or middle < before):
            share = 1.0 if row["counted"] is None else row["counted"]
            value = row["value"]
            yield {
                "metric": row["metric"],
                "count": 1,
                "measured": int(value is not None),
                "first": row["time"],
                "last": row["time"],
                "sum": None if value is None else value * share,
                "minimum": value if row["minimum"] is None else row["minimum"],
                "maximum": value if row["maximum"] is None else row["maximum"],
                "unit": row["unit"],
            }


def _tell_nights(connection: Connection, asked: Asked, found: dict[str, dict[str, Any]]) -> None:
    """Let the sum of sleep be that of the nights."""
    total = found.get(nights.METRIC)
    if total is not None and total["count"]:
        since, before = asked.window
        slept = rollups.aggregate(connection, asked.user, nights.METRIC, "day", "UTC", since, before, asked.source)
        total["sum"] = sum(day.sum or 0.0 for day in slept)


_EARLIEST = datetime(2, 1, 3, tzinfo=UTC)


def _of_quarters(asked: Asked, names: Sequence[str], window: Window) -> Select[Any]:
    c = quarters.c
    statement: Select[Any] = select(
        c.metric,
        func.sum(c.count).label("count"),
        func.sum(c.measured).label("measured"),
        func.min(c.first).label("first"),
        func.max(c.last).label("last"),
        func.sum(c.sum).label("sum"),
        func.min(c.minimum).label("minimum"),
        func.max(c.maximum).label("maximum"),
        select(func.max(known.c.unit))
        .where(known.c.user_id == asked.user, known.c.metric == c.metric)
        .scalar_subquery()
        .label("unit"),
    ).where(c.user_id == asked.user, c.metric.in_(names), *window.of(c.time))
    return (statement if asked.source is None else statement.where(took_part(c.source, asked.source))).group_by(
        c.metric
    )


def _add(total: dict[str, Any], row: Mapping[Any, Any]) -> None:
    together: Mapping[str, Callable[[Any, Any], Any]] = {
        **dict.fromkeys(("count", "measured", "sum"), operator.add),
        **dict.fromkeys(("first", "minimum"), min),
        **dict.fromkeys(("last", "maximum", "unit"), max),
    }
    for name, join in together.items():
        if row[name] is not None:
            total[name] = row[name] if total[name] is None else join(total[name], row[name])


def _summarize(asked: Asked, name: str, total: dict[str, Any]) -> dict[str, Any]:
    summed, measured = total["sum"], total["measured"]
    adds_up = asked.kind == WORKOUTS or aggregation(name, total["unit"]) == "sum"
    return {
        "count": int(total["count"] or 0),
        "first": total["first"],
        "last": total["last"],
        "mean": summed / int(measured) if summed is not None and measured else None,
        "minimum": total["minimum"],
        "maximum": total["maximum"],
        **({"sum": summed} if adds_up else {}),
        "unit": total["unit"] or None,
    }


Fact = Callable[[Connection, Asked], Any]


def _share(metric: str, fits: Callable[[ColumnElement[float]], ColumnElement[bool]]) -> Fact:
    """The percentage of the values of a metric that fit."""
    return _of(metric, lambda value: 100.0 * func.avg(case((fits(value), 1.0), else_=0.0)))


def _number(metric: str, fits: Callable[[ColumnElement[float]], ColumnElement[bool]]) -> Fact:
    """How many values of a metric fit."""
    return _of(metric, lambda value: func.coalesce(func.sum(case((fits(value), 1), else_=0)), 0))


def _of(metric: str, expression: Callable[[ColumnElement[float]], ColumnElement[Any]]) -> Fact:
    def fact(connection: Connection, asked: Asked) -> Any:
        c = points.c
        return connection.scalar(
            select(expression(c.value)).where(*asked.where([metric]), c.value.is_not(None), counts())
        )

    return fact


def _mean_field(metric: str, field: str) -> Fact:
    def fact(connection: Connection, asked: Asked) -> Any:
        document = points.c.fields
        typed = cast(document, JSON) if connection.dialect.name == "postgresql" else type_coerce(document, JSON)
        return connection.scalar(select(func.avg(cast(typed[field].as_float(), Float))).where(*asked.where([metric])))

    return fact


def _newest(connection: Connection, asked: Asked, metric: str) -> float | None:
    """Return the last value before the end of the window: a height of years ago is still a height."""
    whole = Asked(asked.user, asked.kind, Window(None, asked.window.before), (), asked.source)
    statement = select(points.c.value).where(*whole.where([metric]), points.c.value.is_not(None))
    return connection.scalar(statement.order_by(points.c.time.desc()).limit(1))


def _body_mass_index(connection: Connection, asked: Asked) -> dict[str, Any] | None:
    """Weight in kg over the square of height in m, and its class for adults (WHO, TRS 894)."""
    weight, height = (_newest(connection, asked, name) for name in ("weight_body_mass", "height"))
    index = weight / (height / 100) ** 2 if weight and height else _newest(connection, asked, "body_mass_index")
    if index is None:
        return None
    classes = ((18.5, "underweight"), (25.0, "normal"), (30.0, "overweight"), (35.0, "obese_1"), (40.0, "obese_2"))
    return {"value": round(index, 2), "class": next((name for below, name in classes if index < below), "obese_3")}


def _a_day(metric: str) -> Fact:
    """The mean of the days, of UTC, on which there is any."""

    def fact(connection: Connection, asked: Asked) -> Any:
        since, before = asked.window
        days = rollups.aggregate(connection, asked.user, metric, "day", "UTC", since, before, asked.source)
        totals = [day.sum for day in days if day.sum is not None]
        return sum(totals) / len(totals) if totals else None

    return fact


_GLUCOSE: Mapping[str, Fact] = {
    "time_in_range_percent": _share("blood_glucose", lambda value: value.between(70, 180)),
    "below_range_percent": _share("blood_glucose", lambda value: value < 70),
    "above_range_percent": _share("blood_glucose", lambda value: value > 180),
}
FACTS: Mapping[str, Mapping[str, Fact]] = {
    "blood-glucose": _GLUCOSE,
    "metabolic": _GLUCOSE,
    "blood-pressure": {
        "mean_systolic": _mean_field("blood_pressure", "systolic"),
        "mean_diastolic": _mean_field("blood_pressure", "diastolic"),
    },
    "body-measurements": {"body_mass_index": _body_mass_index},
    "respiratory": {"oxygen_below_90": _number("blood_oxygen_saturation", lambda value: value < 90)},
    "temperature": {"fever": _number("body_temperature", lambda value: value >= 38)},
    "audio-exposure": {
        "environment_from_85_db": _number("environmental_audio_exposure", lambda value: value >= 85),
        "headphones_from_85_db": _number("headphone_audio_exposure", lambda value: value >= 85),
    },
    "hygiene": {"handwashing_from_20_s_percent": _share("handwashing", lambda value: value >= 20)},
    "hydration": {"water_a_day": _a_day("dietary_water"), "caffeine_a_day": _a_day("caffeine")},
    "nutrition": {"energy_a_day": _a_day("dietary_energy"), "water_a_day": _a_day("dietary_water")},
    "mindfulness": {"minutes_a_day": _a_day("mindful_minutes")},
    "activity": {"steps_a_day": _a_day("step_count"), "active_energy_a_day": _a_day("active_energy")},
}
"""What is said of a domain besides its summary: names of facts and how they are found."""


def facts(connection: Connection, asked: Asked) -> dict[str, Any]:
    """Return the facts of a domain."""
    return {name: fact(connection, asked) for name, fact in FACTS.get(asked.kind, {}).items()}
