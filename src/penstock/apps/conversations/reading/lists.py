"""Projects, sessions, lines page by page, and how many messages there were in each hour, day or week."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, Tuple, func, literal, select, tuple_

from ..schema import files, lines, sessions
from .search import Search, matching
from .thread import decode

Granularity: TypeAlias = Literal["hour", "day", "week"]
_BATCH_SIZE = 1000


class Project(msgspec.Struct, frozen=True):
    """A project, and what there is of it."""

    project: str
    sessions: int
    lines: int
    first_at: datetime
    last_at: datetime


class Session(msgspec.Struct, frozen=True):
    """A session, and what there is of it."""

    id: str
    title: str | None
    project: str
    host: str
    owner: str
    cwd: str | None
    branch: str | None
    version: str | None
    first_at: datetime
    last_at: datetime
    lines: int
    prompts: int
    answers: int


class Filter(msgspec.Struct, frozen=True):
    """Which lines are asked for."""

    project: str | None = None
    session: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    words: Search | None = None

    def conditions(self, connection: Connection) -> Iterator[ColumnElement[bool]]:
        """Yield what a line must fulfil."""
        if self.project is not None:
            yield files.c.project == self.project
        if self.session is not None:
            yield lines.c.session == self.session
        if self.since is not None:
            yield lines.c.at >= self.since
        if self.before is not None:
            yield lines.c.at < self.before
        if self.words is not None:
            yield from matching(connection, self.words)


def list_projects(connection: Connection) -> list[Project]:
    """Return the projects, that of the latest line first."""
    of = sessions.c
    latest = func.max(of.last_at)
    found = select(of.project, func.count(), func.sum(of.lines), func.min(of.first_at), latest).group_by(of.project)
    return [Project(name, count, int(total), first, last) for name, count, total, first, last
            in connection.execute(found.order_by(latest.desc()))]  # fmt: skip


def list_sessions(
    connection: Connection, project: str | None, limit: int, after: tuple[datetime, str] | None = None
) -> list[Session]:
    """Return sessions, that of the latest line first; ``after`` are its time and its id of the page before."""
    of = sessions.c
    statement = select(*(of[name] for name in Session.__struct_fields__))
    if project is not None:
        statement = statement.where(of.project == project)
    if after is not None:
        statement = statement.where(tuple_(of.last_at, of.id) < _key(after, of.last_at, of.id))
    return [
        Session(*row) for row in connection.execute(statement.order_by(of.last_at.desc(), of.id.desc()).limit(limit))
    ]


def session_ids(connection: Connection, project: str) -> list[str]:
    """Return the ids of all sessions of a project, in their order."""
    return list(connection.scalars(select(sessions.c.id).where(sessions.c.project == project).order_by(sessions.c.id)))


def find_session(connection: Connection, id: str) -> Session | None:
    """Return a session; None if there is none of this id."""
    row = connection.execute(
        select(*(sessions.c[name] for name in Session.__struct_fields__)).where(sessions.c.id == id)
    ).one_or_none()
    return None if row is None else Session(*row)


def _selected(connection: Connection, asked: Filter) -> Select[Any]:
    joined = lines.join(files, files.c.id == lines.c.file_id)
    shown = (lines.c.id, lines.c.at, lines.c.read_at, lines.c.line, files.c.project, files.c.path)
    return select(*shown).select_from(joined).where(*asked.conditions(connection))


def list_lines(
    connection: Connection, asked: Filter, limit: int, *, descending: bool, after: tuple[datetime, int] | None = None
) -> list[Any]:
    """Return lines in the order of time; those without one stand where they were written."""
    statement, here = _selected(connection, asked), tuple_(lines.c.at, lines.c.id)
    if after is not None:
        there = _key(after, lines.c.at, lines.c.id)
        statement = statement.where(here < there if descending else here > there)
    ordered = (lines.c.at.desc(), lines.c.id.desc()) if descending else (lines.c.at, lines.c.id)
    return list(connection.execute(statement.order_by(*ordered).limit(limit)))


def _key(values: tuple[Any, ...], *columns: ColumnElement[Any]) -> Tuple:
    """Return values as their columns keep them: a time is a text in SQLite."""
    return tuple_(*(literal(value, column.type) for value, column in zip(values, columns, strict=True)))


def count_lines(connection: Connection, asked: Filter) -> int:
    """Return how many lines there are."""
    joined = lines.join(files, files.c.id == lines.c.file_id)
    return connection.scalar(select(func.count()).select_from(joined).where(*asked.conditions(connection))) or 0


def stream_lines(connection: Connection, asked: Filter) -> Iterator[Any]:
    """Yield all lines, the latest first, in little memory."""
    statement = _selected(connection, asked).order_by(lines.c.at.desc(), lines.c.id.desc())
    yield from connection.execution_options(yield_per=_BATCH_SIZE).execute(statement)


def document_of(row: Any) -> Mapping[str, Any]:
    """Return a line as a document: its own fields, and where it is from."""
    return {
        **decode(row.line),
        "_id": str(row.id),
        "projectId": row.project,
        "sourceFile": row.path,
        "ingestedAt": row.read_at.isoformat(),
    }


class Period(msgspec.Struct, frozen=True, rename="camel"):
    """How many messages there were in a time."""

    period: str
    period_start: datetime
    user: int
    assistant: int


def count_messages(
    connection: Connection, asked: Filter, granularity: Granularity, periods: int, zone: tzinfo = UTC
) -> Sequence[Period]:
    """Return the latest periods in which there were messages, the oldest first; results of tools are none."""
    joined = lines.join(files, files.c.id == lines.c.file_id)
    statement = (
        select(lines.c.at, lines.c.kind)
        .select_from(joined)
        .where(*asked.conditions(connection), lines.c.kind.in_(["prompt", "answer"]), lines.c.is_at_given)
        .order_by(lines.c.at.desc())
    )
    found: dict[datetime, list[int]] = {}
    for at, kind in connection.execution_options(yield_per=_BATCH_SIZE).execute(statement):
        start = _start(at.astimezone(zone), granularity)
        if start not in found:
            if len(found) == periods:
                break
            found[start] = [0, 0]
        found[start][kind == "answer"] += 1
    return [Period(_label(start, granularity), start, *counts) for start, counts in reversed(found.items())]


def _start(at: datetime, granularity: Granularity) -> datetime:
    hour = at.replace(minute=0, second=0, microsecond=0)
    if granularity == "hour":
        return hour
    day = hour.replace(hour=0, fold=0)
    return day if granularity == "day" else day - timedelta(days=day.weekday())


def _label(start: datetime, granularity: Granularity) -> str:
    if granularity == "week":
        year, week, _ = date(start.year, start.month, start.day).isocalendar()
        return f"{year}-W{week:02}"
    return start.strftime("%b %-d %H:%M" if granularity == "hour" else "%b %-d")
