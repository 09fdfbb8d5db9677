"""Ingests as jobs: what arrived when, the bodies themselves, processing again, and quarantine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.background_tasks import BackgroundTask
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, PathParameter, QueryParameter
from sqlalchemy import Connection, Row, func, select

from ....errors import PenstockError, PermanentError
from ....identifiers import parse_id
from ....platform.web import cursors
from ....platform.web.answers import AS_IT_IS, attachment, documented, file_answer, reads
from ....platform.web.errors import ApiError
from ....platform.web.paging import Question
from ....platform.web.parameters import wrong
from .. import metrics
from ..acceptance import OTHERS, Accepted, Counts, Outcome, State
from ..schema import ingests, quarantine
from ..service import Health
from . import answers
from .ingest import accepted_of, announce, failures, hand_over, outcome_of
from .queries import Asked, answered, health

log = logging.getLogger("penstock.health")

LARGEST = 500
"""How many ingests or quarantined points a page can have."""
MOST_TYPES = 100
"""How many types of each ingest a list of them counts by themselves."""
_STATUSES: dict[str, str] = {
    "accepted": "queued",
    "processing": "processing",
    "processed": "completed",
    "failed": "failed",
}
_SUFFIXES = {"": "", "gzip": ".gz", "deflate": ".zz", "br": ".br", "zstd": ".zst"}

Page = Annotated[int, QueryParameter(ge=1, le=LARGEST, description="How many at most.")]
Following = Annotated[
    str | None,
    QueryParameter(pattern="^[A-Za-z0-9_-]+$", max_length=4000, description="`next_cursor` of the page before."),
]
InState = Annotated[State | None, QueryParameter(name="state", description="Only those that are in this state.")]
Number = Annotated[int, PathParameter(ge=1, le=2**53)]


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


class Held(msgspec.Struct, kw_only=True):
    """A point that could not be stored: where it was, why, and the point itself."""

    id: int
    ingest: str
    type: str
    index: int | None
    path: str
    reason: str
    payload: Any
    created_at: datetime
    resolved_at: datetime | None


class Job(msgspec.Struct, kw_only=True):
    """An ingest as a job."""

    id: str
    type: Literal["ingest"] = "ingest"
    status: str
    attempt: int
    created_at: datetime | None
    completed_at: datetime | None
    counts: Counts
    error: str | None
    status_url: str


def _told(row: Row[Any]) -> Ingest:
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
    if len(types) <= MOST_TYPES:
        return types
    found: dict[str, Counts] = {}
    for name in sorted(types, key=lambda name: -types[name].received):
        found.setdefault(name if len(found) < MOST_TYPES else OTHERS, Counts()).add(types[name])
    return found


def is_identifier(text: str) -> bool:
    """Whether ``text`` is the id of an ingest, and not only of its type."""
    try:
        return parse_id(text) == text
    except ValueError:
        return False


def _job(told: Ingest | Outcome) -> Job:
    return Job(
        id=told.id,
        status=_STATUSES[told.state],
        attempt=told.attempt,
        created_at=told.received_at,
        completed_at=told.completed_at,
        counts=told.counts,
        error=told.error,
        status_url=answers.status_url(told.id),
    )


def _listed(
    connection: Connection, user: int, state: State | None, limit: int, cursor: str | None
) -> tuple[list[Ingest], str | None]:
    wanted = [ingests.c.user_id == user, *([ingests.c.state == state] if state is not None else [])]
    question = Question(ingests, wanted, ("received_at", "id"), descending=True)
    after = cursors.read(cursor, question.ordered, "ingests", state)
    if after is not None and not is_identifier(after[1]):
        raise wrong("cursor", "is not one that this service gave out")
    rows, key = question.page(connection, list(ingests.c), limit, after)
    return [_told(row) for row in rows], cursors.written(key, "ingests", state)


def _list(data: Any, description: str) -> dict[str, Any]:
    """As ``documented``, for a parameter that is called otherwise in Python: ``state`` is Litestar's."""
    return {**documented(data, description), "before_request": None}


@get("/api/v1/ingests", **_list(list[Ingest], "What arrived, the newest first."))
async def ingests_list(
    request: Asked, in_state: InState = None, limit: Page = 50, cursor: Following = None
) -> Response[Any]:
    """Return what arrived, the newest first."""

    def read(connection: Connection) -> Mapping[str, Any]:
        data, following = _listed(connection, request.user.user, in_state, limit, cursor)
        return {"data": data, "next_cursor": following}

    return await answered(request, read)


