"""Ingests: what arrived when, and the bodies themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter
from sqlalchemy import Connection, Row

from ....errors import PermanentError
from ....identifiers import parse_id
from ....platform.web import cursors
from ....platform.web.answers import attachment, documented, file_answer
from ....platform.web.errors import ApiError
from ....platform.web.paging import Question
from ....platform.web.parameters import wrong
from .. import metrics
from ..acceptance import OTHERS, Counts, State
from ..schema import ingests
from . import answers
from .accepted import accepted_of
from .queries import Asked, answered, health
from .uploads import failures

MAX_PAGE_SIZE = 500
"""How many ingests or quarantined points a page can have."""
MAX_TYPES = 100
"""How many types of each ingest a list of them counts by themselves."""
_SUFFIXES = {"": "", "gzip": ".gz", "deflate": ".zz", "br": ".br", "zstd": ".zst"}

Page = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE_SIZE, description="How many at most.")]
Following = Annotated[
    str | None,
    QueryParameter(pattern="^[A-Za-z0-9_-]+$", max_length=4000, description="`next_cursor` of the page before."),
]
InState = Annotated[State | None, QueryParameter(name="state", description="Only those that are in this state.")]


class Ingest(msgspec.Struct, kw_only=True):
    """A body that arrived, and what became of it."""

    id: str
    received_at: datetime
    completed_at: datetime | None
    state: State
    attempt: int
    bytes: int
    sha256: str
    duplicate: bool
    counts: Counts
    types: dict[str, Counts]
    headers: dict[str, str]
    error: str | None
    format: str | None
    form: str
    status_url: str


def _ingest_of(row: Row[Any]) -> Ingest:
    return Ingest(
        id=row.id,
        received_at=row.received_at,
        completed_at=row.completed_at,
        state=row.state,
        attempt=row.attempt,
        bytes=row.bytes,
        sha256=row.sha256,
        duplicate=row.duplicate,
        counts=Counts(**{name: getattr(row, name) for name in Counts.__struct_fields__}),
        types=_largest({name: Counts(*numbers) for name, numbers in msgspec.json.decode(row.types or "{}").items()}),
        headers=msgspec.json.decode(row.headers or "{}"),
        error=row.error,
        format=row.format,
        form=row.form,
        status_url=answers.status_url(row.id),
    )


def _largest(types: dict[str, Counts]) -> dict[str, Counts]:
    """Return the types with the most points, and the others counted together: a list of ingests stays readable."""
    if len(types) <= MAX_TYPES:
        return types
    found: dict[str, Counts] = {}
    for name in sorted(types, key=lambda name: -types[name].received):
        found.setdefault(name if len(found) < MAX_TYPES else OTHERS, Counts()).add(types[name])
    return found


def is_identifier(text: str) -> bool:
    """Tell whether ``text`` is the id of an ingest, and not only of its type."""
    try:
        return parse_id(text) == text
    except ValueError:
        return False


def list_ingests(
    connection: Connection, user: int, state: State | None, limit: int, cursor: str | None
) -> tuple[list[Ingest], str | None]:
    wanted = [ingests.c.user_id == user, *([ingests.c.state == state] if state is not None else [])]
    question = Question(ingests, wanted, ("received_at", "id"), descending=True)
    after = cursors.read(cursor, question.ordered, "ingests", state)
    if after is not None and not is_identifier(after[1]):
        raise wrong("cursor", "is not one that this service gave out")
    rows, key = question.page(connection, list(ingests.c), limit, after)
    return [_ingest_of(row) for row in rows], cursors.written(key, "ingests", state)


def documented_list(data: Any, description: str) -> dict[str, Any]:
    """Return the options of a route with a parameter ``state``, which is a name that Litestar keeps to itself."""
    return {**documented(data, description), "before_request": None}


@get("/api/v1/ingests", **documented_list(list[Ingest], "What arrived, the newest first."))
async def ingests_list(
    request: Asked, in_state: InState = None, limit: Page = 50, cursor: Following = None
) -> Response[Any]:
    """Return what arrived, the newest first."""

    def read(connection: Connection) -> Mapping[str, Any]:
        data, following = list_ingests(connection, request.user.user, in_state, limit, cursor)
        return {"data": data, "next_cursor": following}

    return await answered(request, read)


@get(
    "/api/v1/ingest/{ingest_id:str}/raw",
    opt={"scope": "read", "limit": "export"},
    responses=failures(401, 403, 429, _404="There is no such ingest of yours.", _410="It is not kept any more.")
    | {
        200: ResponseSpec(
            bytes,
            generate_examples=False,
            description="The bytes, as they arrived.",
            media_type="application/octet-stream",
        )
    },
)
async def raw(request: Asked, ingest_id: FromPath[str]) -> Response[Any]:
    """Return a body as it arrived, byte by byte; it is not decompressed."""
    parts = health(request)
    accepted = await accepted_of(parts, request.user.user, ingest_id)
    try:
        body = await asyncio.to_thread(parts.raw.open, accepted.raw)
    except PermanentError as error:
        raise ApiError(410, "gone", f"the body of ingest {accepted.id} is not kept any more") from error
    metrics.volume("raw", "read", accepted.bytes)
    kind = {"csv": ".csv", "multipart": ".form"}.get(accepted.form, ".json")
    headers = attachment(f"{accepted.id}{kind}{_SUFFIXES.get(accepted.content_encoding, '')}")
    headers |= {"content-length": str(accepted.bytes), "etag": f'"{accepted.sha256}"'}
    return file_answer(body, "application/octet-stream", headers)


ROUTES = [ingests_list, raw]
