"""Identity of workouts: version 1 of the export sends no id, so the same workout comes with an id made of its facts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, select, update

from ..export.workouts import make_id
from ..rows import ROUTE, SERIES, WORKOUT
from ..schema import routes, series, workouts
from .merging import POOR_NAMES

_MAX_DURATION = timedelta(days=2)
"""How long before a point of a series its workout may have begun."""


class _Workout(NamedTuple):
    id: str
    name: str
    time: datetime
    end: datetime


def unify(connection: Connection, user: int, rows: pa.Table) -> pa.Table:
    """Give the workouts of ``rows``, their series and routes the ids under which they are known already.

    A workout that was sent without an id and one with an id are the same if they begin and end at the same moment and
    have the same name, or one has none that says anything. The id that was sent stays.
    """
    names = rows.column("record")
    of_workouts = rows.filter(pc.equal(names, WORKOUT))
    found: dict[str, str] = {}
    if len(of_workouts):
        found |= _known(connection, user, of_workouts)
    parts = rows.filter(pc.or_(pc.equal(names, SERIES), pc.equal(names, ROUTE)))
    if len(parts):
        found |= _of_parts(connection, user, parts, found.keys())
    if not found:
        return rows
    place = rows.schema.get_field_index("parent")
    ids = [found.get(id, id) for id in rows.column("parent").to_pylist()]
    return rows.set_column(place, rows.schema.field(place), pa.array(ids, pa.string()))


def _known(connection: Connection, user: int, rows: pa.Table) -> dict[str, str]:
    """Return the ids to replace among workouts, and rename stored workouts whose id is now known."""
    names = ("parent", "metric", "time", "end_time")
    sent = [_Workout(*each) for each in zip(*(rows.column(name).to_pylist() for name in names), strict=True)]
    c = workouts.c
    stored: dict[tuple[datetime, datetime], list[_Workout]] = defaultdict(list)
    times = sorted({one.time for one in sent})
    for begin in range(0, len(times), 500):
        statement = select(c.id, c.name, c.time, c.end_time).where(c.user_id == user)
        for row in connection.execute(statement.where(c.time.in_(times[begin : begin + 500]))):
            stored[row.time, row.end_time].append(_Workout(*row))
    found: dict[str, str] = {}
    for one in sent:
        others = [other for other in stored[one.time, one.end] if other.id != one.id and _is_same(one, other)]
        if len(others) != 1 or any(other.id == one.id for other in stored[one.time, one.end]):
            continue
        [other] = others
        if is_made(one.id):
            found[one.id] = other.id
        else:
            _rename(connection, user, other.id, one.id)
            stored[one.time, one.end] = [one]
    return found


def _is_same(one: _Workout, other: _Workout) -> bool:
    named = one.name == other.name or one.name in POOR_NAMES or other.name in POOR_NAMES
    return named and (is_made(one.id) or is_made(other.id))


def is_made(id: str) -> bool:
    """Tell whether an id was made of the facts of a workout: a UUID of version 5."""
    try:
        return UUID(id).version == 5
    except ValueError:
        return False


def _rename(connection: Connection, user: int, old: str, new: str) -> None:
    c = workouts.c
    connection.execute(update(workouts).where(c.user_id == user, c.id == old).values(id=new))
    for table in (series, routes):
        mine = (table.c.user_id == user, table.c.parent_id == old)
        connection.execute(update(table).where(*mine).values(parent_id=new))


def _of_parts(connection: Connection, user: int, rows: pa.Table, known: Iterable[str]) -> dict[str, str]:
    """Return the ids to replace among series and routes whose workout came in another part or another export."""
    made = {id for id in rows.column("parent").unique().to_pylist() if id is not None and is_made(id)} - set(known)
    if not made:
        return {}
    there = set(connection.scalars(select(workouts.c.id).where(workouts.c.user_id == user, workouts.c.id.in_(made))))
    if not made - there:
        return {}
    times = pc.min_max(rows.column("time"))
    c = workouts.c
    near = select(c.id, c.name, c.time, c.end_time).where(
        c.user_id == user, c.time >= _before(times["min"].as_py()), c.time <= times["max"].as_py()
    )
    found: dict[str, str] = {}
    for row in connection.execute(near):
        one = _Workout(*row)
        for name in (one.name, *POOR_NAMES):
            id = make_id(name, one.time, one.end)
            if id in made - there and id != one.id:
                found[id] = one.id
    return found


def _before(time: datetime) -> datetime:
    try:
        return time - _MAX_DURATION
    except OverflowError:
        return time