@get(
    "/api/v1/ingest/{ingest_id:str}/raw",
    opt={"scope": "read", "limit": "export", AS_IT_IS: True},
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


_AGAIN: dict[str, Any] = {
    "opt": {"scope": "ingest", "limit": "ingest"},
    "status_code": 202,
    "responses": failures(401, 403, 429, 503, _404="There is no such thing of yours.", _400="The id is not one.")
    | {202: ResponseSpec(answers.Answer, generate_examples=False, description="Accepted: ask `status_url`.")},
}


@post(["/api/v1/ingest/{ingest_id:str}/reprocess", "/api/v1/jobs/{ingest_id:str}/retry"], **_AGAIN)
async def reprocess(request: Asked, ingest_id: FromPath[str]) -> Response[answers.Answer]:
    """Process a body again, as it was received: what is stored already stays unchanged."""
    return await _again(request, ingest_id)


@get(
    "/api/v1/quarantine",
    **documented(list[Held], "Points that could not be stored, the newest first."),
)
async def quarantined(
    request: Asked, open: FromQuery[bool] = True, limit: Page = 50, cursor: Following = None
) -> Response[Any]:
    """Return the points that could not be stored, with the reason; `open=false` lists the resolved ones too."""

    def read(connection: Connection) -> Mapping[str, Any]:
        wanted = [quarantine.c.user_id == request.user.user]
        wanted += [quarantine.c.resolved_at.is_(None)] if open else []
        question = Question(quarantine, wanted, ("id",), descending=True)
        after = cursors.read(cursor, question.ordered, "quarantine", open)
        rows, key = question.page(connection, list(quarantine.c), limit, after)
        return {"data": [_held(row) for row in rows], "next_cursor": cursors.written(key, "quarantine", open)}

    return await answered(request, read)


def _held(row: Row[Any]) -> Held:
    try:
        payload = msgspec.json.decode(row.payload)
    except msgspec.DecodeError:
        payload = row.payload
    return Held(
        id=row.id,
        ingest=row.ingest_id,
        type=row.type,
        index=row._mapping["index"],
        path=row.path,
        reason=row.reason,
        payload=payload,
        created_at=row.created_at,
        resolved_at=row.resolved_at,
    )


@post("/api/v1/quarantine/{point:int}/retry", **_AGAIN)
async def retry(request: Asked, point: Number) -> Response[answers.Answer]:
    """Process the body of a quarantined point again, after an update that can read it."""
    wanted = select(quarantine.c.ingest_id).where(quarantine.c.user_id == request.user.user, quarantine.c.id == point)
    found = await health(request).database.run(lambda connection: connection.execute(wanted).scalar())
    if found is None:
        raise ApiError(404, "not_found", f"there is no quarantined point {point}")
    return await _again(request, found)


async def _again(request: Asked, ingest: str) -> Response[answers.Answer]:
    parts = health(request)
    accepted = await accepted_of(parts, request.user.user, ingest)
    again = await noted(parts, accepted)
    try:
        await hand_over(parts, again)
    except (PenstockError, TimeoutError) as error:
        log.error("ingest %s is not processed again: %s", accepted.id, error)
        if not isinstance(error, TimeoutError):  # else it may be processed nevertheless
            await parts.raw.renew(accepted)
            await parts.raw.settle(accepted.id)
        message = "the stream takes nothing now; try again"
        raise ApiError(503, "unavailable", message, headers={"retry-after": "5"}) from error
    await parts.gate.audit.record("ingest_reprocessed", caller=request.user, resource=again.id)
    answer = answers.answer(answers.waiting(again), 0.0)
    return Response(
        answer,
        status_code=202,
        headers={"location": answer.status_url},
        media_type="application/json",
        background=BackgroundTask(announce, parts, again),
    )


async def noted(health: Health, accepted: Accepted) -> Accepted:
    """Note that ``accepted`` will be processed once more, and return it as it is to be handed over."""
    again = msgspec.structs.replace(accepted, attempt=accepted.attempt + 1)
    await health.raw.renew(again)
    return again


@get("/api/v1/jobs", **_list(list[Job], "The ingests as jobs, the newest first."))
async def jobs(request: Asked, in_state: InState = None, limit: Page = 50, cursor: Following = None) -> Response[Any]:
    """Return the ingests as jobs, the newest first."""

    def read(connection: Connection) -> Mapping[str, Any]:
        found, following = _listed(connection, request.user.user, in_state, limit, cursor)
        return {"data": [_job(told) for told in found], "next_cursor": following}

    return await answered(request, read)


@reads("/api/v1/jobs/stats", dict[str, int], "How many jobs are in which state.")
async def statistics(request: Asked) -> Response[Any]:
    """Return how many ingests are in which state."""
    user = request.user.user
    counted = select(ingests.c.state, func.count()).where(ingests.c.user_id == user).group_by(ingests.c.state)

    def read(connection: Connection) -> Mapping[str, Any]:
        found = {_STATUSES[state]: count for state, count in connection.execute(counted)}
        data = {status: found.get(status, 0) for status in _STATUSES.values()}
        return {"data": data | {"total": sum(data.values())}}

    return await answered(request, read)


@reads("/api/v1/jobs/{ingest_id:str}", Job, "An ingest as a job.")
async def job(request: Asked, ingest_id: FromPath[str]) -> Response[Any]:
    """Return an ingest as a job."""
    found = await outcome_of(health(request), request.user.user, ingest_id)
    return await answered(request, lambda _: {"data": _job(found)})


CONFLICT = {"_404": "There is no such ingest of yours.", "_409": "Not possible; `message` says why."}


@delete(
    "/api/v1/jobs/{ingest_id:str}",
    opt={"scope": "ingest", "limit": "ingest"},
    status_code=409,
    responses=failures(401, 403, 429, **CONFLICT),
)
async def cancel(request: Asked, ingest_id: FromPath[str]) -> None:
    """Refuse to cancel: what was accepted is processed."""
    accepted = await accepted_of(health(request), request.user.user, ingest_id)
    message = f"what was accepted is never dropped; once it is processed, DELETE /api/v1/data/{accepted.id} deletes it"
    raise ApiError(409, "conflict", message)


ROUTES = [ingests_list, raw, reprocess, quarantined, retry, jobs, statistics, job, cancel]
