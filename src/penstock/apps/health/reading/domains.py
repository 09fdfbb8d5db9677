"""A domain of health data, such as nutrition: the points of its metrics together, and what they amount to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Float,
    Select,
    Subquery,
    Table,
    Text,
    case,
    cast,
    func,
    select,
    type_coerce,
    union_all,
)

from ..export import catalogue
from ..export.domains import DOMAINS
from ..schema import points, workouts
from . import overview
from .keyset import Window
from .points import alike, every, payload, shown

WORKOUTS = "workouts"
KINDS = (*DOMAINS, WORKOUTS)
"""The names of all domains that can be read."""


@dataclass(frozen=True)
class Asked:
    """Which points of a domain."""

    user: int
    kind: str
    window: Window
    types: Sequence[str] = ()
    source: str | None = None
    of_kind: str | None = None

    @property
    def table(self) -> Table:
        """Where they are."""
        return workouts if self.kind == WORKOUTS else points

    @property
    def name(self) -> ColumnElement[str]:
        """The column that tells metrics apart; of workouts, their name."""
        return workouts.c.name if self.kind == WORKOUTS else points.c.metric

    def where(self, metrics: Sequence[str]) -> list[ColumnElement[bool]]:
        """Return the conditions for points of ``metrics``."""
        c = self.table.c
        conditions = [c.user_id == self.user, self.name.in_(metrics), *self.window.of(c.time)]
        if self.source is not None:
            conditions.append(c.source == self.source)
        if self.of_kind is not None and self.kind != WORKOUTS:
            conditions.append(c.kind == self.of_kind)
        return conditions


def metrics(connection: Connection, asked: Asked) -> list[str]:
    """Return the metrics of the domain that the user has, of those that were asked for."""
    if asked.kind == WORKOUTS:
        names = connection.scalars(select(workouts.c.name).where(workouts.c.user_id == asked.user).distinct())
        return sorted(name for name in names if not asked.types or name in asked.types)
    of_domain = {catalogue.canonical(name) for name in DOMAINS[asked.kind].metrics}
    wanted = {catalogue.canonical(name) for name in asked.types} or of_domain
    mine = (metric.name for metric in every(connection, asked.user) if metric.table is points)
    return [name for name in mine if name in of_domain and name in wanted]


def rows(
    connection: Connection, asked: Asked, names: Sequence[str], limit: int, offset: int, *, descending: bool
) -> list[dict[str, Any]]:
    """Return the points of ``names`` in the order of time, from the one at ``offset`` on."""
    if not names:
        return []
    of = shown(asked.table)
    columns = {"metric": asked.name, **{name: column for name, column in of.items() if name != "metric"}}
    named = [column.label(f"column_{place}") for place, column in enumerate(columns.values())]
    keys = [asked.table.c[name] for name in ("time", "source", "id" if asked.kind == WORKOUTS else "kind")]
    if asked.kind != WORKOUTS:
        keys += [points.c.end_time, points.c.ordinal]

    def first(name: str) -> Select[Any]:
        """The first of one metric, which its index has in order: no more of it can be on this page."""
        statement = select(*named, *(key.label(f"key_{place}") for place, key in enumerate(keys)))
        statement = statement.where(*asked.where([name])).order_by(*(_by(key, descending) for key in keys))
        return select(statement.limit(limit + offset).subquery())

    all_of_them = union_all(*(first(name) for name in names)).subquery()
    ordered = [
        _by(all_of_them.c[name], descending)
        for name in ("key_0", "column_0", *(f"key_{n}" for n in range(1, len(keys))))
    ]
    wanted = [all_of_them.c[column.name] for column in named]
    found = connection.execute(select(*wanted).order_by(*ordered).limit(limit).offset(offset)).all()
    return alike(payload(list(columns), found))


def _by(column: ColumnElement[Any], descending: bool) -> ColumnElement[Any]:
    return column.desc() if descending else column.asc()


def summary(connection: Connection, asked: Asked, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return of each metric how many points there are, when, and between which values; sums where it adds up."""
    c = asked.table.c
    low, high = (func.coalesce(c[name], c.value) if name in c else c.value for name in ("minimum", "maximum"))
    statement = (
        select(
            asked.name.label("metric"),
            func.count().label("count"),
            func.min(c.time).label("first"),
            func.max(c.time).label("last"),
            func.avg(c.value).label("mean"),
            func.min(low).label("minimum"),
            func.max(high).label("maximum"),
            func.sum(c.value).label("sum"),
            func.max(c.unit).label("unit"),
        )
        .where(*asked.where(names))
        .group_by(asked.name)
    )
    found = {row["metric"]: dict(row) for row in connection.execute(statement).mappings()}
    for name, row in found.items():
        del row["metric"]
        if asked.kind != WORKOUTS and overview.aggregation(name) != "sum":
            del row["sum"]
    return {name: found[name] for name in sorted(found)}


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
        return connection.scalar(select(expression(c.value)).where(*asked.where([metric]), c.value.is_not(None)))

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
        daily = _daily(connection, asked, metric)
        return connection.scalar(select(func.avg(daily.c.total)))

    return fact


def _daily(connection: Connection, asked: Asked, metric: str) -> Subquery:
    c = points.c
    postgres = connection.dialect.name == "postgresql"
    day = func.date_trunc("day", c.time) if postgres else func.substr(type_coerce(c.time, Text), 1, 10)
    statement = select(day.label("day"), func.sum(c.value).label("total")).where(*asked.where([metric]))
    return statement.group_by(day).subquery()


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
