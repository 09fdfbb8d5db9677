"""The routes of SQL: run a query that only reads, cancel it, download what it finds, and keep it under a name."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.params import JSONBody, Parameter
from litestar.response import Stream

from ...errors import PermanentError
from ...identifiers import new_id
from ..access.scopes import ANY, OPERATOR
from ..tables.files import TYPES, Format
from ..tables.places import ROWS
from ..tables.queries import Result
from ..tables.saved import MAX_SQL_SIZE, Saved, ToSave, forget, listed, save
from ..tables.worker import Task
from ..web.answers import answer, attachment, documented
from ..web.errors import ApiError
from ..web.parameters import missing
from .service import MAX_BODY_BYTES, ROOT, Asked, conflict, platform
from .tables import Refusals, operation

MAX_ROWS = 10_000
"""The most rows of a result; a download has no such bound."""

Id = Annotated[
    str, Parameter(pattern="^[A-Za-z0-9_-]{1,64}$", description="The id of a query, as the caller chose it.")
]


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """A query, and where it runs."""

    sql: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SQL_SIZE)]
    place: Annotated[str, msgspec.Meta(max_length=200)] = ROWS
    """Where names are looked for first; tables of other places are named with them: ``health.health_points``."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = 1000
    id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = None
    """What cancels it."""


class Cancelled(msgspec.Struct):
    """Whether a query was ended."""

    was_running: bool


@post(f"{ROOT}/sql", **operation(Result, "What the query found."))
async def run_query(request: Asked, data: JSONBody[Query]) -> Response[Any]:
    """Run one query that changes nothing, within bounds of time, memory and rows."""
    task = await _task(request, data.sql, data.place, data.limit)
    with Refusals():
        id = data.id or new_id()
        return answer(await platform(request).queries.run(task, request.user.user, id))


@post(f"{ROOT}/sql/{{id:str}}/cancel", **operation(Cancelled, "Whether it ran."))
async def cancel_query(request: Asked, id: Id) -> Response[Any]:
    """End a query of one's own."""
    return answer(Cancelled(platform(request).queries.cancel(request.user.user, id)))


@get(f"{ROOT}/sql/download", **operation(bytes, "What the query found, as a file.", files=tuple(TYPES.values())))
async def download_query(
    request: Asked,
    sql: Annotated[str, Parameter(min_length=1, max_length=MAX_SQL_SIZE, description="The query.")],
    place: Annotated[str, Parameter(max_length=200, description="Where it runs.")] = ROWS,
    format: Annotated[Format, Parameter(description="The kind of file.")] = "csv",
) -> Response[Any]:
    """Download all that a query finds, as it is found."""
    task = await _task(request, sql, place, MAX_ROWS, format)
    pieces = platform(request).queries.download(task, request.user.user, new_id())
    with Refusals():
        first = await anext(pieces, b"")

    async def following() -> Any:
        try:
            yield first
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]

    return Stream(following(), media_type=TYPES[format], headers=attachment(f"query.{format}"))


async def _task(request: Asked, sql: str, place: str, limit: int, format: str = "") -> Task:
    """Return the query as it is run, and write down that it is."""
    of = platform(request)
    places = await of.tables.places(request.user)
    if place not in places:
        raise missing("place of tables", place, places)
    if places[place].engine == "postgres" and OPERATOR.name not in request.user.scopes:
        raise ApiError(403, "forbidden", "SQL over PostgreSQL sees the tables of all: it needs the scope operator")
    try:
        task = await asyncio.to_thread(of.queries.task, places, place, sql, limit=limit, format=format)
    except PermanentError as error:
        raise ApiError(403 if places[place].user is not None else 400, "forbidden", str(error)) from None
    await of.gate.audit.record("sql_queried", caller=request.user, resource=place, details={"sql": sql[:2000]})
    return task


def _saving(data: Any, description: str) -> dict[str, Any]:
    found = documented(data, description, scope=ANY, limit=OPERATOR.name)
    return found | {"status_code": 200, "request_max_body_size": MAX_BODY_BYTES}


@get(f"{ROOT}/queries", **_saving(list[Saved], "The caller's queries, by name."))
async def list_queries(request: Asked) -> Response[Any]:
    """List the queries that the caller keeps."""
    return answer(await platform(request).database.run(partial(listed, user=request.user.user)))


@post(f"{ROOT}/queries", **_saving(Saved, "The query."))
async def save_query(request: Asked, data: JSONBody[ToSave]) -> Response[Any]:
    """Keep a query, in place of one's own of the same name."""
    try:
        return answer(
            await platform(request).database.run(partial(save, user=request.user.user, wanted=data), changes=True)
        )
    except PermanentError as error:
        raise conflict(error) from None


@delete(f"{ROOT}/queries/{{id:str}}", **_saving(Cancelled, "It is kept no more."))
async def forget_query(request: Asked, id: Id) -> Response[Any]:
    """Delete a query of one's own."""
    was_there = await platform(request).database.run(partial(forget, user=request.user.user, id=id), changes=True)
    if not was_there:
        raise missing("query", id)
    return answer(Cancelled(was_there))


ROUTES = [run_query, cancel_query, download_query, list_queries, save_query, forget_query]
