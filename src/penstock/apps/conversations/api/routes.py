"""The routes of conversations: search, projects and sessions, a session as it was spoken, and what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Literal

from litestar import Response, get
from litestar.params import Parameter
from sqlalchemy import Connection

from ....errors import PermanentError
from ....platform.web import cursors
from ....platform.web.answers import Page, answer, answer_with, attachment, flowing, reads
from ....platform.web.parameters import (
    TEXT,
    Cursor,
    End,
    Start,
    Zone,
    known_parameters,
    missing,
    window,
    wrong,
    zone_of,
)
from ..analytics.questions import QUESTIONS, Answered, Question, answer_question
from ..reading import lists, search
from ..reading.activity import Activity, Step, count_activity
from ..reading.burn import Burn, measure_burn
from ..reading.drift import Unknown, list_unknown
from ..reading.export import MEDIA_TYPES, SUFFIXES, Format, export, write_table
from ..reading.lists import Filter
from ..reading.thread import Thread, read_thread
from ..reading.usage import By, usage
from ..schema import lines, sessions
from .described import UsedOf, describe
from .service import Asked, service

MAX_PAGE = 500
Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="How many at most.")]
Project = Annotated[str | None, Parameter(max_length=500, pattern=TEXT, description="Only of this project.")]
Id = Annotated[str, Parameter(pattern="^[^\\x00-\\x1f\\x7f]{1,500}$", description="The id of a session.")]


@reads("/api/conversations/search", list[search.Hit], "Lines, those that were stored last first.", envelope=Page)
async def find(
    request: Asked,
    q: Annotated[
        str,
        Parameter(
            max_length=1000,
            pattern=TEXT,
            description='Words, `"phrases"`, beginnings (`migrat*`), words to leave out (`-docker`), and fields: '
            + ", ".join(f"`{name}:`" for name in (*search.FIELDS, *search.DATES)),
        ),
    ] = "",
    start: Start = None,
    end: End = None,
    timezone: Zone = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response[Any]:
    """Find lines by their words."""
    zone = await asyncio.to_thread(zone_of, timezone)
    when = window(start, end, zone) if zone else window(start, end)
    try:
        asked = search.parse(q, since=when.since, before=when.before, zone=zone or UTC)
    except search.BadSearch as error:
        raise wrong("q", str(error)) from None
    after = cursors.read(cursor, [lines.c.id], q, start, end)

    def read(connection: Connection) -> dict[str, Any]:
        found = search.find(connection, asked, limit + 1, int(after[0]) if after else None)
        more = (found[limit - 1].id,) if len(found) > limit else None
        return {"data": found[:limit], "next_cursor": cursors.written(more, q, start, end)}

    return await answer_with(request, service(request).database, read)


Searched = Annotated[
    str | None, Parameter(max_length=1000, pattern=TEXT, description="A search, as of `/api/conversations/search`.")
]
Session = Annotated[str | None, Parameter(max_length=500, pattern=TEXT, description="Only of this session.")]


async def _filter(
    q: str | None, project: str | None, session: str | None, start: str | None, end: str | None, timezone: str | None
) -> tuple[Filter, tzinfo]:
    """Return which lines are asked for, and whose days are meant; raises ApiError."""
    zone = await asyncio.to_thread(zone_of, timezone) or UTC
    when = window(start, end, zone)
    try:
        words = search.parse(q, zone=zone) if q else None
    except search.BadSearch as error:
        raise wrong("q", str(error)) from None
    return Filter(project or None, session or None, when.since, when.before, words), zone


@reads("/api/conversations/activity", list[Activity], "Periods in which something was said, the oldest first.")
async def activity(
    request: Asked,
    step: Annotated[Step, Parameter(description="How long a period is.")] = "day",
    q: Searched = None,
    project: Project = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    timezone: Zone = None,
) -> Response[Any]:
    """Count prompts, answers and results of tools by hour, day, week or month of a time zone."""
    asked, zone = await _filter(q, project, session, start, end, timezone)
    read = service(request).database
    return await answer_with(request, read, lambda c: {"data": count_activity(c, asked, step, zone)})


@get("/api/conversations/download", opt={"scope": "read", "limit": "read"}, before_request=known_parameters)
async def download(
    request: Asked,
    format: Annotated[Format, Parameter(description="The kind of file.")] = "jsonl",
    secrets: Annotated[Literal["redact", "keep"], Parameter(description="What becomes of keys and tokens.")] = "redact",
    q: Searched = None,
    project: Project = None,
    session: Session = None,
    start: Start = None,
    end: End = None,
    timezone: Zone = None,
) -> Response[Any]:
    """Download all lines that are asked for as one file, however many there are."""
    asked, _ = await _filter(q, project, session, start, end, timezone)
    database, redaction = service(request).database, service(request).redaction if secrets == "redact" else None

    def written() -> Iterator[bytes]:
        with database.pool.connect() as connection, connection.begin():
            yield from export(connection, asked, format, redaction)

    name = f"conversations-{session or project or 'all'}-{datetime.now(UTC):%Y-%m-%d}.{SUFFIXES[format]}"
    return await flowing(written(), MEDIA_TYPES[format], attachment(name))


@get("/api/conversations/live", opt={"scope": "read", "limit": "read"}, before_request=known_parameters)
async def live(request: Asked) -> Response[Any]:
    """Tell by server-sent events which sessions have new lines: `session` events with the id and the latest line."""
    return service(request).live.response(request.headers.get("last-event-id", ""))


@reads("/api/conversations/projects", list[lists.Project], "The projects, that of the latest line first.")
async def projects(request: Asked) -> Response[Any]:
    """List the projects."""
    read = lists.list_projects
    return await answer_with(request, service(request).database, lambda connection: {"data": read(connection)})


@reads("/api/conversations/sessions", list[lists.Session], "Sessions, that of the latest line first.", envelope=Page)
async def list_sessions(
    request: Asked, project: Project = None, limit: Limit = 100, cursor: Cursor = None
) -> Response[Any]:
    """List the sessions of a project, or of all."""
    after = cursors.read(cursor, [sessions.c.last_at, sessions.c.id], project)

    def read(connection: Connection) -> dict[str, Any]:
        found = lists.list_sessions(connection, project, limit + 1, after)
        more = (found[limit - 1].last_at, found[limit - 1].id) if len(found) > limit else None
        return {"data": found[:limit], "next_cursor": cursors.written(more, project)}

    return await answer_with(request, service(request).database, read)


@reads("/api/conversations/sessions/{id:str}", lists.Session, "A session.")
async def session(request: Asked, id: Id) -> Response[Any]:
    """Return what a session is called, where and when it was, and how much was said."""
    return await answer_with(request, service(request).database, lambda connection: {"data": _known(connection, id)})


@reads("/api/conversations/sessions/{id:str}/thread", Thread, "The conversation, in order.")
async def thread(request: Asked, id: Id) -> Response[Any]:
    """Return a session as it was spoken: tools beside what they answered, sub-agents by their ids."""

    def read(connection: Connection) -> dict[str, Any]:
        _known(connection, id)
        return {"data": read_thread(connection, id)}

    return await answer_with(request, service(request).database, read)


@reads("/api/conversations/usage", list[UsedOf], "Tokens and costs, in the order of time.")
async def used(
    request: Asked,
    by: Annotated[By, Parameter(description="What is added up together.")] = By.DAILY,
    start: Start = None,
    end: End = None,
    timezone: Zone = None,
    project: Project = None,
) -> Response[Any]:
    """Add up tokens and costs; each response of a model counts once, however many lines and files it is in."""
    zone = await asyncio.to_thread(zone_of, timezone)
    when = window(start, end, zone) if zone else window(start, end)
    prices = service(request).prices
    within: dict[str, Any] = {"since": when.since, "before": when.before, "project": project}

    def read(connection: Connection) -> dict[str, Any]:
        found = usage(connection, by, prices, *([zone] if zone else []), **within)
        return {"data": [describe(one) for one in found]}

    return await answer_with(request, service(request).database, read)


@reads("/api/conversations/drift", list[Unknown], "What is not known, by what it is.")
async def drift(request: Asked) -> Response[Any]:
    """List the types, fields, blocks, tools and models of the logs that are not known; all of them are kept."""
    prices = service(request).prices
    return await answer_with(request, service(request).database, lambda c: {"data": list_unknown(c, prices)})


@reads("/api/conversations/burn", Burn, "What is used of the block that runs, and of the month.")
async def burn(request: Asked, timezone: Zone = None) -> Response[Any]:
    """Return how fast tokens are used in the block of five hours that runs, and where it and the month will end."""
    zone = await asyncio.to_thread(zone_of, timezone) or UTC
    known, now = service(request).prices, datetime.now(UTC)
    return await answer_with(request, service(request).database, lambda c: {"data": measure_burn(c, known, now, zone)})


@reads("/api/conversations/dashboards", list[Question], "The questions of the dashboards, with their queries.")
async def dashboards(request: Asked) -> Response[Any]:
    """List what the dashboards ask of the warehouse."""
    return answer(QUESTIONS)


@reads("/api/conversations/questions/{id:str}", Answered, "The answer.", files=["text/csv"])
async def question(
    request: Asked,
    id: Id,
    format: Annotated[Literal["json", "csv"], Parameter(description="JSON, or a file.")] = "json",
) -> Response[Any]:
    """Answer a question of the dashboards by the warehouse."""
    asked = next((one for one in QUESTIONS if one.id == id), None)
    if asked is None:
        raise missing("question", id)
    try:
        found = await asyncio.to_thread(answer_question, service(request).settings, id)
    except PermanentError as error:
        found = Answered(asked, [], [], str(error))
    if format == "json":
        return answer(found)
    return Response(write_table(found.columns, found.rows), media_type="text/csv", headers=attachment(f"{id}.csv"))


def _known(connection: Connection, id: str) -> lists.Session:
    found = lists.find_session(connection, id)
    if found is None:
        raise missing("session", id)
    return found


ROUTES = [
    find,
    activity,
    download,
    live,
    projects,
    list_sessions,
    session,
    thread,
    used,
    drift,
    burn,
    dashboards,
    question,
]
