"""How much was said in each hour, day, week or month, for a chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import Connection, Text, cast, func, literal_column, select

from ..schema import files, lines
from .lists import Filter

Step: TypeAlias = Literal["hour", "day", "week", "month"]
MAX_STEPS = 5000
"""How many periods of a chart are counted."""
_KINDS = ("prompt", "answer", "result")


class Activity(msgspec.Struct):
    """How much was said in a period."""

    start: datetime
    prompts: int = 0
    answers: int = 0
    results: int = 0


def count_activity(connection: Connection, asked: Filter, step: Step, zone: tzinfo = UTC) -> list[Activity]:
    """Return the latest periods in which anything was said, the oldest first; they are those of ``zone``."""
    found: dict[datetime, Activity] = {}
    for at, kind, number in _quarters(connection, asked):
        start = _start(at.astimezone(zone), step)
        activity = found.setdefault(start, Activity(start))
        name = f"{kind}s"
        setattr(activity, name, getattr(activity, name) + number)
    return [found[start] for start in sorted(found)[-MAX_STEPS:]]


def _quarters(connection: Connection, asked: Filter) -> Sequence[tuple[datetime, str, int]]:
    """Return how many lines of each kind there are in each minute, or each quarter of an hour.

    The offset of each time zone is a multiple of a quarter, so the periods of all zones are made of them.
    """
    quarter: Any
    if connection.dialect.name == "postgresql":
        quarter = func.date_bin(
            literal_column("interval '15 minutes'"), lines.c.at, literal_column("timestamptz 'epoch'")
        )
    else:
        quarter = func.substr(cast(lines.c.at, Text), 1, 16)
    statement = (
        select(quarter.label("quarter"), lines.c.kind, func.count())
        .select_from(lines.join(files, files.c.id == lines.c.file_id))
        .where(*asked.conditions(connection), lines.c.kind.in_(_KINDS), lines.c.is_at_given)
        .group_by("quarter", lines.c.kind)
    )
    return [(_moment(at), kind, number) for at, kind, number in connection.execute(statement)]


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(value, str) else value


def _start(at: datetime, step: Step) -> datetime:
    hour = at.replace(minute=0, second=0, microsecond=0)
    if step == "hour":
        return hour
    day = hour.replace(hour=0, fold=0)
    if step == "day":
        return day
    return day - timedelta(days=day.weekday()) if step == "week" else day.replace(day=1)
