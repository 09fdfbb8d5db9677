"""A domain of health data, such as nutrition: the points of its metrics together, and what they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    select,
    union_all,
)

from ....platform.web.paging import Window
from ..compact import of_metric
from ..export import catalogue
from ..export.domains import DOMAINS
from ..schema import points, workouts
from ..store.sources import took_part
from .points import alike, every, payload, select_columns

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
        if self.table is points and len(metrics) == 1:
            conditions[:2] = [of_metric(self.user, metrics[0])]
        if self.source is not None:
            conditions.append(took_part(c.source, self.source))
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
    of = select_columns(asked.table)
    columns = {"metric": asked.name, **{name: column for name, column in of.items() if name != "metric"}}
    named = [column.label(f"column_{place}") for place, column in enumerate(columns.values())]
    keys = [asked.table.c[name] for name in ("time", "source", "id" if asked.kind == WORKOUTS else "kind")]
    if asked.kind != WORKOUTS:
        keys += [points.c.end_time, points.c.ordinal]

    def first(name: str) -> Select[Any]:
        """Take the first of one metric, which its index has in order: no more of it can be on this page."""
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
