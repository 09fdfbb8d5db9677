"""The five routes of older viewers of conversations, with their shapes: no envelope, a document for each line."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter, QueryParameter
from sqlalchemy import Connection

from ....platform.web.answers import attachment, flowing
from ....platform.web.parameters import TEXT, Zone, known_parameters, moment, wrong, zone_of
from ..reading import lists
from ..reading.search import BadSearch, parse
from .service import Asked, service

_encode = msgspec.json.encode
Project = Annotated[str, QueryParameter(name="projectId", max_length=500, pattern=TEXT, description="The project.")]
Session = Annotated[
    str | None, QueryParameter(name="sessionId", max_length=500, pattern=TEXT, description="Only of this session.")
]
StartDate = Annotated[
    str | None, QueryParameter(name="startDate", max_length=40, description="From this day or time on.")
]
EndDate = Annotated[str | None, QueryParameter(name="endDate", max_length=40, description="To this day, or this time.")]
Searched = Annotated[str | None, Parameter(max_length=1000, pattern=TEXT, description="Words that are in it.")]


def _reads(path: str) -> Callable[[Any], HTTPRouteHandler]:
    return get(path, opt={"scope": "read", "limit": "read"}, before_request=known_parameters)


@_reads("/api/projects")
async def projects(request: Asked) -> dict[str, list[str]]:
    """List the names of the projects."""
    found = await service(request).database.run(lists.list_projects)
    return {"projects": sorted(one.project for one in found)}


@_reads("/api/sessions")
async def sessions(request: Asked, project: Project) -> dict[str, list[str]]:
    """List the ids of the sessions of a project."""
    found = await service(request).database.run(lambda connection: lists.session_ids(connection, project))
    return {"sessions": found}


@_reads("/api/conversations")
async def conversations(
    request: Asked,
    project: Project,
    session: Session = None,
    search: Searched = None,
    start: StartDate = None,
    end: EndDate = None,
    cursor: Annotated[str | None, Parameter(max_length=500, description="`nextCursor` of the page before.")] = None,
    limit: Annotated[int, Parameter(ge=1, le=100, description="How many at most.")] = 50,
    order: Annotated[Literal["asc", "desc"], QueryParameter(name="sortOrder", description="By time.")] = "desc",
) -> Response[bytes]:
    """List the lines of a project page by page; lines without a time stand where they were written."""
    asked, after = _asked(project, session, start, end, search), _read_cursor(cursor)

    def read(connection: Connection) -> bytes:
        found = lists.list_lines(connection, asked, limit + 1, descending=order == "desc", after=after)
        page, has_more = found[:limit], len(found) > limit
        following = _write_cursor(page[-1].at, page[-1].id) if has_more else None
        told = {"nextCursor": following, "hasMore": has_more, "total": lists.count_lines(connection, asked)}
        return _encode({"data": [lists.document_of(row) for row in page], "pagination": told})

    return Response(await service(request).database.run(read), media_type="application/json")


@_reads("/api/conversations/export")
async def export(
    request: Asked,
    project: Project,
    session: Session = None,
    search: Searched = None,
    start: StartDate = None,
    end: EndDate = None,
) -> Response[Any]:
    """Download all lines that the list would show, as one JSON array, the latest first."""
    asked, database = _asked(project, session, start, end, search), service(request).database

    def written() -> Iterator[bytes]:
        with database.pool.connect() as connection, connection.begin():
            begin = b"["
            for row in lists.stream_lines(connection, asked):
                yield begin + _encode(lists.document_of(row))
                begin = b",\n"
            yield b"[]" if begin == b"[" else b"]"

    name = attachment(f"conversations-{project}-{datetime.now(UTC):%Y-%m-%d}.json")
    return await flowing(written(), "application/json", name)


@_reads("/api/stats")
async def stats(
    request: Asked,
    project: Project,
    session: Session = None,
    start: StartDate = None,
    end: EndDate = None,
    granularity: Annotated[lists.Granularity, Parameter(description="How long a period is.")] = "day",
    periods: Annotated[int, QueryParameter(name="periodCount", ge=1, le=90, description="How many at most.")] = 14,
    timezone: Zone = None,
) -> Response[bytes]:
    """Count the messages of people and agents by hour, day or week; results of tools are none of a person's."""
    asked, zone = _asked(project, session, start, end), await asyncio.to_thread(zone_of, timezone) or UTC
    found = await service(request).database.run(
        lambda connection: lists.count_messages(connection, asked, granularity, periods, zone)
    )
    total = sum(one.user + one.assistant for one in found)
    told = {"granularity": granularity, "periodCount": periods, "totalMessages": total}
    return Response(_encode({"data": found, "meta": told}), media_type="application/json")


def _asked(
    project: str, session: str | None, start: str | None, end: str | None, search: str | None = None
) -> lists.Filter:
    before = moment("endDate", end)
    if before is not None and end is not None and len(end) == 10:  # a day is meant to its end
        before += timedelta(days=1)
    try:
        words = parse(search) if search is not None else None
    except BadSearch as error:
        raise wrong("search", str(error)) from None
    return lists.Filter(project, session, moment("startDate", start), before, words)


def _write_cursor(at: datetime, id: int) -> str:
    return base64.b64encode(f"{at.isoformat()}|{id}".encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[datetime, int] | None:
    if cursor is None:
        return None
    try:
        at, _, id = base64.b64decode(cursor, validate=True).decode().partition("|")
        return datetime.fromisoformat(at).astimezone(UTC), int(id)
    except (binascii.Error, ValueError, OverflowError):
        raise wrong("cursor", "Invalid cursor") from None


ROUTES: list[HTTPRouteHandler] = [projects, sessions, conversations, export, stats]
