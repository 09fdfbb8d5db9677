"""Points that could not be stored, and processing bodies again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, PathParameter
from sqlalchemy import Connection, Row, select

from ....errors import PenstockError
from ....platform.web import cursors
from ....platform.web.answers import documented
from ....platform.web.errors import ApiError
from ....platform.web.paging import Question
from ..acceptance import Accepted
from ..schema import quarantine
from ..service import Health
from . import answers
from .accepted import accepted_of, announce, hand_over
from .ingests import Following, Page
from .queries import Asked, answered, health
from .uploads import failures

log = logging.getLogger("penstock.health")

Number = Annotated[int, PathParameter(ge=1, le=2**53)]


class QuarantinedPoint(msgspec.Struct, kw_only=True):
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


_REPROCESSING: dict[str, Any] = {
    "opt": {"scope": "ingest", "limit": "ingest"},
    "status_code": 202,
    "responses": failures(401, 403, 429, 503, _404="There is no such thing of yours.", _400="The id is not one.")
    | {202: ResponseSpec(answers.Answer, generate_examples=False, description="Accepted: ask `status_url`.")},
}


@post(["/api/v1/ingest/{ingest_id:str}/reprocess", "/api/v1/jobs/{ingest_id:str}/retry"], **_REPROCESSING)
async def reprocess(request: Asked, ingest_id: FromPath[str]) -> Response[answers.Answer]:
    """Process a body again, as it was received: what is stored already stays unchanged."""
    return await _reprocess(request, ingest_id)


@get(
    "/api/v1/quarantine",
    **documented(list[QuarantinedPoint], "Points that could not be stored, the newest first."),
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
        return {"data": [_point_of(row) for row in rows], "next_cursor": cursors.written(key, "quarantine", open)}

    return await answered(request, read)


def _point_of(row: Row[Any]) -> QuarantinedPoint:
    try:
        payload = msgspec.json.decode(row.payload)
    except msgspec.DecodeError:
        payload = row.payload
    return QuarantinedPoint(
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


@post("/api/v1/quarantine/{point:int}/retry", **_REPROCESSING)
async def retry(request: Asked, point: Number) -> Response[answers.Answer]:
    """Process the body of a quarantined point again, after an update that can read it."""
    wanted = select(quarantine.c.ingest_id).where(quarantine.c.user_id == request.user.user, quarantine.c.id == point)
    found = await health(request).database.run(lambda connection: connection.execute(wanted).scalar())
    if found is None:
        raise ApiError(404, "not_found", f"there is no quarantined point {point}")
    return await _reprocess(request, found)


async def _reprocess(request: Asked, ingest: str) -> Response[answers.Answer]:
    parts = health(request)
    accepted = await accepted_of(parts, request.user.user, ingest)
    again = await note_attempt(parts, accepted)
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


async def note_attempt(health: Health, accepted: Accepted) -> Accepted:
    """Note that ``accepted`` will be processed once more, and return it as it is to be handed over."""
    again = msgspec.structs.replace(accepted, attempt=accepted.attempt + 1)
    await health.raw.renew(again)
    return again


ROUTES = [reprocess, quarantined, retry]
